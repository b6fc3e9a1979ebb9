"""Seasons follow the clock on the wall, also over the nights on which clocks are changed."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from nereus.scaling.policy import PredictivePolicy, offsets
from nereus.scaling.protocol import History, Limits, Observation

BERLIN = ZoneInfo("Europe/Berlin")
DAYS = 6
BUSY = (9, 11)
"""Hours of the wall clock during which ten replicas are needed instead of less than one."""


def loads_until(now: datetime) -> History:
    """The days before `now`, busy between the same hours of every local day; of each day only the morning was measured,
    which is all that matters here and is quick to learn."""
    start = now.timestamp() - DAYS * 86_400
    times = [start + 60.0 * minute for minute in range(DAYS * 1440)]
    clocks = [datetime.fromtimestamp(time, BERLIN) for time in times]
    loads = [(100.0 if BUSY[0] <= c.hour < BUSY[1] else 5.0) if 7 <= c.hour < BUSY[1] else None for c in clocks]
    return History(times=times, loads=loads, capacity=10, cold_start=180)


def replicas_at(now: datetime, zone: str) -> int:
    """What is wanted at a quiet moment, with the past of the days before."""
    made = PredictivePolicy(Limits(max_replicas=40), time_zone=zone)
    made.learn(loads_until(now))
    seen = Observation(time=now.timestamp(), load=5, queue=0, ready=1, starting=0, cold_start=180, capacity=10)
    return made.decide(seen).replicas


@pytest.mark.parametrize("changed", [datetime(2026, 3, 29, tzinfo=BERLIN), datetime(2026, 10, 25, tzinfo=BERLIN)])
def test_the_morning_is_prepared_by_the_wall_clock_on_the_day_on_which_clocks_change(
    changed: datetime,
) -> None:
    before_nine = changed.replace(hour=8, minute=58)
    assert replicas_at(before_nine, "Europe/Berlin") >= 10
    assert replicas_at(before_nine, "UTC") < 10, "by UTC this is an hour off: the test would notice a wrong clock"


def test_offsets_are_those_of_each_day_and_not_of_today() -> None:
    after = datetime(2026, 3, 30, 12, tzinfo=BERLIN)
    assert list(offsets(after.timestamp(), BERLIN)[:4]) == [120, 120, 60, 60]
    changed = datetime(2026, 10, 25, 12, tzinfo=BERLIN)
    assert list(offsets(changed.timestamp(), BERLIN)[:2]) == [60, 120]
