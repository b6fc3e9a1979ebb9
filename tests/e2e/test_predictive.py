"""Predictive scaling with real parts throughout: kubelet, Triton, Prometheus, autoscaler, the operator's own pods."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from demo import install
from demo.kube import CommandError, Kube, condition_of
from tests.e2e.world import Json, World, model

pytestmark = pytest.mark.timeout(900)  # it waits for rare things, each for minutes where the machine is busy

SLEEPER = """
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            time.sleep(0.05)
            value = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", value * 2)]))
        return responses
"""
"""20 inferences a second and no more, without using the processor: nothing but the measured load says so."""
API_SERVICE = "v1beta1.external.metrics.k8s.io"


@pytest.fixture(autouse=True)
def _with_prometheus(kube: Kube) -> None:
    if not kube.routed:
        pytest.skip("needs the local cluster, whose Prometheus the operator reads")


def test_a_measured_load_brings_pods_and_the_autoscaler_reads_why_from_the_operators_own_pods(world: World) -> None:
    world.models_config_map(**{"sleeper.model.py": SLEEPER})
    sleeper = model("sleeper", source="configmap://models/sleeper", batching={"mode": "Off"})
    world.apply(models=[sleeper], scaling={"minReplicas": 1, "maxReplicas": 3})
    resource = world.wait_ready()
    assert resource["status"]["resolved"]["strategy"] == "Predictive"
    with (
        world.kube.address("svc", 8001, namespace=world.namespace) as address,
        world.load(address, protocol="grpc", clients=5, model="sleeper") as load,
    ):
        world.wait(lambda: autoscaler(world)["spec"]["minReplicas"] >= 2, "the floor to rise", seconds=120)
        world.wait(lambda: world.service()["status"]["replicas"][0] >= "2", "the pods to serve", seconds=120)
        # The figures stand in the status within a minute; what was acted upon, at once.
        world.wait(lambda: world.service()["status"]["scaling"].get("load", 0) > 0.5, "LOAD", seconds=120)
        told = world.service()["status"]["scaling"]
        assert 2 < told["capacity"] <= 20, "learned from Triton's counters, not declared; a busy machine is slower"
        assert told["floor"] >= 2
        assert "load" in told["history"][0]["message"]

        world.wait_condition("MetricsAvailable", "True", seconds=120)
        world.wait_condition("ScalingActive", "True", seconds=120)
        world.wait(lambda: reads_decision(world), "the autoscaler to read the decision", seconds=120)
        world.wait(lambda: len(trusted(world)) >= 2, "the certificates of both replicas", seconds=120)
        world.wait(lambda: answers(world, times=6), "both replicas to answer with the floor", seconds=180)

        # A replica that is gone comes again with a certificate of its own.
        before = trusted(world)
        world.wait(lambda: standbys(world), "a replica that does not lead", seconds=60)
        world.kube.kubectl("-n", install.NAMESPACE, "delete", "pod", standbys(world)[0], "--wait=false")
        world.wait(lambda: trusted(world) - before, "the certificate of the new replica", seconds=180)
        world.wait(lambda: answers(world, times=6), "the old and the new replica to answer", seconds=180)
    assert load.outcome.failed == 0, load.outcome.errors[:5]
    row = world.kube.kubectl("-n", world.namespace, "get", "msvc", "svc", "-o", "json")
    assert json.loads(row)["status"]["scaling"]["forecast"] > 0


def test_while_no_operator_runs_the_processor_adds_pods_and_none_is_taken_away(world_alone: World) -> None:
    world = world_alone
    world.models_config_map()
    world.apply(models=[model(parameters={"rounds": "200"})], scaling={"minReplicas": 1, "maxReplicas": 3})
    world.wait_ready()
    world.wait(lambda: reads_decision(world), "the autoscaler to read the decision", seconds=120)
    with no_operator(world):
        assert (replicas(world), autoscaler(world)["spec"]["minReplicas"]) == (1, 1)
        with (
            world.kube.address("svc", 8001, namespace=world.namespace) as address,
            world.load(address, protocol="grpc", clients=4) as load,
        ):
            world.wait(lambda: replicas(world) > 1, "more pods, for the processor's sake", seconds=180)
            world.wait(lambda: ready_pods(world) > 1, "two pods to serve", seconds=120)
            assert autoscaler(world)["spec"]["minReplicas"] == 1, "nobody is there who could have raised the floor"
        assert load.outcome.failed == 0, load.outcome.errors[:5]
        # Without load the autoscaler wants fewer again; without the decision it takes none away, and says so.
        world.wait(lambda: "nereus_replicas" in unread(world), "the autoscaler to miss the decision", seconds=120)
        assert replicas(world) > 1
    world.wait(
        lambda: answers(world, times=2) and not unread(world),
        "the decisions of the operator that came back",
        seconds=300,
    )


@contextmanager
def no_operator(world: World) -> Iterator[None]:
    """Every replica of the operator gone; as many as before come back, whatever happened."""

    def scale(count: int) -> None:
        world.kube.kubectl("-n", install.NAMESPACE, "scale", f"deployment/{install.RELEASE}", f"--replicas={count}")

    deployment = world.kube.get("deployment", install.RELEASE, namespace=install.NAMESPACE)
    assert deployment is not None
    scale(0)
    try:
        world.wait(lambda: not operators(world), "the end of the operator", seconds=90)
        yield
    finally:
        scale(deployment["spec"]["replicas"])
        wait_for = ("rollout", "status", f"deployment/{install.RELEASE}", "--timeout=300s")
        world.kube.kubectl("-n", install.NAMESPACE, *wait_for, timeout=320)


def replicas(world: World) -> int:
    deployment = world.kube.get("deployment", "svc", namespace=world.namespace)
    assert deployment is not None
    return int(deployment["spec"]["replicas"])


def ready_pods(world: World) -> int:
    return sum(condition_of(pod, "Ready").get("status") == "True" for pod in world.pods())


def unread(world: World) -> str:
    """The autoscaler's words on a metric without which it does not scale; empty while it has them."""
    active = condition_of(autoscaler(world), "ScalingActive")
    return str(active["message"]) if active.get("status") == "False" else ""


