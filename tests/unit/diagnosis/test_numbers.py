"""Why there are N pods, where every model stands and how long a pod takes: the figures of a status."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from nereus.api.decision import ScalingDecision
from nereus.api.protocol import ModelState
from nereus.diagnosis import status
from tests.unit.diagnosis.scenarios import BLIND, SCALED
from tests.unit.diagnosis.worlds import (
    NOW,
    autoscaler,
    condition,
    deployment,
    model,
    pod,
    report,
    running,
    service,
    serving_pod,
    unix,
    world,
)

Json = dict[str, Any]


def diagnosed(observed: Any, previous: Json | None = None, *, later: float = 0) -> Json:
    return status(observed, previous=previous or {}, now=NOW + timedelta(seconds=later))


def scaling_active(of: Json) -> tuple[str, str]:
    found = next(item for item in of["conditions"] if item["type"] == "ScalingActive")
    return found["status"], found["reason"]


def test_the_autoscalers_numbers_and_words_are_in_the_status() -> None:
    made = diagnosed(world([serving_pod()], [report()], of=SCALED, hpa=autoscaler()))
    assert made["scaling"] == {
        "desired": 1,
        "message": "HorizontalPodAutoscaler: recommended size matches current size; minReplicas 1, maxReplicas 5",
        "metrics": ["cpu 43% of 70%"],
    }
    assert scaling_active(made) == ("True", "Scaling")


def test_an_objective_that_no_number_of_pods_keeps_is_told_where_scaling_is_told() -> None:
    decision = ScalingDecision(
        id="d",
        at=unix(0),
        replicas=1,
        known=True,
        least=1,
        most=5,
        message="load 0.2",
        hint="one inference takes 1 s",
    )
    observed = world([serving_pod()], [report()], of=SCALED, hpa=autoscaler())
    made = diagnosed(replace(observed, decision=decision))
    assert scaling_active(made) == ("True", "ObjectiveTooShort")


def test_an_autoscaler_at_its_limit_says_so() -> None:
    limited = [
        condition("AbleToScale", "True", reason="SucceededRescale", message="updated the target scale to 5"),
        condition("ScalingActive", "True", reason="ValidMetricFound", message="calculated a replica count"),
        condition(
            "ScalingLimited",
            "True",
            reason="TooManyReplicas",
            message="the desired replica count is more than the maximum replica count",
        ),
    ]
    observed = world(
        [serving_pod()],
        [report()],
        of=SCALED,
        told=deployment(5, total=1),
        hpa=autoscaler(cpu=210, desired=5, conditions=limited),
    )
    assert diagnosed(observed)["scaling"]["message"] == (
        "HorizontalPodAutoscaler: the desired replica count is more than the maximum replica count;"
        " minReplicas 1, maxReplicas 5"
    )


@pytest.mark.parametrize(
    ("spec", "current", "line"),
    [
        (
            {"type": "Resource", "resource": {"name": "memory", "target": {"averageValue": "2Gi"}}},
            {"type": "Resource", "resource": {"name": "memory", "current": {"averageValue": "1536Mi"}}},
            "memory 1536Mi per pod of 2Gi per pod",
        ),
        (
            {"type": "External", "external": {"metric": {"name": "queue"}, "target": {"averageValue": "10"}}},
            {"type": "External", "external": {"metric": {"name": "queue"}, "current": {"averageValue": "12500m"}}},
            "queue 12500m per pod of 10 per pod",
        ),
        (
            {
                "type": "Object",
                "object": {
                    "metric": {"name": "rps"},
                    "describedObject": {"kind": "Ingress", "name": "front"},
                    "target": {"value": "2k"},
                },
            },
            {"type": ""},
            "rps Ingress/front unknown of 2k",
        ),
    ],
)
def test_every_kind_of_metric_has_its_value_and_its_target(spec: Json, current: Json, line: str) -> None:
    hpa = autoscaler()
    hpa["spec"]["metrics"] = [spec]
    hpa["status"]["currentMetrics"] = [current]
    assert diagnosed(world([serving_pod()], [report()], of=SCALED, hpa=hpa))["scaling"]["metrics"] == [line]


def test_a_new_autoscaler_is_not_blamed_for_having_no_metrics_yet() -> None:
    for hpa in (autoscaler(created=-30, cpu=None, conditions=BLIND), autoscaler(created=-30, cpu=None, conditions=[])):
        made = diagnosed(world([serving_pod(ready_since=-40)], [report()], of=SCALED, hpa=hpa))
        assert scaling_active(made) == ("Unknown", "MetricsPending")
        assert "reasons" not in made


def test_an_autoscaler_is_not_blamed_while_no_pod_has_been_ready_for_a_minute() -> None:
    hpa = autoscaler(cpu=None, conditions=BLIND)
    loading = world(
        [pod(sidecar=running(), server=running(-20))], [report(model(ModelState.LOADING))], of=SCALED, hpa=hpa
    )
    just_ready = world([serving_pod(ready_since=-20)], [report()], of=SCALED, hpa=hpa)
    for observed in (loading, just_ready):
        assert scaling_active(diagnosed(observed)) == ("Unknown", "MetricsPending")
    assert scaling_active(diagnosed(just_ready, later=60)) == ("False", "MetricsUnavailable")


def test_a_blind_autoscaler_is_reported_in_its_own_words_and_the_service_stays_ready() -> None:
    made = diagnosed(world([serving_pod()], [report()], of=SCALED, hpa=autoscaler(cpu=None, conditions=BLIND)))
    assert scaling_active(made) == ("False", "MetricsUnavailable")
    assert "no metrics returned from resource metrics API" in made["reasons"][0]["message"]
    assert made["scaling"]["metrics"] == ["cpu unknown of 70%"]
    assert made["conditions"][0]["status"] == "True"


def test_where_nothing_can_scale_nothing_is_expected_of_the_autoscaler() -> None:
    fixed = world([serving_pod()], [report()], hpa=autoscaler(high=1, cpu=None, conditions=BLIND))
    made = diagnosed(fixed)
    assert scaling_active(made) == ("False", "Manual")
    assert "reasons" not in made
    assert made["scaling"] == {"desired": 1, "message": "minReplicas and maxReplicas are 1"}


def test_the_wanted_number_is_the_deployments_within_the_bounds() -> None:
    for told, wanted in ((1, 2), (3, 3), (9, 4), (0, 2)):
        observed = world(of=service(scaling={"minReplicas": 2, "maxReplicas": 4}), told=deployment(told, total=0))
        assert diagnosed(observed)["replicas"] == f"0/{wanted}"


def test_a_models_state_is_the_one_that_matters_most_over_all_pods() -> None:
    pods = [serving_pod("a"), serving_pod("b"), pod("c", sidecar=running())]
    ready = model(ModelState.READY, serving=True, versions=("2", "10"), load_seconds=1.234)
    for other, state, reason in (
        (model(ModelState.FETCHING), "Fetching", None),
        (model(ModelState.FETCH_FAILED, "404 Not Found"), "FetchFailed", "404 Not Found"),
    ):
        made = diagnosed(
            world(pods, [report(ready), report(ready), report(other)], of=service(scaling={"minReplicas": 3}))
        )
        entry = {"name": "resnet", "state": state, "ready": "2/3", "versions": ["2", "10"], "loadSeconds": 1.23}
        assert made["models"] == [{**entry, **({"reason": reason} if reason else {})}]


def test_a_model_that_nobody_reported_is_unknown_and_one_that_was_left_out_is_pending() -> None:
    assert diagnosed(world([pod()]))["models"] == [{"name": "resnet", "state": "Unknown", "ready": "0/1"}]
    two = service(models=2)
    made = diagnosed(world([serving_pod()], [report()], of=two))
    assert [(entry["name"], entry["state"]) for entry in made["models"]] == [
        ("resnet", "Ready"),
        ("resnet-1", "Pending"),
    ]


def test_what_the_resource_overrides_in_the_source_is_said() -> None:
    overridden = model(ModelState.READY, serving=True, conflicts=("max_batch_size",))
    made = diagnosed(world([serving_pod()], [report(overridden)]))
    loaded = next(item for item in made["conditions"] if item["type"] == "ModelsLoaded")
    assert loaded["status"] == "True"
    assert "resnet: max_batch_size" in loaded["message"]


def test_a_cold_start_is_taken_apart_into_its_phases() -> None:
    made = diagnosed(world([serving_pod(created=-300)], [report()]))
    # created -300, placed -299, sidecar -290, fetched -284, server -280, answers -270, ready -241
    assert made["coldStart"] == {
        "samples": 1,
        "p50": 59.0,
        "p95": 59.0,
        "phases": {"schedule": 1.0, "pull": 13.0, "fetch": 6.0, "start": 10.0, "load": 29.0},
    }


def test_cold_starts_are_the_newest_twenty_and_their_95th_percentile_is_one_that_happened() -> None:
    pods = [serving_pod(f"resnet-{index:02}", created=-300 - index) for index in range(30)]
    reports = [report(ready_at=unix(-200)) for _ in pods]
    made = diagnosed(world(pods, list(reports), of=service(scaling={"minReplicas": 30})))
    assert (made["coldStart"]["samples"], made["coldStart"]["p50"], made["coldStart"]["p95"]) == (20, 109.5, 118.0)


def test_a_restarted_pod_is_no_cold_start() -> None:
    made = diagnosed(world([serving_pod(server_more={"restartCount": 1})], [report()]))
    assert "coldStart" not in made


def test_measurements_stay_while_the_template_does() -> None:
    before = diagnosed(world([serving_pod()], [report()]))
    gone = diagnosed(world(told=deployment(1, total=0)), before)
    assert gone["coldStart"] == before["coldStart"]
    assert "coldStart" not in diagnosed(world(told=deployment(1, total=0)), {**before, "template": {"hash": "other"}})


def test_where_clients_go_and_what_selects_the_pods() -> None:
    made = diagnosed(world([serving_pod()], [report()], of=service(endpoint={"ports": {"http": 9000}})))
    assert made["url"] == "http://resnet.demo.svc:9000"
    assert made["selector"] == (
        "app.kubernetes.io/name=triton,app.kubernetes.io/instance=resnet,serving.nereus.dev/service=resnet"
    )
    assert (made["replicas"], made["currentReplicas"]) == ("1/1", 1)
    assert made["template"] == {"revision": "resnet-1f6c2a9be0", "hash": "1f6c2a9be0"}
    assert made["resolved"]["image"] == "registry.example/tritonserver:24.10-py3"
