"""From when on a service is in trouble: what `spec.alerts` says, and what is taken where it is silent.

One place, resolved once: the rules of a service, the threshold metrics of a fleet and the reference use the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from nereus.api.service import ModelService

LATENCY_MS = 500.0
LOAD_FAILURES = 0.01
QUEUED_REQUESTS = 100.0
ERRORS = 0.01
GPU_MEMORY = 0.9
TRAFFIC_LOST = 0.99
"""Nearly all of the last hour's traffic is gone."""
COLD_START_GROWTH = 1.5
"""Half as long again as the median of the day before."""
FORECAST_ERROR = 0.5
"""The forecast is off by half of the load: it is then no better than none."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Numbers in the units of the signals: milliseconds, requests, and shares of 1.

    `errors` is the share of failed requests that is tolerated over 30 days; the alerts look at how fast it is used up.
    `gpu_memory` is a share of the limit in effect, None for a service without a GPU.
    `scales` says whether anything but a person sets the number of pods.
    """

    latency_ms: float = LATENCY_MS
    load_failures: float = LOAD_FAILURES
    queue: float = QUEUED_REQUESTS
    errors: float = ERRORS
    gpu_memory: float | None = GPU_MEMORY
    scales: bool = True
    disabled: frozenset[str] = frozenset()


def thresholds(service: ModelService) -> Thresholds:
    """What holds for one service."""
    given = service.alerts
    return Thresholds(
        latency_ms=service.latency_objective.seconds * 1000,
        load_failures=_share(given.load_failures, LOAD_FAILURES),
        queue=float(given.queue.above) if given.queue and given.queue.above is not None else QUEUED_REQUESTS,
        errors=_share(given.errors, ERRORS),
        gpu_memory=_share(given.gpu_memory, GPU_MEMORY) if service.spec.gpu else None,
        scales=service.min_replicas < service.max_replicas,
        disabled=frozenset(given.disable or ()),
    )


def _share(given: object, otherwise: float) -> float:
    above = getattr(given, "above", None)
    return float(above.share) if above is not None else otherwise
