"""The gauges of each service: from its status, readable by Prometheus, gone with the service."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from nereus.alerting import rules
from nereus.alerting.thresholds import Thresholds
from nereus.controller.servicemetrics import HELP, ServiceMetrics
from nereus.controller.store import Key

KEY = Key("prod", "resnet")
STATUS: dict[str, Any] = {
    "replicas": "1/3",
    "resolved": {"minReplicas": 1, "maxReplicas": 4},
    "coldStart": {"p95": 31.5, "samples": 3},
    "scaling": {"load": 2.4, "forecastError": 0.1},
    "conditions": [
        {"type": "Ready", "status": "False", "reason": "Unschedulable"},
        {"type": "ScalingActive", "status": "False", "reason": "MetricsUnavailable"},
    ],
}


def series(metrics: ServiceMetrics) -> dict[tuple[str, str, str], float]:
    """By name, service and what further label there is."""
    found = {}
    for family in text_string_to_metric_families(metrics.render()):
        for sample in family.samples:
            labels = dict(sample.labels)
            key = f"{labels.pop('modelservice_namespace')}/{labels.pop('modelservice')}"
            found[sample.name, key, "".join(labels.values())] = sample.value
    return found


def test_a_status_becomes_a_handful_of_gauges() -> None:
    metrics = ServiceMetrics()
    metrics.put(KEY, STATUS, latency_seconds=0.2, limits={}, gpu_limit_bytes=8589934593, forecast_median=2.5)
    assert series(metrics) == {
        ("nereus_service_pods_ready", "prod/resnet", ""): 1,
        ("nereus_service_pods_wanted", "prod/resnet", ""): 3,
        ("nereus_service_pods_min", "prod/resnet", ""): 1,
        ("nereus_service_pods_max", "prod/resnet", ""): 4,
        ("nereus_service_cold_start_seconds", "prod/resnet", ""): 31.5,
        ("nereus_service_load", "prod/resnet", ""): 2.4,
        ("nereus_service_forecast_error", "prod/resnet", ""): 0.1,
        ("nereus_service_not_ready", "prod/resnet", "Unschedulable"): 1,
        ("nereus_service_scaling_blind", "prod/resnet", ""): 1,
        ("nereus_service_latency_objective_seconds", "prod/resnet", ""): 0.2,
        ("nereus_service_forecast_median", "prod/resnet", ""): 2.5,
        ("nereus_service_gpu_memory_limit_bytes", "prod/resnet", ""): 8589934593,
    }


def test_a_service_that_is_set_by_hand_is_not_blind_and_a_ready_one_has_no_reason() -> None:
    metrics = ServiceMetrics()
    conditions = [
        {"type": "Ready", "status": "True", "reason": "Serving"},
        {"type": "ScalingActive", "status": "False", "reason": "Manual"},
    ]
    metrics.put(KEY, {"conditions": conditions}, latency_seconds=None, limits={})
    assert series(metrics) == {("nereus_service_scaling_blind", "prod/resnet", ""): 0}


def test_a_service_whose_load_is_unknown_is_blind_although_its_autoscaler_still_reads_a_metric() -> None:
    def blind(scaled: str, reason: str, **scaling: float) -> float:
        metrics = ServiceMetrics()
        conditions = [
            {"type": "ScalingActive", "status": scaled, "reason": reason},
            {"type": "MetricsAvailable", "status": "False", "reason": "Unreachable"},
        ]
        metrics.put(KEY, {"conditions": conditions, "scaling": scaling}, latency_seconds=None, limits={})
        return series(metrics)["nereus_service_scaling_blind", "prod/resnet", ""]

    assert blind("True", "Scaling", floor=2) == 1
    assert blind("False", "Manual", floor=2) == 0, "nothing scales by itself"
    assert blind("True", "Scaling") == 0, "where Nereus only advises, the autoscaler's own metric decides"


def test_a_fleet_has_the_threshold_of_every_alert_as_a_metric() -> None:
    metrics = ServiceMetrics()
    limits = rules.limits(Thresholds(latency_ms=200))
    metrics.put(KEY, {}, latency_seconds=None, limits=limits)
    found = series(metrics)
    assert {alert for _, _, alert in found} == set(limits)
    assert found["nereus_service_alert_threshold", "prod/resnet", "NereusLatencyHigh"] == 200


def test_what_is_gone_is_not_said_any_more_and_nonsense_is_no_series() -> None:
    metrics = ServiceMetrics()
    metrics.put(KEY, {"replicas": "?", "scaling": {"load": True}, "resolved": 3}, latency_seconds=None, limits={})
    assert metrics.render() == ""
    metrics.put(KEY, STATUS, latency_seconds=None, limits={})
    metrics.forget(KEY)
    assert metrics.render() == ""


def test_every_gauge_is_explained_and_its_labels_never_collide_with_those_of_a_target() -> None:
    metrics = ServiceMetrics()
    metrics.put(KEY, STATUS, latency_seconds=1, limits=rules.limits(Thresholds()))
    labels = set(re.findall(r'(\w+)="', metrics.render()))
    assert labels == {"modelservice", "modelservice_namespace", "reason", "alert"}
    assert not labels & {"namespace", "pod", "service", "container", "endpoint", "job", "instance", "node"}
    page = (Path(__file__).resolve().parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in HELP)
