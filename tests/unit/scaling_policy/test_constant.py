"""The constant that would have kept the objective: exact about the past, and out of the way when it must be."""

from __future__ import annotations

import numpy as np
import pytest

from nereus.scaling.constant import LEAST_MINUTES, Constant

EVERY = np.arange(1)
DAY = 1440


def lived(minutes: np.ndarray, *, services: int = 1) -> Constant:
    made = Constant(services)
    for load in minutes:
        made.learn(np.arange(services), mean=np.full(services, load), highest=np.full(services, load))
    return made


def limit(constant: Constant, *, spent: float = 0.0) -> float:
    constant.settle(EVERY, violations=np.array([0.01]), spent=np.array([spent]), headroom=np.array([0.25]))
    return float(constant.limit[0])


def test_bursts_are_worth_their_own_height_and_no_more() -> None:
    bursts = np.where(np.arange(2 * DAY) % 200 < 6, 20.0, 0.1)
    assert 20 <= limit(lived(bursts)) <= 22


def test_what_is_rarer_than_the_objective_is_not_insured() -> None:
    loads = np.full(2 * DAY, 10.0)
    loads[DAY : DAY + 2] = 40
    assert 10 <= limit(lived(loads)) <= 12


def test_a_spent_budget_and_a_young_service_have_no_limit() -> None:
    steady = np.full(2 * DAY, 5.0)
    assert np.isfinite(limit(lived(steady)))
    assert limit(lived(steady), spent=0.0095) == np.inf
    assert limit(lived(steady[: int(LEAST_MINUTES) // 2])) == np.inf
    assert limit(Constant(1)) == np.inf


def test_a_load_that_outgrew_its_past_raises_the_limit_within_the_hour() -> None:
    grown = np.concatenate([np.full(2 * DAY, 5.0), np.full(60, 12.0)])
    assert limit(lived(grown)) >= 12


@pytest.mark.parametrize("load", [0.0, 1e-9, 3e5])
def test_loads_off_the_scale_do_not_limit_below_themselves(load: float) -> None:
    assert limit(lived(np.full(int(LEAST_MINUTES) + 2, load))) >= load


def test_unknown_minutes_change_nothing() -> None:
    known = lived(np.full(2 * DAY, 5.0))
    before = known.mass.copy()
    known.learn(EVERY, mean=np.array([np.nan]), highest=np.array([5.0]))
    assert (known.mass == before).all()


def test_services_do_not_mix() -> None:
    made = Constant(2)
    for _ in range(2 * DAY):
        made.learn(np.arange(2), mean=np.array([3.0, 30.0]), highest=np.array([3.0, 30.0]))
    both = {"violations": np.full(2, 0.01), "spent": np.zeros(2), "headroom": np.zeros(2)}
    made.settle(np.arange(2), **both)
    assert made.limit[0] <= 4
    assert made.limit[1] >= 30
