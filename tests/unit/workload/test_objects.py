"""The objects around the pods: how they are replaced, reached, protected and watched."""

from __future__ import annotations

from typing import Any

import pytest

from nereus.api import names
from nereus.api.service import ModelService, read
from nereus.workload.deployment import deployment
from nereus.workload.disruption import disruption_budget
from nereus.workload.monitor import pod_monitor
from nereus.workload.service import service_object
from tests.harness.resources import service as resource


def service(**spec: Any) -> ModelService:
    return read(resource(**spec))


def test_the_deployment_never_says_how_many_pods_there_are() -> None:
    for spec in ({}, {"scaling": {"minReplicas": 3}}, {"scaling": {"strategy": "Manual", "replicas": 2}}):
        assert "replicas" not in deployment(service(**spec), {})["spec"]


def test_no_pod_goes_before_its_successor_serves() -> None:
    update = deployment(service(), {})["spec"]["strategy"]["rollingUpdate"]
    assert update["maxUnavailable"] == 0
    assert update["maxSurge"] not in (0, "0%")


def test_the_service_has_both_protocols_on_the_ports_of_the_pods_by_name() -> None:
    spec = service_object(service(endpoint={"ports": {"http": 9000, "grpc": 9001}}))["spec"]
    assert {port["name"]: (port["port"], port["targetPort"]) for port in spec["ports"]} == {
        "http": (9000, "http"),
        "grpc": (9001, "grpc"),
    }
    assert spec["type"] == "ClusterIP"


def test_the_service_has_the_type_and_annotations_that_were_asked_for() -> None:
    endpoint = {"serviceType": "LoadBalancer", "serviceAnnotations": {"example.com/scheme": "internal"}}
    found = service_object(service(endpoint=endpoint))
    assert found["spec"]["type"] == "LoadBalancer"
    assert found["metadata"]["annotations"] == endpoint["serviceAnnotations"]


def test_a_node_drain_takes_one_pod_at_a_time_and_always_a_broken_one() -> None:
    spec = disruption_budget(service())["spec"]
    assert (spec["maxUnavailable"], spec["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")


def test_metrics_of_triton_and_of_the_sidecar_are_read() -> None:
    spec = pod_monitor(service())["spec"]
    assert [endpoint["port"] for endpoint in spec["podMetricsEndpoints"]] == ["metrics", "sidecar"]


@pytest.mark.parametrize("make", [service_object, disruption_budget, pod_monitor, lambda given: deployment(given, {})])
def test_every_object_is_ours_by_label_and_selects_our_pods(make: Any) -> None:
    manifest = make(service())
    assert manifest["metadata"]["labels"] == names.child_labels("svc")
    selector = manifest["spec"]["selector"]
    assert selector.get("matchLabels", selector) == names.selector_labels("svc")


def test_a_stored_service_owns_its_objects_and_one_that_is_not_stored_owns_nothing() -> None:
    assert "ownerReferences" not in disruption_budget(service())["metadata"]
    stored = read({**resource(), "metadata": {"name": "svc", "uid": "u-1"}})
    [owner] = disruption_budget(stored)["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == ("ModelService", "svc", "u-1", True)
