"""One screen for one service: everything that a person would collect with five commands, in the status' own words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from nereus.diagnosis.screen import Curve, age, screen

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def condition(kind: str, status: str, reason: str, message: str) -> dict[str, str]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-11-21T11:48:00Z",
    }


DECISION = {"id": "69206a7f-0", "at": "2026-11-21T11:57:00Z", "message": "1 -> 3: load 2.4"}
CURVE = Curve(model="m", fixed_seconds=0.004, seconds_per_inference=0.002, largest=8)
STATUS: dict[str, Any] = {
    "observedGeneration": 3,
    "url": "http://resnet.prod.svc:8000",
    "replicas": "1/3",
    "conditions": [
        condition("Ready", "False", "Unschedulable", "1/3 pods serve; pod resnet-2: 0/4 nodes have nvidia.com/gpu"),
        condition("AlertsInstalled", "False", "RulesNotLoaded", "nobody selects PrometheusRule resnet"),
    ],
    "reasons": [{"reason": "FetchFailed", "count": 2, "message": "403 from the bucket"}],
    "models": [{"name": "m", "state": "LoadFailed", "ready": "1/3", "reason": "bad weights"}],
    "resolved": {"strategy": "Metrics"},
    "scaling": {
        "desired": 3,
        "message": "HorizontalPodAutoscaler: too many replicas; maxReplicas 3",
        "load": 2.4,
        "history": [DECISION],
    },
    "coldStart": {"samples": 4, "p95": 31.5, "phases": {"pull": 20.0}},
    "template": {"pending": "sidecar image a -> b"},
}
RESOURCE = {"metadata": {"namespace": "prod", "name": "resnet", "generation": 3}, "status": STATUS}
EVENT = {"reason": "Scaled", "message": "floor 2 -> 3", "lastTimestamp": "2026-11-21T11:58:00Z"}
ALERT = {
    "state": "firing",
    "activeAt": "2026-11-21T11:00:00Z",
    "labels": {"alertname": "NereusPodsNotReady", "severity": "warning"},
    "annotations": {"description": "2 of the pods are missing", "runbook_url": "https://x/NereusPodsNotReady.md"},
}


def test_it_says_why_not_ready_why_so_many_pods_what_changed_and_what_fires() -> None:
    shown = screen(RESOURCE, events=[EVENT], alerts=[ALERT], now=NOW, curves=[CURVE], width=200)
    for words in (
        "prod/resnet",
        "no for 12m, Unschedulable: 1/3 pods serve; pod resnet-2: 0/4 nodes have nvidia.com/gpu",
        "2 x FetchFailed: 403 from the bucket",
        "model m is LoadFailed (1/3): bad weights",
        "1 ready, 3 wanted; strategy Metrics",
        "maxReplicas 3",
        "load 2.4",
        "last decision 69206a7f-0 at 2026-11-21T11:57:00Z: 1 -> 3: load 2.4",
        "m: 4 ms a batch, 2 ms each inference; the largest seen, 8, takes 20 ms, 400 inferences/s for one instance",
        "p95 31.5 s over 4 starts; median by phase: pull 20 s",
        "leaves alone: sidecar image a -> b",
        "2m ago, Scaled: floor 2 -> 3",
        "firing for 1h0m, warning, NereusPodsNotReady: 2 of the pods are missing -> https://x",
        "nobody selects PrometheusRule resnet",
    ):
        assert words in shown, shown


def test_a_narrow_terminal_gets_narrow_lines_and_loses_no_word() -> None:
    shown = screen(RESOURCE, events=[EVENT], alerts=[], now=NOW, width=60)
    assert max(len(line) for line in shown.splitlines()) <= 60
    assert "nvidia.com/gpu" in shown
    assert "none is firing" in shown


def test_a_service_that_nobody_looked_at_and_one_that_changed_since_say_so() -> None:
    fresh = screen({"metadata": {"namespace": "a", "name": "b", "generation": 1}}, events=[], alerts=None, now=NOW)
    assert "has not looked at it yet" in fresh
    assert "--prometheus URL" in fresh
    changed = {**RESOURCE, "metadata": {**RESOURCE["metadata"], "generation": 4}}
    assert "generation 4 has not been looked at" in screen(changed, events=[], alerts=None, now=NOW)


def test_a_status_of_nonsense_is_still_a_screen() -> None:
    broken = {"conditions": "no", "scaling": 3, "coldStart": {"p95": "x"}, "models": [1], "reasons": None}
    assert "Alerts" in screen({"metadata": {}, "status": broken}, events=[{}], alerts=[{}], now=NOW)


def test_ages_are_short() -> None:
    assert [age(NOW.replace(hour=11, minute=m, second=s), NOW) for m, s in ((59, 30), (30, 0))] == ["30s", "30m"]
    assert age(datetime(2026, 11, 19, 9, tzinfo=UTC), NOW) == "2d3h"
    assert age(None, NOW) == "?"
