"""The autoscaler of a service: bounds, metrics, and none where a person decides."""

from __future__ import annotations

from typing import Any

import pytest

from nereus.api.service import read
from nereus.scaling.hpa import hpa, problems
from tests.harness.resources import service

EXTERNAL: dict[str, Any] = {
    "type": "External",
    "external": {"metric": {"name": "load"}, "target": {"type": "AverageValue"}},
}


def spec(**scaling: Any) -> dict[str, Any]:
    manifest = hpa(read(service(scaling=scaling)))
    assert manifest is not None
    result: dict[str, Any] = manifest["spec"]
    return result


def test_without_scaling_one_pod_runs_and_the_autoscaler_keeps_it() -> None:
    assert (spec()["minReplicas"], spec()["maxReplicas"]) == (1, 1)


@pytest.mark.parametrize(
    ("scaling", "bounds"),
    [({"minReplicas": 3}, (3, 3)), ({"maxReplicas": 5}, (1, 5)), ({"minReplicas": 2, "maxReplicas": 4}, (2, 4))],
)
def test_a_missing_bound_is_taken_from_the_other(scaling: dict[str, int], bounds: tuple[int, int]) -> None:
    found = spec(**scaling)
    assert (found["minReplicas"], found["maxReplicas"]) == bounds


def test_without_metrics_the_cpu_of_triton_decides() -> None:
    [metric] = spec(maxReplicas=2)["metrics"]
    assert metric["containerResource"] == {
        "name": "cpu",
        "container": "triton",
        "target": {"type": "Utilization", "averageUtilization": 70},
    }


def test_metrics_of_the_user_replace_ours_with_amounts_as_the_server_stores_them() -> None:
    target = {"type": "AverageValue", "averageValue": "2000m"}
    [metric] = spec(metrics=[{"type": "External", "external": {**EXTERNAL["external"], "target": target}}])["metrics"]
    assert metric["external"]["target"] == {"type": "AverageValue", "averageValue": "2"}
    assert metric["external"]["metric"] == {"name": "load"}


def test_behaviour_is_handed_over() -> None:
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 30}, "scaleUp": {"tolerance": "0.05"}}
    assert spec(behavior=behavior)["behavior"] == {
        "scaleDown": {"stabilizationWindowSeconds": 30},
        "scaleUp": {"tolerance": "50m"},
    }
    assert "behavior" not in spec()


def test_under_strategy_manual_there_is_none() -> None:
    assert hpa(read(service(scaling={"strategy": "Manual", "replicas": 3}))) is None


def test_a_metric_of_a_container_that_no_pod_has_is_told() -> None:
    target = {"type": "Utilization", "averageUtilization": 50}
    metric = {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "tritn", "target": target}}
    [problem] = problems(read(service(scaling={"metrics": [EXTERNAL, metric]})))
    assert problem.path == "spec.scaling.metrics[1].containerResource.container"
    assert "'tritn'" in problem.message
    assert "triton" in problem.message
