"""Every declared model over all pods: the state that matters most, how many pods serve it, and why not.

A failure in one pod is shown before progress in another: it is what somebody has to look at. Deliberately knows only
what the sidecars report; a model that no pod has reported is Unknown.
"""

from __future__ import annotations

from math import inf

from nereus.api.conditions import Condition, Truth
from nereus.api.protocol import ModelReport, ModelState
from nereus.api.reasons import ConditionType, Reason
from nereus.api.status import ModelStatus
from nereus.diagnosis import words
from nereus.diagnosis.reasons import Group
from nereus.diagnosis.world import World

UNKNOWN = "Unknown"
ADVANCE = (
    ModelState.FETCH_FAILED,
    ModelState.CONFIG_INVALID,
    ModelState.LOAD_FAILED,
    ModelState.PENDING,
    ModelState.FETCHING,
    ModelState.FETCHED,
    ModelState.UNLOADING,
    ModelState.LOADING,
    ModelState.READY,
)
"""States from the one that is shown first to the one that is shown only when every pod has it."""
MODEL_REASONS = frozenset({Reason.FETCH_FAILED, Reason.MODEL_CONFIG_INVALID, Reason.MODEL_LOAD_FAILED})


MOST_MODELS = 200
"""Of the status; a whole repository may hold more."""


def statuses(world: World) -> tuple[ModelStatus, ...]:
    """Every declared model, in the order of the spec."""
    return tuple(_status(world, name) for name in list(world.named)[:MOST_MODELS])


def _status(world: World, name: str) -> ModelStatus:
    pods = len(world.live)
    seen = [_seen(world, pod.uid, name) for pod in world.live]
    known = [report for report in seen if report is not None]
    if not known:
        return ModelStatus(name=name, state=UNKNOWN, ready=f"0/{pods}", versions=None, reason=None, load_seconds=None)
    worst = min(known, key=lambda report: ADVANCE.index(report.state))
    serving = [report for report in known if report.serving or report.state is ModelState.READY]
    versions = sorted({version for report in serving for version in report.versions}, key=lambda one: (len(one), one))
    loads = [load for report in known if (load := report.load_seconds) is not None and 0 <= load < inf]
    return ModelStatus(
        name=name,
        state=worst.state.value,
        ready=f"{len(serving)}/{pods}",
        versions=tuple(version[:32] for version in versions[:64]) or None,
        reason=words.last_lines(worst.message) or None if worst.state is not ModelState.READY else None,
        load_seconds=round(max(loads), 2) if loads else None,
    )


def _seen(world: World, uid: str, name: str) -> ModelReport | None:
    """What one pod says of a model: pending when it reports others only, None when it reports nothing."""
    reported = world.models.get(uid)
    return None if reported is None else reported.get(name) or ModelReport(name=name, state=ModelState.PENDING)


def condition(world: World, groups: tuple[Group, ...], statuses: tuple[ModelStatus, ...]) -> Condition:
    """ModelsLoaded: whether every declared model is loaded in every wanted pod."""
    total = len(statuses)
    loaded = sum(status.state == ModelState.READY.value for status in statuses)
    if not world.wanted:
        return _said(Truth.FALSE, Reason.SCALED_TO_ZERO, "no pod is wanted")
    if world.serving and len(world.serving) >= world.wanted:
        where = words.counted(len(world.serving), "pod")
        message = f"{words.counted(total, 'model')} loaded in {where}{_conflicts(world)}"
        return _said(Truth.TRUE, Reason.LOADED, message)
    count = f"{loaded} of {words.counted(total, 'model')} loaded in every pod"
    for group in groups:
        if group.reason in MODEL_REASONS:
            return _said(Truth.FALSE, group.reason, f"{count}; {group.message}")
    if all(status.state == UNKNOWN for status in statuses):
        return _said(Truth.UNKNOWN, Reason.UNKNOWN, "no pod has reported its models yet")
    waiting = [status.name for status in statuses if status.state != ModelState.READY.value]
    fetching = any(status.state in (ModelState.PENDING, ModelState.FETCHING) for status in statuses)
    reason = Reason.FETCHING_MODELS if fetching else Reason.LOADING_MODELS
    return _said(Truth.FALSE, reason, f"{count}; waiting for {words.listed(waiting)}" if waiting else count)


def _conflicts(world: World) -> str:
    """Settings on which a source's configuration and the resource disagree; the resource wins."""
    found = {
        f"{model.name}: {field}"
        for pod in world.serving
        if (report := world.report(pod))
        for model in report.models
        for field in model.conflicts
    }
    if not found:
        return ""
    return words.trimmed(
        f"; the resource overrides the source's configuration in {words.listed(sorted(found), most=5)}"
    )


def _said(truth: Truth, reason: Reason, message: str) -> Condition:
    return Condition(type=ConditionType.MODELS_LOADED, status=truth, reason=reason, message=message)
