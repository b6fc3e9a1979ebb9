"""An operator that was restarted decides as one that never was, once it has lived through the past that it read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest

from nereus.api.decision import ScalingDecision
from nereus.scaling.goal import Goal
from nereus.scaling.roster import FEWEST_COLUMNS, Name, Roster, Seen

LIVED = 8 * 60
"""Minutes; a third of what the operator takes, so that tests are quick. The load repeats by the hour."""
RESTART = 1_800_000_000 // 86_400 * 1440 + 9 * 60 + 20
"""The minute since the epoch in which the operator starts again."""
GOAL = Goal(min_replicas=1, max_replicas=40, capacity=10.0, horizon=120.0)
A, B = ("ns", "a"), ("ns", "b")
Load = Callable[[int], float]


def hourly(minute: int) -> float:
    """Inferences per second: ten minutes of a crowd after each full hour, and noise."""
    level = 130.0 if minute % 60 < 10 else 40.0
    return float(level * (1 + 0.08 * np.sin(minute * 12.9898) * np.cos(minute * 78.233)))


class Operator:
    """A roster with a look at each minute, and pods that follow its decisions two minutes later."""

    def __init__(self, loads: dict[Name, Load], *, minute: int = RESTART, ready: int = 8) -> None:
        self.roster = Roster(lived_minutes=LIVED)
        self.loads, self.goal, self.minute = dict(loads), GOAL, minute
        self.pods = {name: [ready] * 3 for name in loads}
        self.late: float | None = 0.0
        self.blind = False

    def seen(self, name: Name) -> Seen:
        told = self.pods.setdefault(name, [1] * 3)
        serving = min(told)
        pods = Seen(ready=serving, starting=told[-1] - serving, cold_start=120.0, queue=0.0, late=self.late)
        if self.blind:
            return replace(pods, may_lower=False, fault=True)
        return replace(pods, rate=self.loads[name](self.minute))

    def look(self) -> dict[Name, ScalingDecision]:
        made = self.roster.decide(self.minute * 60.0, {name: (self.goal, self.seen(name)) for name in self.loads})
        for name, decision in made.items():
            self.pods[name] = [*self.pods[name][1:], decision.replicas]
        self.minute += 1
        return made

    def run(self, minutes: int, name: Name = A) -> list[ScalingDecision]:
        return [self.look()[name] for _ in range(minutes)]

    def read_past(self, *, minutes: int = 10 * 60, unknown: Iterable[int] = ()) -> None:
        """What the scaler gives of Prometheus; `unknown` are minutes ago."""
        missing = {self.minute - ago for ago in unknown}
        past = [minute for minute in range(self.minute - minutes, self.minute) if minute not in missing]
        for name, load in self.loads.items():
            self.roster.learn_past(name, past, [load(minute) for minute in past])
        self.roster.past_complete(list(self.loads))

    def live_through(self) -> int:
        """Until there is nothing left to do; how many pieces it took."""
        pieces = 0
        while self.roster.gain_experience():
            pieces += 1
        return pieces


def replicas(made: list[ScalingDecision]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([decision.replicas for decision in made], float)


def restarted(*, unknown: Iterable[int] = (), late: float = 0.0, ready: int = 8) -> Operator:
    """An operator five minutes after its start, with its past read and not lived through."""
    operator = Operator({A: hourly}, ready=ready)
    operator.late = late
    operator.run(5)
    operator.late = 0.0
    operator.read_past(unknown=unknown)
    return operator


@pytest.fixture(scope="module")
def never() -> list[ScalingDecision]:
    """What an operator decided that ran all the time, without a look at lateness, which no past has."""
    operator = Operator({A: hourly}, minute=RESTART - 10 * 60)
    operator.late = None
    operator.run(10 * 60 + 5)
    return operator.run(120)


def apart(made: list[ScalingDecision], others: list[ScalingDecision]) -> float:
    return float(np.abs(replicas(made) - replicas(others)).sum() / replicas(others).sum())


def test_after_a_restart_it_decides_as_if_there_had_been_none(never: list[ScalingDecision]) -> None:
    """The crowd comes at ten, 35 minutes on: who only remembers loads asks for its pods when it is there, for more."""
    remembers, lived = restarted(), restarted()
    assert lived.live_through() >= LIVED
    with_experience, without = lived.run(70), remembers.run(70)
    before_ten = [made[33].replicas for made in (never, with_experience, without)]
    assert before_ten[0] >= 13
    assert before_ten[1] >= 13
    assert before_ten[2] < 13, before_ten
    most = [replicas(made).max() for made in (never, with_experience, without)]
    assert most[1] <= most[0] + 1 < most[2], most
    assert apart(with_experience[30:70], never[30:70]) < 0.8 * apart(without[30:70], never[30:70])


def test_gaps_in_the_past_are_unknown_and_not_zero(never: list[ScalingDecision]) -> None:
    operator = restarted(unknown=[*range(30, 75), *range(165, 190), 111, 113])
    operator.live_through()
    assert apart(operator.run(70)[30:], never[30:70]) < 0.2


def test_a_load_that_was_high_when_it_could_be_seen_again_makes_no_pod_dearer() -> None:
    """Nobody could have had pods for it."""

    def after_the_gap(minute: int) -> float:
        return hourly(30) if not 90 <= RESTART + 5 - minute < 100 else 150.0

    operator = Operator({A: after_the_gap})
    operator.run(5)
    operator.read_past(unknown=range(100, 130))
    operator.live_through()
    assert replicas(operator.run(40)[25:]).max() <= 7


def test_a_late_start_is_no_reason_to_insure_once_a_good_past_is_known() -> None:
    """One pod at the start, and all requests of the first minutes late: the highest load ever is fourteen pods'."""
    lived, young = restarted(late=1.0, ready=1), Operator({A: hourly}, ready=1)
    young.late = 1.0
    young.run(5)
    young.late = 0.0
    lived.live_through()
    after, as_ever = lived.run(70)[30:], young.run(70)[30:]
    assert replicas(after).max() <= 17 < replicas(as_ever).max()
    assert max(decision.forecast_high or 0 for decision in after) <= 17


