"""What changed between two statuses: whether it must be written at once, and the events that tell it.

Events are told on transitions only, so that `kubectl describe` reads as a story and not as a log: a service that
scales up and down all day tells each decision, not each pod. Deliberately compares statuses, not worlds: what is not
in the status has no event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from nereus.api.protocol import ModelState
from nereus.api.reasons import ConditionType, Reason
from nereus.diagnosis import words
from nereus.diagnosis.reading import items, mapping, text
from nereus.diagnosis.reasons import PATIENCE

EVENT_MESSAGE_LIMIT = 1000
"""The API server takes 1024 characters."""
MOST_MODEL_EVENTS = 3
TROUBLE = frozenset(reason.value for reason in (*PATIENCE, Reason.EVICTED, Reason.HPA_BLIND, Reason.HPA_FAILED))
DELIBERATE = Reason.SUSPENDED.value


class EventType(StrEnum):
    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One Kubernetes event about the ModelService; `reason` is CamelCase, `decision` the id of what it carries out."""

    type: EventType
    reason: str
    message: str
    decision: str = ""


def significant(previous: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a change must be written at once; otherwise it may wait for the write budget.

    What may wait: values of metrics, measurements, counts within a sentence while all is well or under way.
    """
    return _essence(previous) != _essence(new)


def _essence(status: Mapping[str, Any]) -> object:
    at_once = ("observedGeneration", "url", "replicas", "currentReplicas", "selector", "resolved", "template", "plan")
    return (
        {key: status.get(key) for key in at_once},
        [mapping(status.get("scaling")).get(key) for key in ("desired", "floor", "limitedBy")],
        [
            (
                item.get("type"),
                item.get("status"),
                item.get("reason"),
                item.get("observedGeneration"),
                item.get("message") if text(item.get("reason")) in TROUBLE else None,
            )
            for item in items(status.get("conditions"))
        ],
        [(item.get("name"), item.get("state"), item.get("ready"), item.get("versions")) for item in _models(status)],
        [(item.get("reason"), item.get("count")) for item in items(status.get("reasons"))],
    )


def events(previous: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Event, ...]:
    """The story of one change, in the order in which a person would tell it; empty when nothing turned."""
    return (
        *_template(previous, new),
        *_changed(previous, new),
        *_scaled(previous, new),
        *_loaded(previous, new),
        *_turned(previous, new),
    )


def _event(reason: str, message: str, kind: EventType = EventType.NORMAL) -> Event:
    return Event(type=kind, reason=reason, message=words.trimmed(message, EVENT_MESSAGE_LIMIT))


def _template(previous: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Event]:
    before, after = (text(mapping(status.get("template")).get("revision")) for status in (previous, new))
    if before and after and before != after:
        yield _event(Reason.ROLLING_OUT.value, f"Rolling out pod template {after}, which replaces {before}")


def _changed(previous: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Event]:
    """A change of models and settings that begins, and one that all pods get."""
    before, after = (mapping(status.get("plan")) for status in (previous, new))
    tried = text(after.get("next"))
    if tried and tried != text(before.get("next")):
        yield _event(Reason.CHANGING.value, f"Models and settings {tried}: {text(after.get('message'))}")
    old, now = text(before.get("revision")), text(after.get("revision"))
    if old and now and old != now:
        yield _event("Changed", f"Models and settings {now} go to every pod; {old} is kept for a rollback")


def _scaled(previous: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Event]:
    before, after = (mapping(status.get("scaling")) for status in (previous, new))
    lowest, floor = before.get("floor"), after.get("floor")
    if isinstance(lowest, int) and isinstance(floor, int) and lowest != floor:
        newest = next(iter(items(after.get("history"))), {})
        decision = text(newest.get("id"))
        named = f" (decision {decision})" if decision else ""
        yield replace(
            _event("Scaled", f"Scaled floor {text(newest.get('message')) or f'{lowest} -> {floor}'}{named}"),
            decision=decision,
        )
    old, wanted = before.get("desired"), after.get("desired")
    if isinstance(floor, int) and wanted in (lowest, floor):
        return  # the floor's own story told it, or tells it next
    if isinstance(old, int) and isinstance(wanted, int) and old != wanted:
        yield _event("Scaled", f"Scaled {old} -> {wanted}: {text(after.get('message'))}")


def _loaded(previous: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Event]:
    """Models that are now loaded in every pod and were in none before, or failed, or are new."""
    ready = ModelState.READY.value
    before = {text(item.get("name")): item for item in _models(previous)}
    turned = []
    for item in _models(new):
        old = before.get(text(item.get("name")), {})
        failed = "Failed" in text(old.get("state")) or old.get("state") == ModelState.CONFIG_INVALID.value
        served_before = text(old.get("ready")).partition("/")[0] not in ("", "0")
        if item.get("state") == ready and old.get("state") != ready and (failed or not served_before):
            turned.append(item)
    if len(turned) <= MOST_MODEL_EVENTS:
        for item in turned:
            yield _event("ModelLoaded", f"Model {text(item.get('name'))} loaded in {text(item.get('ready'))} pods")
    else:
        name_list = words.listed(text(item.get("name")) for item in turned)
        yield _event("ModelLoaded", f"{len(turned)} models loaded: {name_list}")


def _turned(previous: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Event]:
    """Ready and not ready, and every trouble that was not there before."""
    before, after = _ready(previous), _ready(new)
    known = {text(item.get("reason")) for item in items(previous.get("reasons"))}
    for item in items(new.get("reasons")):
        reason, message = text(item.get("reason")), text(item.get("message"))
        respelled = reason == Reason.INVALID_SPEC.value and message not in _messages(previous)
        if reason not in TROUBLE or (reason in known and not respelled):
            continue
        first = reason == after.get("reason") and after.get("status") != "True"
        kind = EventType.NORMAL if reason == DELIBERATE else EventType.WARNING
        yield _event(reason, f"Not ready: {message}" if first else message, kind)
        known.add(reason)
    if DELIBERATE in {text(item.get("reason")) for item in items(previous.get("reasons"))} and (
        DELIBERATE not in {text(item.get("reason")) for item in items(new.get("reasons"))}
    ):
        yield _event("Resumed", "spec.suspend is no longer true: reconciling again")
    whole = Reason.SERVING.value
    completed = after.get("reason") == whole and before.get("reason") != whole
    if after.get("status") == "True" and (before.get("status") != "True" or completed):
        yield _event("Ready", text(after.get("message")))


def _ready(status: Mapping[str, Any]) -> Mapping[str, Any]:
    conditions = items(status.get("conditions"))
    return next((item for item in conditions if item.get("type") == ConditionType.READY.value), {})


def _messages(status: Mapping[str, Any]) -> set[str]:
    return {text(item.get("message")) for item in items(status.get("reasons"))}


def _models(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(items(status.get("models")))
