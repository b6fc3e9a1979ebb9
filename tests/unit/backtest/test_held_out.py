"""The one default on loads that nothing was tuned on: other draws, other hours, and holes in what is measured.

The shipped traces begin at another day and minute than in the benchmark, arrivals and cold starts are drawn anew, and
a twin of each service loses a tenth of its scrapes, an hour of measurements, and its lateness. A day is scored after
half a day of life and four days of history; nothing but simulated time is in the bounds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench import loads
from nereus.backtest.baselines.hpa import Hpa
from nereus.backtest.ours import Nereus
from nereus.backtest.world import Batch, Ints, Outcome, Row, World, draw_arrivals

DAY = 86_400
NAMES = ("azure-llm-conv", "fn-2aec780b", "fn-9c61f960", "fn-d2138e08")
AT_MOST_OF_HPA = np.array([0.93, 0.93, 1.1, 1.0])
"""Cost against an HPA at 70 %, which misses the objective on the last load and nearly on the one before."""
PAST_DAYS, LIVED_HOURS, SCORED_HOURS = 4, 12, 24
BEGIN_SECONDS = int(4.4 * DAY) + 17 * 60
SEEDS = {"draws": 90_017, "world": 90_031, "holes": 90_053}
COLD_START, CAPACITY, PEAK = 150.0, 10.0, 16
HOLE_SECONDS = (20 * 3600, 21 * 3600)
"""An hour within the scored day in which nothing is measured."""


class WithHoles:
    """Nereus, whose second half of services is badly measured."""

    def __init__(self, policy: Nereus, services: int) -> None:
        self._policy = policy
        self._holed = np.arange(services) >= services // 2
        self._chance = np.random.default_rng(SEEDS["holes"])
        self.fewest_in_the_hole: Ints | None = None
        self.before_the_hole: Ints | None = None

    def decide(self, batch: Batch) -> Ints:
        second = batch.time - BEGIN_SECONDS
        inside = HOLE_SECONDS[0] <= second < HOLE_SECONDS[1]
        lost = self._holed & (inside | (self._chance.random(len(batch.load)) < 0.1))
        load, late = np.where(lost, np.nan, batch.load), np.where(self._holed, np.nan, batch.late)
        wanted = self._policy.decide(replace(batch, load=load, late=late, queue=np.where(lost, np.nan, batch.queue)))
        if inside:
            fewest = wanted if self.fewest_in_the_hole is None else self.fewest_in_the_hole
            self.fewest_in_the_hole = np.minimum(fewest, wanted)
        elif second < HOLE_SECONDS[0]:
            self.before_the_hole = batch.ready + batch.starting
        return wanted


@pytest.fixture(scope="module")
def replays() -> tuple[Outcome, Outcome, WithHoles]:
    """Nereus and an HPA at 70 % on the same draws; rows are the services, then the same services badly measured."""
    seconds = (LIVED_HOURS + SCORED_HOURS) * 3600
    rates = []
    for name in NAMES:
        load = loads.trace(name, days=14)
        rates.append(load.scaled(PEAK * CAPACITY / load.peak()).per_second())
    rows = []
    for index, rate in enumerate(rates):
        arrivals = draw_arrivals(rate[BEGIN_SECONDS : BEGIN_SECONDS + seconds], seed=SEEDS["draws"] + index)
        rows.append(Row(arrivals=arrivals, cold_start_p95=COLD_START, capacity=CAPACITY, max_replicas=3 * PEAK))
    rows *= 2
    policy = Nereus(rows=len(rows), max_replicas=np.full(len(rows), 3 * PEAK))
    minutes = np.arange(BEGIN_SECONDS // 60 - PAST_DAYS * 1440, BEGIN_SECONDS // 60)
    for service in range(len(rows)):
        by_minute = rates[service % len(NAMES)][: BEGIN_SECONDS // 60 * 60].reshape(-1, 60).mean(1)
        policy.fleet.learn_past(service, minutes, by_minute[minutes])
    holed = WithHoles(policy, len(rows))
    ours = World(rows, seed=SEEDS["world"]).run(holed, start_time=BEGIN_SECONDS)
    hpa = World(rows, seed=SEEDS["world"]).run(Hpa(np.full(len(rows), 0.7)), start_time=BEGIN_SECONDS)
    return ours, hpa, holed


def test_the_objective_holds_on_other_draws_and_hours(replays: tuple[Outcome, Outcome, WithHoles]) -> None:
    late = replays[0].violations(LIVED_HOURS)[: len(NAMES)]
    assert (late <= 0.01).all(), dict(zip(NAMES, late, strict=True))


def test_it_costs_less_than_an_hpa_at_seventy_percent_where_loads_allow_it(
    replays: tuple[Outcome, Outcome, WithHoles],
) -> None:
    ours, hpa, _ = replays
    ratio = (ours.replica_seconds(LIVED_HOURS) / hpa.replica_seconds(LIVED_HOURS))[: len(NAMES)]
    assert (ratio <= AT_MOST_OF_HPA).all(), dict(zip(NAMES, ratio, strict=True))


def test_holes_in_what_is_measured_cost_replicas_not_the_objective(
    replays: tuple[Outcome, Outcome, WithHoles],
) -> None:
    ours, _, holed = replays
    late = ours.violations(LIVED_HOURS)[len(NAMES) :]
    assert (late <= 0.015).all(), dict(zip(NAMES, late, strict=True))
    cost = ours.replica_seconds(LIVED_HOURS)
    more = cost[len(NAMES) :] / cost[: len(NAMES)]
    assert (more <= 1.5).all(), dict(zip(NAMES, more, strict=True))
    assert holed.fewest_in_the_hole is not None
    assert holed.before_the_hole is not None
    held = holed.fewest_in_the_hole >= holed.before_the_hole
    assert held[len(NAMES) :].all(), "an hour without measurements took replicas away"