def test_what_is_there_goes_little_by_little_when_experience_says_so() -> None:
    operator = restarted(ready=38)
    operator.live_through()
    made = replicas(operator.run(31))  # until the crowd comes
    falls = made[:-1] - made[1:]
    assert made[-1] <= 6
    assert (falls <= np.maximum(2, np.ceil(0.14 * made[:-1]))).all(), made  # within a minute


def test_nothing_is_taken_away_while_the_load_is_unknown() -> None:
    operator = restarted(ready=30)
    before = operator.pods[A][-1]
    operator.blind = True
    operator.run(2)
    operator.live_through()
    assert replicas(operator.run(20)).min() >= before


def test_bounds_hold_at_the_moment_of_the_move() -> None:
    operator = restarted()
    operator.goal = replace(GOAL, min_replicas=3, max_replicas=5)
    operator.run(1)
    operator.live_through()
    made = replicas(operator.run(70))
    assert 3 <= min(made) <= max(made) <= 5


def test_a_past_waits_until_the_capacity_is_known() -> None:
    operator = Operator({A: hourly})
    operator.goal = replace(GOAL, capacity=None)
    operator.run(3)
    operator.read_past()
    assert operator.live_through() == 0
    operator.goal = GOAL
    operator.run(2)
    assert operator.live_through() >= LIVED


def test_a_past_shorter_than_an_hour_teaches_nothing() -> None:
    operator = Operator({A: hourly})
    operator.run(3)
    operator.read_past(minutes=40)
    assert operator.live_through() == 0


def test_a_capacity_that_becomes_another_one_meanwhile_is_lived_through_again() -> None:
    operator = restarted()
    for _ in range(LIVED - 20):
        assert operator.roster.gain_experience()
    operator.goal = replace(GOAL, capacity=40.0)
    operator.run(2)
    assert operator.live_through() >= LIVED
    # Thirteen pods' load of before is little more than three now.
    assert replicas(operator.run(120)[-60:]).max() <= 7


def test_a_service_that_was_deleted_and_made_again_meanwhile_is_given_nothing() -> None:
    operator, twin = restarted(), restarted()
    for _ in range(LIVED // 2):
        operator.roster.gain_experience()
    for each in (operator, twin):
        each.loads = {B: hourly}
        each.look()
        each.loads, each.pods = {A: hourly}, {A: [8] * 3}
        each.look()
    assert operator.live_through() <= 1
    assert replicas(operator.run(40)).tolist() == replicas(twin.run(40)).tolist()


def test_the_operator_ticks_and_other_services_come_meanwhile(never: list[ScalingDecision]) -> None:
    """Far more of them than there were columns; those who only watch are decided for as ever."""
    operator, twin = restarted(), restarted()
    for _ in range(LIVED - 3):
        operator.roster.gain_experience()
    for each in (operator, twin):
        each.loads |= {B: hourly} | {("ns", f"new-{k}"): lambda _: 5.0 for k in range(2 * FEWEST_COLUMNS)}
        each.pods[B] = [8] * 3
    beside = [operator.look() for _ in range(2)]
    # It catches up with the minutes that passed meanwhile, too.
    assert operator.live_through() >= 4
    beside += [operator.look() for _ in range(68)]
    assert apart([made[A] for made in beside[30:]], never[30:70]) < 0.2
    assert [made[B].replicas for made in beside] == [decision.replicas for decision in twin.run(70, B)]
