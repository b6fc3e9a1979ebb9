"""How long new pods take, from creation to ready, and where the time goes: measured from the pods that are there.

The API server's clock, the kubelet's and the sidecar's meet here: a difference below zero counts as zero. A pod with
a restarted container is left out, its times are those of the restart. Deliberately keeps no history of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from statistics import median

from nereus.api.protocol import PodReport
from nereus.api.status import ColdStart, Phases
from nereus.diagnosis.objects import Pod
from nereus.diagnosis.reading import unix
from nereus.diagnosis.world import World

MOST_SAMPLES = 20
"""The newest starts that are looked at: enough for a 95th percentile, few enough to follow a change."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """One pod's start, in seconds; None where a moment is not known."""

    total: float
    schedule: float | None
    pull: float | None
    fetch: float | None
    start: float | None
    load: float | None


def measured(pod: Pod, report: PodReport | None) -> Start | None:
    """The start of one pod, or None when it is not over or was not a first start."""
    ready = unix(report.ready_at) if report else None
    if report is None or ready is None or pod.created_at is None:
        return None
    if any(container.restarts for container in pod.containers):
        return None
    sidecar, server = pod.sidecar, pod.server
    sidecar_started = (sidecar.started_at if sidecar else None) or unix(report.started_at)
    server_started = server.started_at if server else None
    fetched, live = unix(report.fetched_at), unix(report.server_live_at)
    # Images come in two steps: the sidecar's before it starts, Triton's after the models are fetched.
    first, second = _between(pod.scheduled_at, sidecar_started), _between(fetched, server_started)
    return Start(
        total=_between(pod.created_at, ready) or 0.0,
        schedule=_between(pod.created_at, pod.scheduled_at),
        pull=None if first is None or second is None else first + second,
        fetch=_between(sidecar_started, fetched),
        start=_between(server_started, live),
        load=_between(live, ready),
    )


def _between(begin: datetime | None, end: datetime | None) -> float | None:
    return max(0.0, (end - begin).total_seconds()) if begin and end else None


def cold_start(world: World) -> ColdStart | None:
    """Median and 95th percentile (nearest rank) over the newest starts of the template in use; None without any."""
    newest = sorted(world.current, key=lambda pod: (pod.created_at.timestamp() if pod.created_at else 0.0, pod.name))
    starts = [start for pod in reversed(newest) if (start := measured(pod, world.report(pod)))][:MOST_SAMPLES]
    if not starts:
        return None
    totals = sorted(start.total for start in starts)
    return ColdStart(
        samples=len(starts),
        p50=round(median(totals), 1),
        p95=round(totals[ceil(0.95 * len(totals)) - 1], 1),
        phases=Phases(
            schedule=_median([start.schedule for start in starts]),
            pull=_median([start.pull for start in starts]),
            fetch=_median([start.fetch for start in starts]),
            start=_median([start.start for start in starts]),
            load=_median([start.load for start in starts]),
        ),
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(median(known), 1) if known else None
