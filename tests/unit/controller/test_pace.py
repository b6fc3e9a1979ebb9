"""When a service is looked at again by itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nereus.api.reasons import ConditionType
from nereus.controller import pace

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def status(others: Mapping[str, str] | None = None, *, ready: str = "True", since: float = 3600.0) -> dict[str, Any]:
    """A status whose Ready condition is so many seconds old, and further conditions."""
    stamp = (NOW - timedelta(seconds=since)).strftime("%Y-%m-%dT%H:%M:%SZ")
    first = {"type": "Ready", "status": ready, "lastTransitionTime": stamp}
    return {"conditions": [first, *({"type": name, "status": value} for name, value in (others or {}).items())]}


@pytest.mark.parametrize("kind", sorted(kind.value for kind in pace.TOLD))
def test_what_tells_by_itself_is_not_asked_for(kind: str) -> None:
    """A forecast is learning for a day: looked at every 15 s, thousands of new services would leave time for nothing
    else."""
    assert pace.again(status({kind: "Unknown"}), now=NOW) >= 0.8 * pace.RESYNC_SECONDS


def test_a_silent_autoscaler_is_looked_at_every_minute() -> None:
    seconds = pace.again(status({ConditionType.SCALING_ACTIVE.value: "Unknown"}), now=NOW)
    assert 0.8 * pace.SILENCE_SECONDS <= seconds <= 1.2 * pace.SILENCE_SECONDS


@pytest.mark.parametrize(
    ("shown", "seconds"),
    [
        (status(ready="False", since=0), pace.SOONEST_SECONDS),
        (status(ready="False", since=100), 5.0),
        (status(ready="False", since=3600), pace.LATEST_SECONDS),
        (status({"Progressing": "True"}), pace.LATEST_SECONDS),
        (status({"ModelsLoaded": "Unknown"}), pace.LATEST_SECONDS),
        ({}, pace.SOONEST_SECONDS),
    ],
)
def test_a_service_that_moves_is_looked_at_often_at_first(shown: dict[str, Any], seconds: float) -> None:
    assert pace.again(shown, now=NOW) == seconds
