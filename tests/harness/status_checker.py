"""What every stored status must keep: the promises that `kubectl wait`, kstatus and GitOps health checks build on.

`check_status` names every promise that a resource breaks; `kstatus` says what a generic health check makes of it.
Written against the published conventions (Kubernetes API conventions, kstatus), not against our code: the words that
a condition may carry are the only thing taken from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from nereus.api.reasons import ConditionType, Reason

TYPES = frozenset(kind.value for kind in ConditionType)
REASONS = frozenset(reason.value for reason in Reason)
ALWAYS = ("Ready", "Progressing")
MOST_REASONS = 10
MOST_MESSAGE = 4096


def check_status(resource: Mapping[str, Any]) -> list[str]:
    """Every promise that the status of a resource breaks, in words; empty when it keeps them all."""
    status = resource.get("status") or {}
    generation = (resource.get("metadata") or {}).get("generation")
    conditions: list[Mapping[str, Any]] = list(status.get("conditions") or [])
    observed = status.get("observedGeneration")
    broken = []
    if not isinstance(observed, int):
        broken.append(f"observedGeneration is {observed!r}, not a number")
    elif isinstance(generation, int) and observed > generation:
        broken.append(f"observedGeneration {observed} is ahead of generation {generation}")
    kinds = [condition.get("type") for condition in conditions]
    broken += [f"condition {kind} is missing" for kind in ALWAYS if kind not in kinds]
    broken += [
        f"condition {kind} is there twice" for kind in sorted({str(kind) for kind in kinds if kinds.count(kind) > 1})
    ]
    for condition in conditions:
        broken += [f"condition {condition.get('type')}: {words}" for words in _broken_condition(condition, generation)]
    broken += _broken_together(resource, conditions)
    broken += _broken_parts(status)
    return broken


def _broken_condition(condition: Mapping[str, Any], generation: object) -> list[str]:
    broken = []
    if condition.get("type") not in TYPES:
        broken.append("unknown type")
    if condition.get("status") not in ("True", "False", "Unknown"):
        broken.append(f"status {condition.get('status')!r} is not True, False or Unknown")
    reason = condition.get("reason")
    if not isinstance(reason, str) or not re.fullmatch(r"[A-Z][A-Za-z0-9]*", reason):
        broken.append(f"reason {reason!r} is not CamelCase")
    elif reason not in REASONS:
        broken.append(f"reason {reason} is not a documented one")
    message = condition.get("message")
    if not isinstance(message, str) or not message.strip():
        broken.append("the message is empty")
    elif len(message) > MOST_MESSAGE:
        broken.append(f"the message has {len(message)} characters")
    observed = condition.get("observedGeneration")
    if not isinstance(observed, int):
        broken.append(f"observedGeneration is {observed!r}, not a number")
    elif isinstance(generation, int) and observed > generation:
        broken.append(f"observedGeneration {observed} is ahead of generation {generation}")
    if not _is_time(condition.get("lastTransitionTime")):
        broken.append(f"lastTransitionTime {condition.get('lastTransitionTime')!r} is not RFC 3339")
    return broken


def _broken_together(resource: Mapping[str, Any], conditions: list[Mapping[str, Any]]) -> list[str]:
    """What conditions must not say at the same time."""
    by_type = {condition.get("type"): condition for condition in conditions}
    truth = {kind: condition.get("status") for kind, condition in by_type.items()}
    broken = []
    if truth.get("Ready") == "True":
        generation = (resource.get("metadata") or {}).get("generation")
        observed = {
            "the status": (resource.get("status") or {}).get("observedGeneration"),
            "the condition": by_type["Ready"].get("observedGeneration"),
        }
        if generation is not None:
            broken += [
                f"Ready is True, but {what} is about generation {seen}, not {generation}"
                for what, seen in observed.items()
                if seen != generation
            ]
        if truth.get("Stalled") == "True":
            broken.append("Ready and Stalled are both True")
        ready, _, wanted = str((resource.get("status") or {}).get("replicas", "")).partition("/")
        if truth.get("Progressing") == "True" and by_type["Ready"].get("reason") == "Serving":
            broken.append(f"Ready says Serving with {ready} of {wanted} pods, and Progressing is True")
    if "Stalled" in truth and truth["Stalled"] != "True":
        broken.append(f"Stalled is {truth['Stalled']}: it is there only while it is True")
    if truth.get("Stalled") == "True" and truth.get("Progressing") == "True":
        broken.append("Stalled and Progressing are both True")
    return broken


def _broken_parts(status: Mapping[str, Any]) -> list[str]:
    broken = []
    if "replicas" in status and not re.fullmatch(r"\d+/\d+", str(status["replicas"])):
        broken.append(f"replicas {status['replicas']!r} is not ready/wanted")
    reasons = status.get("reasons") or []
    if len(reasons) > MOST_REASONS:
        broken.append(f"{len(reasons)} reasons are more than {MOST_REASONS}")
    for entry in reasons:
        if entry.get("reason") not in REASONS:
            broken.append(f"reasons: {entry.get('reason')} is not a documented one")
        if not isinstance(entry.get("count"), int) or entry["count"] < 1:
            broken.append(f"reasons: {entry.get('reason')} has count {entry.get('count')!r}")
        if not entry.get("message"):
            broken.append(f"reasons: {entry.get('reason')} has no message")
    for model in status.get("models") or []:
        if not isinstance(model.get("ready"), str) or not re.fullmatch(r"\d+/\d+", model["ready"]):
            broken += [f"models: {model.get('name')} has ready {model.get('ready')!r}"]
    return broken


def _is_time(value: object) -> bool:
    try:
        return datetime.fromisoformat(str(value)).tzinfo is not None
    except ValueError:
        return False


def kstatus(resource: Mapping[str, Any]) -> str:
    """What the generic algorithm of kstatus makes of a custom resource: Terminating, InProgress, Failed or Current."""
    metadata, status = resource.get("metadata") or {}, resource.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    observed, generation = status.get("observedGeneration"), metadata.get("generation")
    if observed is not None and generation is not None and observed != generation:
        return "InProgress"
    conditions = status.get("conditions") or []
    for condition in conditions:
        if condition.get("type") == "Reconciling" and condition.get("status") == "True":
            return "InProgress"
        if condition.get("type") == "Stalled" and condition.get("status") == "True":
            return "Failed"
    for condition in conditions:
        if condition.get("type") == "Ready":
            return "Current" if condition.get("status") == "True" else "InProgress"
    return "Current"
