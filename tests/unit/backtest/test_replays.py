"""The benchmark's replays: policies side by side are what each is alone, results are found again by their inputs, and
the second simulator keeps its promises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import loads, replays, requests
from nereus.backtest.baselines import BASELINES
from nereus.backtest.world import Floats, Row, World

HOUR = 3600


def group(seed: int = 3) -> loads.Group:
    rates = np.random.default_rng(seed).poisson(30 + 20 * np.sin(np.arange(3 * HOUR) / 1000)).astype(np.int32)
    cold_starts = (60.0, 300.0)
    return loads.Group(
        name="two",
        warm_up_hours=1,
        scenarios=tuple(loads.Scenario(load="made", cold_start=cold, peak=5) for cold in cold_starts),
        rows=tuple(Row(arrivals=rates, cold_start_p95=cold, capacity=10, max_replicas=10) for cold in cold_starts),
    )


def test_policies_side_by_side_are_what_each_is_alone(tmp_path: Path) -> None:
    two = group()
    together = replays.baselines(two, tmp_path)
    for baseline in BASELINES:
        for index, row in enumerate(two.rows):
            alone = World([row], seed=two.seed).run(baseline.make(np.array([baseline.usual])))
            setting = baseline.settings.index(baseline.usual)
            assert alone.replica_seconds_by_hour[0].tolist() == together[baseline.name].cost[setting, index].tolist()


def test_what_was_replayed_is_found_again_and_other_inputs_are_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = group()
    first = replays.ours(two, tmp_path, blind=False)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("replayed again")

    monkeypatch.setattr(World, "run", refuse)
    assert (replays.ours(two, tmp_path, blind=False).cost == first.cost).all()
    for other in (group(seed=4), replace(two, seed=9), replace(two, warm_up_hours=2)):
        with pytest.raises(AssertionError, match="replayed again"):
            replays.ours(other, tmp_path, blind=False)
    with pytest.raises(AssertionError, match="replayed again"):
        replays.ours(two, tmp_path, blind=True)
    monkeypatch.setattr(replays, "code", lambda *_: b"changed")
    with pytest.raises(AssertionError, match="replayed again"):
        replays.ours(two, tmp_path, blind=False)


def lived(rates: Floats, *, replicas: int) -> tuple[int, int, int, requests.Service]:
    service = requests.Service(rates, cold_start=60, seed=5)
    arrived = late = done = 0
    for tick in range(len(rates) // int(requests.TICK)):
        service.scale(tick * requests.TICK, replicas)
        service.live(tick * requests.TICK)
        arrived, late, done = arrived + service.arrived, late + service.late, done + service.done
    return arrived, late, done, service


def test_the_second_simulator_serves_what_comes_when_there_is_room() -> None:
    arrived, late, done, service = lived(np.full(HOUR, 30.0), replicas=4)
    assert arrived == done + service.waiting
    # Three replicas start within two minutes; after that nearly nobody waits.
    assert late < 0.1 * done
    assert service.ready == 4


def test_the_second_simulator_makes_an_overload_late_and_gives_up_on_it() -> None:
    arrived, late, done, service = lived(np.full(HOUR, 30.0), replicas=2)
    assert late > 0.9 * done
    assert arrived == done + service.waiting
    assert service.waiting < 35 * 30


def test_the_second_simulator_ends_what_still_starts_first() -> None:
    service = requests.Service(np.zeros(60), cold_start=60, seed=5)
    service.scale(0, 5)
    service.scale(0, 2)
    assert (service.ready, service.replicas) == (1, 2)
    service.scale(0, 1)
    assert service.ready == 1
