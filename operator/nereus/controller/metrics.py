"""The operator's own metrics, all names and labels in one place; labels take few values, never an object's name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from nereus.controller.servicemetrics import ServiceMetrics

PREFIX = "nereus_operator"

disable_created_metrics()  # type: ignore[no-untyped-call] # a time of birth beside every series says nothing here


class Metrics:
    """What the controller counts. Each has a registry of its own, so that tests may run several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.services = ServiceMetrics()
        self.reconciles = Histogram(
            f"{PREFIX}_reconcile_seconds",
            "Time of one look at one ModelService, by outcome.",
            ["outcome"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self.requests = Histogram(
            f"{PREFIX}_api_request_seconds",
            "Time of requests to the API server, by verb and kind.",
            ["verb", "kind"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self.errors = Counter(
            f"{PREFIX}_api_errors_total",
            "Requests that the API server did not carry out, by verb, kind and status (0: no answer).",
            ["verb", "kind", "status"],
            registry=self.registry,
        )
        self.writes = Counter(
            f"{PREFIX}_writes_total", "Objects written, by verb and kind.", ["verb", "kind"], registry=self.registry
        )
        self.events = Counter(
            f"{PREFIX}_events_total", "Events posted, by type and reason.", ["type", "reason"], registry=self.registry
        )
        self.ticks = Histogram(
            f"{PREFIX}_scaling_tick_seconds",
            "Time of one scaling tick over all services, the queries included.",
            buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30),
            registry=self.registry,
        )
        self.loop_lag = Gauge(
            f"{PREFIX}_loop_lag_seconds",
            "How late the event loop woke a timer of one second, last time.",
            registry=self.registry,
        )

    def request(self, verb: str, kind: str, status: int, seconds: float) -> None:
        """Observer for the gateway."""
        self.requests.labels(verb, kind).observe(seconds)
        if not 200 <= status < 300:
            self.errors.labels(verb, kind, str(status)).inc()
        elif verb not in ("get", "list"):
            self.writes.labels(verb, kind).inc()

    def collect(self, gauges: Callable[[], Mapping[str, Reading]]) -> None:
        """Gauges that are read when somebody asks for them: name -> (help, label or empty, values by label)."""
        self.registry.register(_Readings(gauges))


Reading = tuple[str, str, Mapping[str, float]]


class _Readings(Collector):
    def __init__(self, gauges: Callable[[], Mapping[str, Reading]]) -> None:
        self._gauges = gauges

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        for name, (description, label, values) in self._gauges().items():
            family = GaugeMetricFamily(f"{PREFIX}_{name}", description, labels=[label] if label else [])
            for value, number in values.items():
                family.add_metric([value] if label else [], number)
            yield family
