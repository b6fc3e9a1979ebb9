"""Why there are N pods: what the autoscaler decided, from which numbers, and whether it can see at all.

An autoscaler that cannot read its metrics holds the number of pods: the service serves, so this alone never makes it
not ready. It is said in ScalingActive and in the reasons. Deliberately quotes the autoscaler's own words.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from nereus.api.conditions import Condition, Truth
from nereus.api.reasons import ConditionType, Reason
from nereus.api.spec.scaling import Strategy
from nereus.api.status import ScalingStatus
from nereus.diagnosis import words
from nereus.diagnosis.finding import Finding
from nereus.diagnosis.objects import Autoscaler
from nereus.diagnosis.world import World

METRICS_GRACE = timedelta(seconds=60)
"""A new autoscaler, and one whose first pod just became ready, waits for metrics-server's next two samples (15 s
apart) and for its own next sync (15 s); CPU of a pod counts 30 s after it became ready."""


def scales(world: World) -> bool:
    """Whether the autoscaler has a choice at all."""
    return world.service.strategy is not Strategy.MANUAL and world.service.min_replicas < world.service.max_replicas


def scaling_failed(world: World) -> Iterator[Finding]:
    """The autoscaler cannot act, or is switched off because somebody scaled the Deployment to zero."""
    autoscaler = world.autoscaler
    if autoscaler is None:
        return
    active, able = autoscaler.condition("ScalingActive"), autoscaler.condition("AbleToScale")
    if active.is_false and active.reason == "ScalingDisabled":
        yield Finding(
            reason=Reason.HPA_FAILED,
            text=f"the autoscaler is switched off because the Deployment has 0 replicas; `kubectl scale deployment"
            f" {autoscaler.name} --replicas={world.service.min_replicas}` switches it on again",
            since=active.since,
        )
    elif able.is_false:
        yield Finding(reason=Reason.HPA_FAILED, text=words.trimmed(able.message) or able.reason, since=able.since)


def blind(world: World, now: datetime) -> Iterator[Finding]:
    """The autoscaler cannot read a metric, although there has been time enough to and something to decide."""
    autoscaler = world.autoscaler
    if autoscaler is None or not scales(world) or metrics_pending(world, now):
        return
    active = autoscaler.condition("ScalingActive")
    if active.is_false and active.reason != "ScalingDisabled":
        yield Finding(reason=Reason.HPA_BLIND, text=words.trimmed(active.message) or active.reason, since=active.since)


def metrics_pending(world: World, now: datetime) -> bool:
    """Whether it is too early to expect that the autoscaler has read its metrics."""
    autoscaler = world.autoscaler
    if autoscaler is None:
        return True
    readiness = [pod.condition("Ready").since for pod in world.live if pod.ready]
    known = [moment for moment in readiness if moment]
    begun = max(moment for moment in (autoscaler.created_at, min(known)) if moment) if known else None
    return begun is None or now - begun < METRICS_GRACE


def condition(world: World, now: datetime) -> Condition:
    """ScalingActive: whether something adjusts the number of pods to the load."""
    service = world.service
    if service.strategy is Strategy.MANUAL:
        return _said(Truth.FALSE, Reason.MANUAL, f"spec.scaling.replicas is {world.wanted}; nothing scales by itself")
    if not scales(world):
        return _said(Truth.FALSE, Reason.MANUAL, f"{_bounds(world)}; nothing scales by itself")
    if world.autoscaler is None:
        return _said(Truth.UNKNOWN, Reason.METRICS_PENDING, "the HorizontalPodAutoscaler does not exist yet")
    for finding in (*scaling_failed(world), *blind(world, now)):
        return _said(Truth.FALSE, finding.reason, finding.text)
    if world.decision is not None and world.decision.hint:
        return _said(Truth.TRUE, Reason.OBJECTIVE_TOO_SHORT, f"{world.decision.hint}; {_bounds(world)}")
    if world.autoscaler.condition("ScalingActive").is_true:
        if service.acts and not world.external_metrics:
            alone = "Nereus decides through the autoscaler's floor alone: another provider serves external metrics"
            return _said(Truth.TRUE, Reason.SCALING, f"{alone}; {_bounds(world)}")
        return _said(Truth.TRUE, Reason.SCALING, f"the autoscaler reads its metrics; {_bounds(world)}")
    return _said(Truth.UNKNOWN, Reason.METRICS_PENDING, "the autoscaler has not read its metrics yet")


def _said(truth: Truth, reason: Reason, message: str) -> Condition:
    return Condition(type=ConditionType.SCALING_ACTIVE, status=truth, reason=reason, message=message)


def status(world: World) -> ScalingStatus:
    """How many pods are wanted and who decided it."""
    service, autoscaler = world.service, world.autoscaler
    if service.strategy is Strategy.MANUAL:
        return _status(desired=world.wanted, message=f"spec.scaling.replicas is {world.wanted}", metrics=None)
    if autoscaler is None or not scales(world):
        return _status(desired=world.wanted, message=_bounds(world), metrics=None)
    return _status(
        desired=world.wanted,
        message=f"HorizontalPodAutoscaler: {_decision(autoscaler, world.wanted)}; {_bounds(world)}",
        metrics=tuple(words.trimmed(str(metric), 256) for metric in autoscaler.metrics[:16]) or None,
    )


def _status(*, desired: int, message: str, metrics: tuple[str, ...] | None) -> ScalingStatus:
    return ScalingStatus.model_validate({}).model_copy(
        update={"desired": desired, "message": message, "metrics": metrics}
    )


def _decision(autoscaler: Autoscaler, wanted: int) -> str:
    """The autoscaler's words on its last decision: a bound that holds it, a metric that fails, else what it did.

    It scales first and explains itself a moment later: until then its words are about the decision before.
    """
    if autoscaler.desired not in (None, wanted):
        return f"scaled to {wanted}"
    limited, active, able = (autoscaler.condition(kind) for kind in ("ScalingLimited", "ScalingActive", "AbleToScale"))
    for fact, telling in ((active, active.is_false), (limited, limited.is_true), (able, True)):
        if telling and fact.message:
            return words.trimmed(fact.message)
    return "no decision yet"


def _bounds(world: World) -> str:
    low, high = world.service.min_replicas, world.service.max_replicas
    if (limits := world.service.scaling.limits) is not None and world.service.gpu_limited:
        return f"minReplicas {low}, and no more than {high} because of scaling.limits.gpus {limits.gpus}"
    return f"minReplicas and maxReplicas are {low}" if low == high else f"minReplicas {low}, maxReplicas {high}"
