"""Conditions as they are stored: when a transition time moves, and what is kept within the schema's bounds."""

from __future__ import annotations

from typing import Any

from nereus.api.conditions import MAX_MESSAGE, Condition, Truth, merged
from nereus.api.reasons import ConditionType, Reason

EARLIER, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z"


def condition(status: Truth, *, reason: Reason = Reason.SERVING, message: str = "2 of 2 pods serve") -> Condition:
    return Condition(type=ConditionType.READY, status=status, reason=reason, message=message)


def stored(*conditions: Condition, previous: Any = (), now: str = EARLIER, generation: int = 1) -> list[dict[str, Any]]:
    return merged(conditions, previous=previous, generation=generation, now=now)


def test_the_transition_time_stays_while_the_status_does() -> None:
    first = stored(condition(Truth.FALSE, reason=Reason.CREATING))
    again = stored(
        condition(Truth.FALSE, reason=Reason.CRASHING, message="other words"), previous=first, now=LATER, generation=2
    )
    assert again[0]["lastTransitionTime"] == EARLIER
    assert (again[0]["reason"], again[0]["message"], again[0]["observedGeneration"]) == ("Crashing", "other words", 2)


def test_the_transition_time_moves_with_the_status() -> None:
    first = stored(condition(Truth.FALSE))
    assert stored(condition(Truth.TRUE), previous=first, now=LATER)[0]["lastTransitionTime"] == LATER


def test_a_condition_that_is_no_longer_stated_is_gone() -> None:
    stalled = Condition(type=ConditionType.STALLED, status=Truth.TRUE, reason=Reason.INVALID_SPEC, message="wrong")
    first = stored(condition(Truth.FALSE), stalled)
    assert [entry["type"] for entry in stored(condition(Truth.TRUE), previous=first)] == ["Ready"]


def test_a_stored_condition_that_somebody_damaged_is_replaced() -> None:
    damaged: list[Any] = ["Ready", {"type": "Ready", "status": "True"}, {}]
    assert stored(condition(Truth.TRUE), previous=damaged, now=LATER)[0]["lastTransitionTime"] == LATER


def test_a_message_is_cut_at_the_bound_of_the_schema() -> None:
    assert len(stored(condition(Truth.TRUE, message="x" * 5000))[0]["message"]) == MAX_MESSAGE


def test_every_reason_and_condition_type_has_a_meaning() -> None:
    assert [reason for reason in Reason if not reason.meaning.endswith(".")] == []
    assert [kind for kind in ConditionType if not kind.meaning.endswith(".")] == []
    assert len({reason.value for reason in Reason}) == len(Reason)
