"""Conditions of a status: one typed value, and the rules of when a transition time moves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nereus.api.reasons import ConditionType, Reason

MAX_MESSAGE = 4096


class Truth(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One statement about a ModelService, without its times (those depend on what was said before)."""

    type: ConditionType
    status: Truth
    reason: Reason
    message: str


def merged(
    conditions: Iterable[Condition], *, previous: Iterable[Any], generation: int, now: str
) -> list[dict[str, Any]]:
    """The conditions as they are stored: `lastTransitionTime` moves only when the status of a condition does.

    `now` is RFC 3339. A condition that is no longer stated is dropped. Order is that of `conditions`.
    """
    before = {condition.get("type"): condition for condition in previous if isinstance(condition, Mapping)}
    result = []
    for condition in conditions:
        old = before.get(condition.type.value, {})
        unchanged = old.get("status") == condition.status.value and old.get("lastTransitionTime")
        result.append(
            {
                "type": condition.type.value,
                "status": condition.status.value,
                "observedGeneration": generation,
                "lastTransitionTime": old["lastTransitionTime"] if unchanged else now,
                "reason": condition.reason.value,
                "message": condition.message[:MAX_MESSAGE],
            }
        )
    return result
