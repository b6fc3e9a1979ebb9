"""The autoscaler of a service: bounds, metrics, and none where a person decides."""

from __future__ import annotations

from typing import Any

import pytest

from nereus.api.decision import ScalingDecision
from nereus.api.service import read
from nereus.api.spec.scaling import Strategy
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


@pytest.mark.parametrize(("limit", "most", "limited"), [(None, 6, False), (12, 6, False), (11, 5, True), (3, 1, True)])
def test_a_limit_of_gpus_lowers_the_most_pods_to_those_that_fit(limit: int | None, most: int, limited: bool) -> None:
    scaling = {"maxReplicas": 6, **({"limits": {"gpus": limit}} if limit else {})}
    told = read(service(gpu={"count": 2}, scaling=scaling))
    manifest = hpa(told)
    assert manifest is not None
    assert (manifest["spec"]["maxReplicas"], told.gpu_limited) == (most, limited)
    # A floor from before the limit was lowered goes with it.
    held = hpa(told, live_floor=6)
    assert held is not None
    assert held["spec"]["minReplicas"] <= most


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


def decided(replicas: int, *, known: bool = True, least: int = 1, most: int = 8) -> ScalingDecision:
    return ScalingDecision(
        id="1", at=0.0, replicas=replicas, known=known, least=least, most=most, message="why", limited_by="Nothing"
    )


PREDICTIVE = {"strategy": "Predictive", "minReplicas": 1, "maxReplicas": 8}


@pytest.mark.parametrize(
    ("decision", "live", "expected"),
    [
        (decided(5), 1, (5, 8)),
        (decided(5, most=3), 5, (3, 3)),
        (decided(2, known=False), 5, (5, 8)),  # unknown holds what is there
        (decided(2, known=False, most=4), 5, (4, 4)),
        (decided(4, known=False), None, (4, 8)),  # somebody deleted the autoscaler
        (None, 5, (5, 8)),  # an operator that just started
        (None, None, (1, 8)),
        (None, 20, (8, 8)),
    ],
)
def test_the_floor_is_the_decision_and_stays_while_nothing_is_known(
    decision: ScalingDecision | None, live: int | None, expected: tuple[int, int]
) -> None:
    manifest = hpa(read(service(scaling=PREDICTIVE)), decision=decision, live_floor=live, external=True, tolerance=True)
    assert manifest is not None
    spec = manifest["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == expected
    assert [metric["type"] for metric in spec["metrics"]] == ["External", "ContainerResource"]
    assert spec["metrics"][0]["external"]["target"] == {"type": "AverageValue", "averageValue": "1"}
    assert spec["behavior"]["scaleUp"]["tolerance"] == "0"


def test_advice_changes_nothing_of_the_autoscaler() -> None:
    advised = hpa(
        read(service(scaling={**PREDICTIVE, "mode": "Advise"})), decision=decided(5), live_floor=3, external=True
    )
    assert advised == hpa(read(service(scaling={**PREDICTIVE, "strategy": "Metrics"})))


def test_what_was_taken_when_the_strategy_was_absent_stays() -> None:
    old = {**service(scaling={"maxReplicas": 3}), "status": {"resolved": {"strategy": "Metrics"}}}
    assert read(old, absent_strategy=Strategy.PREDICTIVE).strategy is Strategy.METRICS
    assert read(service(), absent_strategy=Strategy.PREDICTIVE).strategy is Strategy.PREDICTIVE
    assert read(service()).strategy is Strategy.METRICS


@pytest.mark.parametrize(
    ("scaling", "words"),
    [
        (
            {
                "schedules": [
                    {"name": "s", "timeZone": "Europe/Nowhere", "from": "08:00", "to": "09:00", "maxReplicas": 2}
                ]
            },
            "is not in the time zone database",
        ),
    ],
)
def test_a_zone_that_does_not_exist_is_named(scaling: dict[str, Any], words: str) -> None:
    found = problems(read(service(scaling={**PREDICTIVE, **scaling})))
    assert [words in problem.message for problem in found] == [True]


def test_fields_of_the_forecast_are_refused_where_they_would_do_nothing() -> None:
    found = problems(read(service(scaling={"objective": {"latency": "1s"}})))
    assert [problem.path for problem in found] == ["spec.scaling.objective"]
    assert not problems(read(service(scaling={"objective": {"latency": "1s"}}), absent_strategy=Strategy.PREDICTIVE))
