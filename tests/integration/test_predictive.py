"""Nereus decides on a real control plane: real API server and autoscaler, a real Prometheus, pods on KWOK nodes.

The load is made up (KWOK pods have no Triton), and the policy's clock runs faster, because scaling down takes minutes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from localcluster.config import find_cluster
from tests.harness.apiserver import Api, Json, eventually
from tests.harness.operator import Operator
from tests.harness.prometheus import free_port
from tests.harness.services import Services
from tests.harness.traffic import Traffic
from tests.tiers import INTEGRATION_CLUSTER

pytestmark = pytest.mark.usefixtures("sidecars")

EXTERNAL = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io"
SCALING: Json = {
    "strategy": "Predictive",
    "minReplicas": 1,
    "maxReplicas": 6,
    "capacity": {"inferencesPerSecond": 100},
    "forecast": {"horizon": "30s"},
    # This control plane has no metrics-server: an emergency metric that cannot be read would block scaling down.
    "metrics": [
        {
            "type": "External",
            "external": {
                "metric": {
                    "name": "nereus_replicas",
                    "selector": {"matchLabels": {"serving.nereus.dev/service": "svc"}},
                },
                "target": {"type": "AverageValue", "averageValue": "1"},
            },
        }
    ],
}


@pytest.fixture(scope="module")
def traffic(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traffic]:
    with Traffic(api, tmp_path_factory.mktemp("prometheus")) as running:
        yield running


@pytest.fixture(scope="module")
def home(api: Api) -> Iterator[str]:
    """The operator's namespace."""
    name = f"op-{uuid.uuid4().hex[:8]}"
    assert api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}}).accepted
    yield name
    api.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="module")
def port(api: Api, home: str) -> Iterator[int]:
    """Registers the External Metrics API for a process on this machine, as the chart does for pods."""
    number = free_port()
    registration(api, home, number)
    yield number
    # First of all, and before any namespace: while it is there and nobody answers, none can be deleted.
    api.request("DELETE", EXTERNAL)


def registration(api: Api, home: str, port: int) -> None:
    service = {"metadata": {"name": "nereus"}, "spec": {"ports": [{"name": "https", "port": 443, "targetPort": port}]}}
    endpoints = {
        "metadata": {"name": "nereus", "labels": {"kubernetes.io/service-name": "nereus"}},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [find_cluster(INTEGRATION_CLUSTER).addresses.host]}],
    }
    api_service = {
        "metadata": {"name": "v1beta1.external.metrics.k8s.io"},
        "spec": {
            "group": "external.metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"name": "nereus", "namespace": home, "port": 443},
        },
    }
    for path, body in (
        (f"/api/v1/namespaces/{home}/services", service),
        (f"/apis/discovery.k8s.io/v1/namespaces/{home}/endpointslices", endpoints),
        (f"/api/v1/namespaces/{home}/configmaps", {"metadata": {"name": "nereus-external-metrics"}}),
        (EXTERNAL.rpartition("/")[0], api_service),
    ):
        made = api.request("POST", path, body)
        assert made.accepted, made.message


@pytest.fixture(scope="module")
def operator(
    api: Api, traffic: Traffic, home: str, port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    log = tmp_path_factory.mktemp("operator") / "log"
    with Operator(
        api.kubeconfig,
        lease_namespace=home,
        identity="op",
        log=log,
        variables={
            "NEREUS_HURRY": "20",
            "NEREUS_PROMETHEUS_URL": traffic.prometheus.url,
            "NEREUS_EXTERNAL_METRICS_PORT": str(port),
        },
    ) as running:
        eventually(lambda: None if running.leads else "the operator does not lead")
        yield running


def floor(services: Services) -> int:
    return int(services.child("HorizontalPodAutoscaler")["spec"]["minReplicas"])


def replicas(services: Services) -> int:
    return int(services.child("Deployment")["spec"]["replicas"])


def scaling(services: Services) -> Json:
    found: Json = services.service().get("status", {}).get("scaling", {})
    return found


@pytest.mark.usefixtures("operator")
def test_a_load_raises_the_floor_bad_metrics_hold_it_and_good_ones_lower_it_again(
    services: Services, traffic: Traffic
) -> None:
    mine = (services.namespace, "svc")
    traffic.rates[mine] = 50
    services.apply(scaling=SCALING)
    services.until_ready()
    eventually(
        lambda: None if 0.3 < scaling(services).get("load", 0) < 0.7 else f"{services.service()['status']}", seconds=60
    )
    services.until_true("metrics", lambda: services.condition("MetricsAvailable").get("status") == "True", seconds=30)
    services.until_true("active", lambda: services.condition("ScalingActive").get("status") == "True", seconds=60)
    read = services.child("HorizontalPodAutoscaler")["status"]["currentMetrics"][0]["external"]
    assert read["current"] == {"averageValue": "1"}

    traffic.rates[mine] = 420
    services.until_true("floor", lambda: floor(services) >= 5, seconds=60)
    services.until_true("replicas", lambda: replicas(services) >= 5, seconds=10)
    services.until_ready(seconds=60)
    story = [message for _, reason, message in services.events() if reason == "Scaled"]
    assert any("Scaled floor 1 -> " in message and "load " in message for message in story), story
    high = floor(services)

    traffic.prometheus.kill()
    services.until_true("blind", lambda: services.condition("MetricsAvailable").get("status") == "False", seconds=60)
    assert services.condition("MetricsAvailable")["reason"] == "Unreachable"
    assert floor(services) == high
    traffic.rates[mine] = 20
    traffic.prometheus.start()
    services.until_true("seen", lambda: services.condition("MetricsAvailable").get("status") == "True", seconds=90)
    services.until_true("lower", lambda: floor(services) < high and replicas(services) < high, seconds=180)
    kept = scaling(services)["history"]
    assert len(kept) >= 2
    assert kept[0]["id"]
    del traffic.rates[mine]
