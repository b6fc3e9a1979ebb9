"""What the scaling tick is told of a service, from its reading and from what is remembered."""

from __future__ import annotations

import pytest

from nereus.controller.subjects import Subject
from nereus.prometheus.reading import Freshness, Key, ModelReading, Reading, Wanted
from nereus.scaling.goal import Goal


@pytest.mark.parametrize(
    ("declared", "measured", "told", "expected"),
    [(None, None, 40.0, 40.0), (None, 50.0, 40.0, 50.0), (100.0, 50.0, 40.0, 100.0), (None, None, None, None)],
)
def test_capacity_is_what_was_declared_then_measured_then_told_by_the_operator_before(
    declared: float | None, measured: float | None, told: float | None, expected: float | None
) -> None:
    subject = Subject(
        goal=Goal(min_replicas=1, max_replicas=5, capacity=declared),
        wanted=Wanted(key=Key("ns", "svc"), expected_ready=1),
        ready=1,
        starting=0,
        unplaced=0,
        cold_start=None,
        told_capacity=told,
        history_days=None,
    )
    models = {"m": ModelReading(rate=20.0, capacity=measured)}
    load = 20.0 / measured if measured else None
    seen = subject.seen(Reading(at=0.0, state=Freshness.FRESH, load=load, models=models))
    assert seen.capacity == expected
    assert seen.rate == pytest.approx(20.0)