def autoscaler(world: World) -> Json:
    return world.kube.get("hpa", "svc", namespace=world.namespace) or {"spec": {"minReplicas": 0}}


def reads_decision(world: World) -> bool:
    metrics = autoscaler(world).get("status", {}).get("currentMetrics") or []
    return any((metric.get("external") or {}).get("metric", {}).get("name") == "nereus_replicas" for metric in metrics)


def answers(world: World, *, times: int) -> bool:
    """Whether the External Metrics API gives the floor, so many times in a row: each call is for another replica."""
    selector = "labelSelector=serving.nereus.dev%2Fservice%3Dsvc"
    path = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{world.namespace}/nereus_replicas?{selector}"
    for _ in range(times):
        try:
            found = json.loads(world.kube.kubectl("get", "--raw", path))
        except CommandError:
            return False
        if int(found["items"][0]["value"]) != autoscaler(world)["spec"]["minReplicas"]:
            return False
    return True


def trusted(world: World) -> set[str]:
    """The certificates that the API server accepts from whoever answers."""
    text = world.kube.kubectl("get", "apiservice", API_SERVICE, "-o", "jsonpath={.spec.caBundle}")
    end = "-----END CERTIFICATE-----"
    return {part.strip() for part in base64.b64decode(text).decode().split(end) if part.strip()}


def standbys(world: World) -> list[str]:
    """The operator's pods that do not lead: other tests go on meanwhile."""
    lease = world.kube.get("lease", "nereus-operator", namespace=install.NAMESPACE) or {}
    names = {pod["metadata"]["name"] for pod in operators(world) if not pod["metadata"].get("deletionTimestamp")}
    return sorted(names - {lease["spec"]["holderIdentity"]})


def operators(world: World) -> list[Json]:
    """The operator's pods, those on their way out included."""
    return world.kube.items("pods", namespace=install.NAMESPACE, selector="app.kubernetes.io/component=operator")
