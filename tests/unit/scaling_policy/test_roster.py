"""Services of a cluster in one fleet: who comes and goes changes nothing for the others, and bad data takes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from nereus.api.decision import ScalingDecision
from nereus.scaling import clock, columns
from nereus.scaling.goal import Goal
from nereus.scaling.guard import GIVE_UP_SECONDS, PAUSE_SECONDS, Guard
from nereus.scaling.protocol import Schedule
from nereus.scaling.roster import FAULT_SECONDS, FEWEST_COLUMNS, Roster, Seen

TICK = 15.0
START = 1_800_000_000.0 // 86400 * 86400
GOAL = Goal(min_replicas=1, max_replicas=10, capacity=100.0, horizon=60.0)
GOOD = Seen(ready=1, starting=0, rate=50.0, metrics="Fresh")
Name = tuple[str, str]


class Cluster:
    """A roster and pods that follow its decisions at once."""

    def __init__(self) -> None:
        self.roster = Roster()
        self.now = START
        self.pods: dict[Name, int] = {}

    def run(self, minutes: float, services: Mapping[Name, tuple[Goal, Seen]]) -> dict[Name, ScalingDecision]:
        """The decisions at the end; `ready` follows the last decision."""
        made: dict[Name, ScalingDecision] = {}
        for _ in range(round(minutes * 60 / TICK)):
            shown = {
                name: (goal, replace(seen, ready=self.pods.get(name, seen.ready)))
                for name, (goal, seen) in services.items()
            }
            made = self.roster.decide(self.now, shown)
            self.pods = {name: decision.replicas for name, decision in made.items()}
            self.now += TICK
        return made


def one(seen: Seen, goal: Goal = GOAL) -> dict[Name, tuple[Goal, Seen]]:
    return {("ns", "a"): (goal, seen)}


def test_a_load_above_what_is_there_raises_and_a_low_load_lowers_within_ten_minutes() -> None:
    cluster = Cluster()
    cluster.run(10, one(GOOD))
    high = cluster.run(3, one(replace(GOOD, rate=450.0)))["ns", "a"].replicas
    assert high >= 5
    assert cluster.run(10, one(replace(GOOD, rate=40.0)))["ns", "a"].replicas < high


@pytest.mark.parametrize(
    "fault",
    [
        replace(GOOD, rate=None, metrics="Unreachable", fault=True, may_lower=False, message="Prometheus is down"),
        replace(GOOD, rate=0.0, metrics="Partial", fault=True, may_lower=False),
        replace(GOOD, rate=math.nan, metrics="Invalid", fault=True, may_lower=False),
    ],
)
def test_bad_data_takes_nothing_away_and_good_data_lowers_again(fault: Seen) -> None:
    cluster = Cluster()
    cluster.run(5, one(GOOD))
    high = cluster.run(5, one(replace(GOOD, rate=450.0)))["ns", "a"].replicas
    held = cluster.run(20, one(fault))["ns", "a"]
    assert held.replicas >= high
    assert (held.known, held.metrics_ok, held.limited_by) == (False, False, "UnknownLoad")
    assert cluster.run(10, one(replace(GOOD, rate=40.0)))["ns", "a"].replicas < high


def test_a_load_that_may_be_too_low_still_raises() -> None:
    cluster = Cluster()
    cluster.run(5, one(GOOD))
    assert cluster.run(2, one(replace(GOOD, rate=700.0, may_lower=False, fault=True)))["ns", "a"].replicas >= 7


HOUR, DAY = 3600.0, 86_400.0


@pytest.mark.parametrize("reactive", [False, True])
@pytest.mark.parametrize("steps", [(-HOUR,), (-DAY,), (HOUR,), (DAY,), (HOUR, -HOUR), (DAY, -DAY), (-DAY, DAY)])
def test_a_clock_that_is_set_takes_nothing_at_once_and_lowers_within_ten_minutes(
    steps: tuple[float, ...], reactive: bool
) -> None:
    cluster, goal = Cluster(), replace(GOAL, reactive=reactive)
    high = cluster.run(20, one(replace(GOOD, rate=900.0), goal))["ns", "a"].replicas
    low = one(replace(GOOD, rate=40.0), goal)
    for step in steps:
        cluster.now += step
        assert cluster.run(2, low)["ns", "a"].replicas == high == 10
    assert cluster.roster.beginnings == len(steps)
    assert cluster.run(8, low)["ns", "a"].replicas <= 4


def test_a_clock_that_is_set_back_still_raises() -> None:
    cluster = Cluster()
    cluster.run(20, one(GOOD))
    cluster.now -= DAY
    assert cluster.run(1, one(replace(GOOD, rate=900.0)))["ns", "a"].replicas >= 9


@pytest.mark.parametrize("back", [1.0, TICK, clock.BACK_SECONDS])
def test_a_clock_that_is_set_back_by_little_costs_nothing_that_was_learned_and_raises_meanwhile(back: float) -> None:
    cluster = Cluster()
    cluster.run(20, one(GOOD))
    cluster.now -= TICK + back
    decision = cluster.run(0.25, one(replace(GOOD, rate=900.0)))["ns", "a"]
    assert (decision.replicas >= 9, decision.at <= START + 20 * 60, cluster.roster.beginnings) == (True, True, 0)
    high = cluster.run(3, one(replace(GOOD, rate=900.0)))["ns", "a"].replicas
    assert cluster.run(10, one(replace(GOOD, rate=40.0)))["ns", "a"].replicas < high


def test_pods_that_find_no_node_are_given_up_and_tried_again_also_when_the_clock_is_set_back() -> None:
    cluster = Cluster()
    stuck = replace(GOOD, rate=900.0, unplaced=3, starting=3)
    cluster.run(GIVE_UP_SECONDS / 60 + 1, one(stuck))
    assert cluster.run(1, one(stuck))["ns", "a"].limited_by == "PendingReplicas"
    cluster.now -= DAY
    assert cluster.run(3, one(replace(GOOD, rate=900.0)))["ns", "a"].replicas >= 9


def test_a_fault_of_the_metrics_stays_told_when_the_clock_is_set() -> None:
    cluster, bad = Cluster(), replace(GOOD, rate=None, fault=True, may_lower=False, metrics="Unreachable")
    cluster.run(2, one(GOOD))
    assert cluster.run(2, one(bad))["ns", "a"].metrics_ok is False
    cluster.now -= HOUR
    assert cluster.run(0.25, one(bad))["ns", "a"].metrics_ok is False


def test_a_short_fault_of_the_metrics_is_not_told() -> None:
    cluster = Cluster()
    cluster.run(1, one(GOOD))
    bad = replace(GOOD, rate=None, fault=True, may_lower=False, metrics="Slow")
    assert cluster.run(FAULT_SECONDS / 60, one(bad))["ns", "a"].metrics_ok is True
    assert cluster.run(0.5, one(bad))["ns", "a"].metrics_ok is False


def test_services_that_come_and_go_change_nothing_for_the_others() -> None:
    alone, crowd = Cluster(), Cluster()
    rng = np.random.default_rng(5)
    for step in range(40):
        rate = float(200 + 150 * np.sin(step / 5))
        others = {
            ("ns", f"other-{number}"): (GOAL, replace(GOOD, rate=float(rng.uniform(0, 900))))
            for number in range(int(rng.integers(0, 3 * FEWEST_COLUMNS)))
        }
        left = alone.run(1, one(replace(GOOD, rate=rate)))["ns", "a"]
        right = crowd.run(1, {**one(replace(GOOD, rate=rate)), **others})["ns", "a"]
        assert (left.replicas, left.load, left.forecast_high) == (right.replicas, right.load, right.forecast_high)


def test_a_service_that_was_made_again_starts_without_the_past_of_its_namesake() -> None:
    cluster = Cluster()
    cluster.run(20, one(replace(GOOD, rate=900.0)))
    cluster.run(0.25, {})
    cluster.pods = {}
    assert cluster.run(0.25, one(GOOD))["ns", "a"].replicas == 1


def test_every_array_of_the_policy_is_moved_with_its_service() -> None:
    moved = columns._axes()
    kept = {path for path, _ in columns._arrays(columns.blank(1))} - set(moved)
    assert len(moved) > 40
    # What all services share.
    assert all("prior" in path or "edges" in path for path in kept), kept


def test_a_schedule_narrows_the_bounds_in_its_own_zone() -> None:
    night = Schedule(start_minute=22 * 60, end_minute=6 * 60, max_replicas=2)
    goal = replace(GOAL, schedules=(("Asia/Tokyo", night),))
    assert goal.bounds(datetime(2026, 5, 4, 14, 0, tzinfo=UTC)) == (1, 2)  # 23:00 in Tokyo
    assert goal.bounds(datetime(2026, 5, 4, 22, 0, tzinfo=UTC)) == (1, 10)  # 07:00 in Tokyo


@pytest.mark.parametrize("reactive", [False, True])
def test_what_a_limit_of_gpus_takes_away_is_told_as_such(reactive: bool) -> None:
    goal = replace(GOAL, max_replicas=3, gpu_limited=True, reactive=reactive)
    held = Cluster().run(3, one(replace(GOOD, rate=900.0), goal))["ns", "a"]
    assert (held.replicas, held.limited_by) == (3, "GPULimit")
    assert "limited to 3 by scaling.limits.gpus" in held.message
    # Below the limit, and where a schedule allows even less, it is not what limits.
    assert Cluster().run(3, one(replace(GOOD, rate=10.0), goal))["ns", "a"].limited_by != "GPULimit"
    always = Schedule(start_minute=0, end_minute=0, max_replicas=2)
    tighter = replace(goal, schedules=(("UTC", always),))
    held = Cluster().run(3, one(replace(GOOD, rate=900.0), tighter))["ns", "a"]
    assert (held.replicas, held.limited_by) == (2, "Schedule")


def test_reactive_follows_the_load_and_lowers_after_five_minutes() -> None:
    cluster = Cluster()
    goal = replace(GOAL, reactive=True)
    assert cluster.run(1, one(replace(GOOD, rate=400.0), goal))["ns", "a"].replicas == 5
    held = cluster.run(4, one(replace(GOOD, rate=40.0), goal))["ns", "a"]
    assert (held.replicas, held.forecast, held.trusted) == (5, None, None)
    assert cluster.run(2, one(replace(GOOD, rate=40.0), goal))["ns", "a"].replicas == 1


def test_no_more_pods_are_asked_for_while_some_find_no_node_and_after_a_while_they_are_given_up() -> None:
    guard = Guard()
    assert guard.allowed(0, 8, ready=2, starting=3, unplaced=3) == 5
    assert "3 of 5 pods find no node" in guard.reason
    assert guard.allowed(GIVE_UP_SECONDS, 8, ready=2, starting=3, unplaced=3) == 2
    assert "given up" in guard.reason
    assert guard.allowed(GIVE_UP_SECONDS + 60, 8, ready=2, starting=0, unplaced=0) == 2
    assert guard.allowed(GIVE_UP_SECONDS + 60, 1, ready=2, starting=0, unplaced=0) == 1
    assert guard.allowed(GIVE_UP_SECONDS + PAUSE_SECONDS, 8, ready=2, starting=0, unplaced=0) == 8
    assert guard.reason == ""


def test_a_service_that_never_got_data_keeps_what_it_has() -> None:
    cluster = Cluster()
    decision = cluster.run(30, one(Seen(ready=4, starting=0, metrics="NotConfigured", fault=True, may_lower=False)))
    assert decision["ns", "a"].replicas == 4
    assert not decision["ns", "a"].known


def daily(cluster: Cluster) -> tuple[list[int], list[float]]:
    """The past of a service that is busy from nine to ten every day, at 350 inferences per second, and idle else."""
    now = round(cluster.now / 60)
    minutes = list(range(now - 10 * 1440, now))
    return minutes, [350.0 if 540 <= minute % 1440 < 600 else 0.0 for minute in minutes]


def at_half_past_eight() -> Cluster:
    cluster = Cluster()
    cluster.now = START + 8.5 * 3600
    return cluster


def test_a_past_that_was_read_is_believed_as_one_that_was_lived_through() -> None:
    """An operator that was restarted in the night still has the pods of the morning there in time."""
    cluster, idle = at_half_past_eight(), one(replace(GOOD, rate=0.0))
    cluster.run(1, idle)
    cluster.roster.learn_past(("ns", "a"), *daily(cluster))
    assert cluster.run(19, idle)["ns", "a"].replicas == 1
    assert cluster.run(9, idle)["ns", "a"].replicas >= 4


def test_a_past_says_nothing_in_replicas_before_the_capacity_is_known() -> None:
    """The status that told it is gone when a service was deleted and made again; its past in Prometheus is not."""
    unknown, idle = replace(GOAL, capacity=None), replace(GOOD, rate=0.0)
    told, asked = at_half_past_eight(), at_half_past_eight()
    shown = {}
    for cluster, goal in ((told, GOAL), (asked, unknown)):
        cluster.run(1, one(idle, goal))
        cluster.roster.learn_past(("ns", "a"), *daily(cluster))
        shown[id(cluster)] = cluster.run(28.5, one(idle, goal))["ns", "a"]
    assert shown[id(told)].replicas >= 4
    assert shown[id(asked)].replicas == 1
    assert shown[id(asked)].forecast_high == pytest.approx(0.0, abs=0.2)
    busy = replace(GOOD, rate=350.0, capacity=100.0)
    known, learned = told.run(15, one(busy))["ns", "a"], asked.run(15, one(busy, unknown))["ns", "a"]
    assert known.forecast_high is not None
    assert learned.forecast_high == pytest.approx(known.forecast_high, rel=0.25)
