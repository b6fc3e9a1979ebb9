"""How far a forecast is believed: by how much it has seen, and by how often its bounds held."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from nereus.api.decision import ScalingDecision
from nereus.scaling.explain import phase_of
from nereus.scaling.fleet import TRUSTED_COVERAGE
from nereus.scaling.goal import Goal
from nereus.scaling.protocol import Phase
from nereus.scaling.roster import Roster, Seen

START = 1_800_000_000.0 // 86400 * 86400
NAME = ("ns", "a")
GOAL = Goal(min_replicas=1, max_replicas=10, capacity=100.0, horizon=60.0)
QUIET = Seen(ready=10, starting=0, rate=0.01, metrics="Fresh")


class Judged:
    """One service whose forecasts are judged minute by minute."""

    def __init__(self) -> None:
        self.roster = Roster()
        self.minute = 0

    def minutes(self, number: int, rate: float) -> ScalingDecision:
        """So many minutes of one load in inferences per second; the last decision."""
        for _ in range(number):
            for tick in range(4):
                now = START + 60 * self.minute + 15 * tick
                made = self.roster.decide(now, {NAME: (GOAL, replace(QUIET, rate=rate))})[NAME]
            self.minute += 1
        return made

    def beaten(self, minutes: int) -> ScalingDecision:
        """Every fifth minute has more load than was thought possible a minute before; as if somebody knew it."""
        made = self.minutes(1, 0.01)
        for minute in range(1, minutes):
            bound = 100 * (made.forecast_high or 0)
            made = self.minutes(1, max(0.01, 1.05 * bound) if minute % 5 == 0 else 0.01)
        return made


@pytest.mark.parametrize(
    ("age_minutes", "coverage", "phase"),
    [
        (-1, math.nan, Phase.NO_DATA),
        (0, math.nan, Phase.FIRST_HOUR),
        (59, 0.0, Phase.FIRST_HOUR),
        (60, math.nan, Phase.FIRST_DAY),
        (60, TRUSTED_COVERAGE, Phase.FIRST_DAY),
        (1439, 1.0, Phase.FIRST_DAY),
        (1440, 1.0, Phase.TRUSTED),
        (60, TRUSTED_COVERAGE - 0.01, Phase.UNTRUSTED),
        (100_000, TRUSTED_COVERAGE - 0.01, Phase.UNTRUSTED),
    ],
)
def test_a_phase_is_what_was_seen_and_how_often_the_bounds_held(
    age_minutes: int, coverage: float, phase: Phase
) -> None:
    assert phase_of(age_minutes, coverage) is phase


def test_bounds_that_fail_make_the_present_load_decide_until_they_hold_again() -> None:
    judged = Judged()
    first = judged.minutes(1, 0.01)
    assert (first.trusted, first.trust_message.split(":")[0]) == (None, "less than an hour of load is known")
    missed = judged.beaten(70)
    assert missed.trusted is False
    assert "its bounds held only" in missed.trust_message
    assert judged.minutes(1, 640.0).replicas >= 7, "the present load decides"
    held = judged.minutes(120, 50.0)
    assert (held.trusted, held.trust_message.split(":")[0]) == (True, "less than a day of load is known")


def test_after_a_day_that_is_known_the_bounds_hold() -> None:
    judged = Judged()
    judged.minutes(1, 50.0)
    today = round(START / 60)
    past = range(today - 2 * 1440, today)
    judged.roster.learn_past(NAME, past, [50.0] * len(past))
    made = judged.minutes(3, 50.0)
    assert (made.trusted, made.trust_message) == (True, "its bounds hold")


def test_nothing_is_said_about_a_forecast_that_reactive_does_not_make() -> None:
    made = Roster().decide(START, {NAME: (replace(GOAL, reactive=True), QUIET)})[NAME]
    assert (made.trusted, made.trust_message) == (None, "")
