"""More load never gets fewer replicas, also while loads move and the policy learns from what it did."""

from __future__ import annotations

import numpy as np
import pytest

from nereus.scaling.arrays import Floats, Ints
from nereus.scaling.fleet import FleetObservation, FleetPolicy

START = 1_700_000_000.0
TICKS, LAST = 240, 8
AT = np.arange(TICKS)
CHANCE = np.random.default_rng(4)
SHAPES = {
    "a wave": 60 + 40 * np.sin(AT / 25),
    "a climb": 5 + 0.6 * AT,
    "a fall": 5 + 0.6 * AT[::-1],
    "steps": np.where(AT // 30 % 2 == 0, 30.0, 120.0),
    "spikes": np.where(AT % 40 < 4, 150.0, 15.0),
    "a wandering load": np.abs(CHANCE.normal(0, 8, TICKS).cumsum()) + CHANCE.poisson(20, TICKS),
    "a load after nothing": np.where(AT < 160, 0.0, 90.0),
}
"""Requests per second at each tick, of which one replica serves ten."""


def replicas(loads: Floats) -> Ints:
    """What each service (row) gets at each tick when replicas serve one tick after they were asked for."""
    count = len(loads)
    policy = FleetPolicy(count, latency=np.full(count, 0.5), violations=np.full(count, 0.01))
    got = np.ones((count, TICKS + 1), np.int64)
    for tick in range(TICKS):
        seen = FleetObservation(
            time=START + 15 * tick,
            load=loads[:, tick],
            queue=np.zeros(count),
            ready=got[:, tick],
            starting=np.zeros(count, np.int64),
            cold_start=np.full(count, 60.0),
            capacity=np.full(count, 10.0),
            late=np.full(count, np.nan),
        )
        decided = policy.decide(seen, least=np.ones(count, np.int64), most=np.full(count, 500))
        got[:, tick + 1] = decided.replicas
    return got[:, 1:]


@pytest.fixture(scope="module")
def loads() -> Floats:
    return np.stack(list(SHAPES.values()))


@pytest.fixture(scope="module")
def before(loads: Floats) -> Ints:
    return replicas(loads)


def fewer(more: Ints, before: Ints) -> dict[str, list[int]]:
    """The ticks at which more load got fewer replicas."""
    return {name: list(np.flatnonzero(more[row] < before[row])) for row, name in enumerate(SHAPES)}


def test_the_loads_move_the_replicas(before: Ints) -> None:
    assert (before.max(1) >= 2 * before.min(1)).all(), dict(zip(SHAPES, before, strict=True))


def test_a_load_that_is_higher_all_the_time_never_gets_fewer_replicas(loads: Floats, before: Ints) -> None:
    more = replicas(1.4 * loads)
    assert fewer(more, before) == {name: [] for name in SHAPES}
    assert (more.sum(1) > before.sum(1)).all()


def test_a_load_that_has_just_become_higher_never_gets_fewer_replicas(loads: Floats, before: Ints) -> None:
    raised = loads.copy()
    raised[:, -LAST:] *= 1.4
    more = replicas(raised)
    assert (more[:, :-LAST] == before[:, :-LAST]).all(), "the future reached into the past"
    assert fewer(more, before) == {name: [] for name in SHAPES}
