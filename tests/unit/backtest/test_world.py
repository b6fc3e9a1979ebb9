"""The simulated world keeps its promises: what queues, what is late, what costs; and the optimum is one."""

from __future__ import annotations

import numpy as np
import pytest

from nereus.backtest.baselines import BASELINES
from nereus.backtest.baselines.fixed import Static
from nereus.backtest.optimum import optimum
from nereus.backtest.world import TICK_SECONDS, Batch, Ints, Row, World

HOUR = 3600


def row(rates: np.ndarray, *, cold: float = 60, capacity: float = 10, most: int = 50) -> Row:
    return Row(arrivals=rates.astype(np.int32), cold_start_p95=cold, capacity=capacity, max_replicas=most)


class Plan:
    """Wants what a function of time says."""

    def __init__(self, change_at: int, before: int, after: int) -> None:
        self._at, self._before, self._after = change_at, before, after

    def decide(self, batch: Batch) -> Ints:
        return np.full(len(batch.ready), self._before if batch.time < self._at else self._after)


def test_enough_replicas_make_nobody_wait_and_cost_their_time() -> None:
    outcome = World([row(np.full(2 * HOUR, 38))], seed=1).run(Plan(0, 1, 4))
    assert outcome.violations(1)[0] == 0
    assert outcome.replica_seconds(1)[0] == 4 * HOUR


def test_too_few_replicas_make_everybody_late() -> None:
    outcome = World([row(np.full(2 * HOUR, 40))], seed=1).run(Plan(0, 1, 3))
    assert outcome.violations(1)[0] == 1
    assert outcome.worst_hour(1)[0] == 1


def test_a_replica_costs_from_creation_and_serves_after_its_cold_start() -> None:
    rates = np.concatenate([np.full(HOUR, 5), np.full(HOUR, 15)])
    early = World([row(rates, cold=300)], seed=1).run(Plan(HOUR - 600, 1, 2))
    late = World([row(rates, cold=300)], seed=1).run(Plan(HOUR, 1, 2))
    assert early.late_by_hour.sum() == 0
    assert late.late_by_hour.sum() > 15 * 100
    assert early.replica_seconds(0)[0] - late.replica_seconds(0)[0] == 600


def test_a_replica_ended_before_it_serves_is_paid_for_and_serves_nothing() -> None:
    class Flap:
        def decide(self, batch: Batch) -> Ints:
            return np.array([2 if batch.time % 60 < 30 else 1])

    outcome = World([row(np.full(HOUR, 15), cold=300)], seed=1).run(Flap())
    assert outcome.replica_seconds(0)[0] == 1.5 * HOUR
    assert outcome.violations(0)[0] == pytest.approx(1, abs=0.01)


def test_rates_are_seen_one_scrape_late() -> None:
    seen = []

    class Watch:
        def decide(self, batch: Batch) -> Ints:
            seen.append(float(batch.load[0]))
            return np.array([1])

    World([row(np.repeat([1, 2, 3, 4], TICK_SECONDS))], seed=1).run(Watch())
    assert np.isnan(seen[:2]).all()
    assert seen[2:] == [1, 2]


def test_rows_side_by_side_are_what_each_is_alone() -> None:
    rng = np.random.default_rng(2)
    rates = rng.poisson(30 + 20 * np.sin(np.arange(6 * HOUR) / 2000))
    keda = next(b for b in BASELINES if b.name == "keda")
    both = World([row(rates), row(rates)], seed=4).run(keda.make(np.array([0.5, 0.8])))
    for index, target in enumerate((0.5, 0.8)):
        alone = World([row(rates)], seed=4).run(keda.make(np.array([target])))
        assert alone.late_by_hour[0] == pytest.approx(both.late_by_hour[index])
        assert alone.replica_seconds_by_hour[0] == pytest.approx(both.replica_seconds_by_hour[index])


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda b: b.name)
def test_each_baseline_follows_a_slow_load_at_its_usual_setting(baseline: object) -> None:
    rng = np.random.default_rng(5)
    rates = rng.poisson(60 + 40 * np.sin(np.arange(12 * HOUR) / 5000))
    made = baseline.make(np.array([0.7]))  # type: ignore[attr-defined]
    outcome = World([row(rates)], seed=1).run(made)
    assert outcome.violations(1)[0] < 0.02
    assert outcome.replica_seconds(1)[0] < 1.9 * rates[HOUR:].sum() / 10


def test_no_policy_that_keeps_the_objective_is_cheaper_than_the_optimum() -> None:
    rng = np.random.default_rng(6)
    rates = rng.poisson(np.where(np.arange(10 * HOUR) // 1800 % 4 == 3, 90, 20))
    best = optimum(rates.astype(np.int32), capacity=10, cold_start_p95=120, violations=0.01, max_replicas=50)
    for baseline in BASELINES:
        outcome = World([row(rates, cold=120)] * len(baseline.settings), seed=1).run(
            baseline.make(np.array(baseline.settings))
        )
        kept = outcome.violations(0) <= 0.01
        assert (outcome.replica_seconds(0)[kept] >= best).all()
    enough = World([row(rates, cold=120)], seed=1).run(Static(np.array([12])))
    assert best < 0.7 * enough.replica_seconds(0)[0]


def test_the_optimum_of_a_constant_load_is_that_load() -> None:
    best = optimum(np.full(2 * HOUR, 40, np.int32), capacity=10, cold_start_p95=60, violations=1e-6, max_replicas=50)
    assert best == pytest.approx(4 * 2 * HOUR, rel=0.03)


def test_a_larger_budget_makes_the_optimum_cheaper() -> None:
    rng = np.random.default_rng(7)
    rates = rng.poisson(np.where(np.arange(6 * HOUR) % HOUR < 120, 150, 20)).astype(np.int32)
    costs = [
        optimum(rates, capacity=10, cold_start_p95=120, violations=allowed, max_replicas=50)
        for allowed in (0.001, 0.01, 0.1)
    ]
    assert costs[0] > costs[1] > costs[2]
