"""When a service is looked at again although nothing happened to it.

Whatever can tell by itself that it changed is waited for: the watched objects, the pods (asked by `podstate`), the
decisions of the scaling tick, the rules in Prometheus, the GPU agents. What is left is the cluster moving on without a
word, and a fleet of thousands can afford no more than that: each look costs milliseconds of the only processor.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from nereus.api.conditions import Truth
from nereus.api.reasons import ConditionType
from nereus.diagnosis.reading import instant, items

RESYNC_SECONDS = 600.0
SILENCE_SECONDS = 60.0
SOONEST_SECONDS, LATEST_SECONDS = 1.5, 15.0
"""How soon a service that is not settled is looked at again: often at first, less often the longer it takes."""
TOLD = frozenset(
    {
        ConditionType.ALERTS_INSTALLED,
        ConditionType.GPU_MEMORY_ENFORCED,
        ConditionType.METRICS_AVAILABLE,
        ConditionType.FORECAST_TRUSTED,
    }
)
"""Conditions whose sources wake a service when they know more. A forecast learns for a day."""


def again(status: Mapping[str, Any], *, now: datetime) -> float:
    """Seconds until the next look at a service whose status is this."""
    unknown = {item.get("type") for item in _conditions(status) if item.get("status") == Truth.UNKNOWN} - TOLD
    if settled(status) and unknown <= {ConditionType.SCALING_ACTIVE}:
        # An autoscaler that says nothing is blind after a grace, which no event tells.
        pause = SILENCE_SECONDS if unknown else RESYNC_SECONDS
        return pause * random.uniform(0.8, 1.2)  # noqa: S311 - spreads work, guards nothing
    since = instant(_condition(status, ConditionType.READY).get("lastTransitionTime"))
    age = (now - since).total_seconds() if since else 0.0
    return min(max(SOONEST_SECONDS, age / 20), LATEST_SECONDS)


def settled(status: Mapping[str, Any]) -> bool:
    """Whether nothing is under way that is worth a look every few seconds."""
    ready = _condition(status, ConditionType.READY).get("status") == Truth.TRUE.value
    moving = _condition(status, ConditionType.PROGRESSING).get("status") == Truth.TRUE.value
    return ready and not moving


def _condition(status: Mapping[str, Any], kind: ConditionType) -> Mapping[str, Any]:
    return next((item for item in _conditions(status) if item.get("type") == kind.value), {})


def _conditions(status: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return items(status.get("conditions"))
