"""What the operator tells Prometheus of each ModelService: a handful of gauges, from the status as it was written.

Only the leader speaks, because only it looks at services. Labels are the service's name and namespace, under names that
no scrape gives to its targets, and one reason. The text is written by hand: with thousands of services a client
library would hold the event loop for a noticeable part of a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nereus.alerting import conventions as c
from nereus.api.conditions import Truth
from nereus.api.reasons import ConditionType, Reason
from nereus.controller.store import Key
from nereus.diagnosis.reading import items, mapping, text

HELP = {
    c.PODS_WANTED: "Pods that the service wants now.",
    c.PODS_READY: "Pods that are ready.",
    c.PODS_MIN: "Fewest pods that it may have.",
    c.PODS_MAX: "Most pods that it may have.",
    c.NOT_READY: "1 while the service is not ready, with the reason.",
    c.SCALING_BLIND: "1 while its autoscaler, or Nereus where it decides, cannot read its metrics.",
    c.COLD_START_SECONDS: "95th percentile of a new pod's time from creation to ready.",
    c.LATENCY_OBJECTIVE: "How fast a request must be answered.",
    c.LOAD: "Load in replica-equivalents.",
    c.FORECAST: "95 % bound of the highest load until the horizon (one cold start), in replica-equivalents.",
    c.FORECAST_MEDIAN: "Median of the same forecast.",
    c.REACTIVE: "Pods that the present load alone would need.",
    c.FLOOR: "Fewest pods that the policy asks for now.",
    c.FORECAST_ERROR: "How far the forecast was off lately, as a share of the load.",
    c.GPU_LIMIT: "GPU memory that each of its pods may use: the limit in effect, otherwise the one asked for.",
    c.THRESHOLD: "The threshold of an alert of the service, in the unit of the alert's signal.",
}
"""Every gauge of a service."""

_SCALING = {
    c.LOAD: "load",
    c.FORECAST: "forecast",
    c.REACTIVE: "reactive",
    c.FLOOR: "floor",
    c.FORECAST_ERROR: "forecastError",
}


class ServiceMetrics:
    """The gauges of every service that was looked at."""

    def __init__(self) -> None:
        self._figures: dict[Key, Mapping[tuple[str, str], float]] = {}

    def put(
        self,
        key: Key,
        status: Mapping[str, Any],
        *,
        latency_seconds: float | None,
        limits: Mapping[str, float],
        gpu_limit_bytes: int | None = None,
        forecast_median: float | None = None,
    ) -> None:
        """Remember a status. `limits` are thresholds by alert; empty where each service has rules of its own."""
        figures = dict(_figures(status))
        if latency_seconds is not None:
            figures[c.LATENCY_OBJECTIVE, ""] = latency_seconds
        for name, value in ((c.GPU_LIMIT, gpu_limit_bytes), (c.FORECAST_MEDIAN, forecast_median)):
            if value is not None:
                figures[name, ""] = float(value)
        for alert, limit in limits.items():
            figures[c.THRESHOLD, f',{c.ALERT}="{alert}"'] = limit
        self._figures[key] = figures

    def forget(self, key: Key) -> None:
        self._figures.pop(key, None)

    def clear(self) -> None:
        self._figures.clear()

    def render(self) -> str:
        """All series, in Prometheus' text format."""
        families: dict[str, list[str]] = {name: [] for name in HELP}
        for key, figures in list(self._figures.items()):
            own = f'{c.SERVICE_NAMESPACE}="{key.namespace}",{c.SERVICE}="{key.name}"'
            for (name, more), value in figures.items():
                families[name].append(f"{name}{{{own}{more}}} {value:.10g}")
        lines: list[str] = []
        for name, samples in families.items():
            if samples:
                lines += [f"# HELP {name} {HELP[name]}", f"# TYPE {name} gauge", *samples]
        return "\n".join(lines) + "\n" if lines else ""


def _figures(status: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], float]]:
    ready, _, wanted = text(status.get("replicas")).partition("/")
    if ready.isdigit() and wanted.isdigit():
        yield (c.PODS_READY, ""), float(ready)
        yield (c.PODS_WANTED, ""), float(wanted)
    resolved, scaling = mapping(status.get("resolved")), mapping(status.get("scaling"))
    sources: tuple[tuple[str, object], ...] = (
        (c.PODS_MIN, resolved.get("minReplicas")),
        (c.PODS_MAX, resolved.get("maxReplicas")),
        (c.COLD_START_SECONDS, mapping(status.get("coldStart")).get("p95")),
        *((name, scaling.get(field)) for name, field in _SCALING.items()),
    )
    for name, value in sources:
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield (name, ""), float(value)
    conditions = {text(item.get("type")): item for item in items(status.get("conditions"))}
    said = conditions.get(ConditionType.READY.value, {})
    if said.get("status") == Truth.FALSE.value:
        yield (c.NOT_READY, f',reason="{text(said.get("reason"))}"'), 1.0
    scaled = conditions.get(ConditionType.SCALING_ACTIVE.value)
    if scaled is not None:
        yield (c.SCALING_BLIND, ""), float(_is_blind(scaled, conditions, acts="floor" in scaling))


def _is_blind(scaled: Mapping[str, Any], conditions: Mapping[str, Mapping[str, Any]], *, acts: bool) -> bool:
    """Whether the number of pods cannot follow the load: the autoscaler reads nothing, or Nereus, where it decides,
    does not know the load. The autoscaler alone would not tell: its emergency metric still answers."""
    if scaled.get("reason") == Reason.MANUAL.value:
        return False
    load = conditions.get(ConditionType.METRICS_AVAILABLE.value, {})
    return scaled.get("status") == Truth.FALSE.value or (acts and load.get("status") == Truth.FALSE.value)
