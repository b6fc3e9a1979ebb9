"""When to look again although nothing happens: a diagnosis also turns with time (a node that does not come, a sidecar
that stays silent), and no event announces that.

Deliberately generous: it names every moment at which some check may change its mind, not only those that will.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from nereus.api.reasons import ConditionType
from nereus.diagnosis.autoscaling import METRICS_GRACE
from nereus.diagnosis.checks import READY_GRACE, RECORD_AGE, REPORT_GRACE, SERVER_GRACE, VOLUME_GRACE, WARNING_GRACE
from nereus.diagnosis.objects import Pod
from nereus.diagnosis.reading import instant, items, unix
from nereus.diagnosis.reasons import PATIENCE
from nereus.diagnosis.world import World

JUST_AFTER = timedelta(seconds=1)
"""Times of Kubernetes have whole seconds."""
PATIENCES = tuple(sorted(set(PATIENCE.values())))


def look_again(world: World, *, previous: Mapping[str, Any], now: datetime) -> float | None:
    """Seconds until the same world may be judged differently; None when time changes nothing.

    `previous` is the status that was just made.
    """
    ahead = [moment - now for moment in _moments(world, previous) if moment > now]
    return (min(ahead) + JUST_AFTER).total_seconds() if ahead else None


def _moments(world: World, previous: Mapping[str, Any]) -> Iterator[datetime]:
    for begun, graces in _waits(world, previous):
        if begun is not None:
            yield from (begun + grace for grace in graces)


def _waits(world: World, previous: Mapping[str, Any]) -> Iterator[tuple[datetime | None, tuple[timedelta, ...]]]:
    for pod in world.live:
        if not world.serves(pod):
            yield from _pod_waits(world, pod)
        for container in pod.containers:
            if container.ended_before and container.ended_before.out_of_memory:
                yield container.ended_before.finished_at, (RECORD_AGE,)
    if world.autoscaler:
        yield world.autoscaler.created_at, (METRICS_GRACE,)
        ready = [since for pod in world.live if pod.ready and (since := pod.condition("Ready").since)]
        yield min(ready, default=None), (METRICS_GRACE,)
    if world.deployment:
        yield world.deployment.condition("ReplicaFailure").since, PATIENCES
    for condition in items(previous.get("conditions")):
        if condition.get("type") == ConditionType.READY.value and condition.get("status") == "False":
            yield instant(condition.get("lastTransitionTime")), PATIENCES


def _pod_waits(world: World, pod: Pod) -> Iterator[tuple[datetime | None, tuple[timedelta, ...]]]:
    """The moments at which a check on a pod that does not serve may change its mind."""
    report = world.report(pod)
    yield pod.condition("PodScheduled").since, (WARNING_GRACE, VOLUME_GRACE, *PATIENCES)
    yield pod.unready_since, (READY_GRACE, *PATIENCES)
    yield pod.sidecar.started_at if pod.sidecar else None, (REPORT_GRACE,)
    yield pod.server.started_at if pod.server else None, (SERVER_GRACE,)
    yield unix(report.ready_at) if report else None, (READY_GRACE,)
