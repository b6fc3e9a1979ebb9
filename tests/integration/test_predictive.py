"""Nereus decides on a real control plane: real API server and autoscaler, a real Prometheus, pods on KWOK nodes.

The load is made up (KWOK pods have no Triton), and the policy's clock runs faster, because scaling down takes minutes.
What a fault must not do is shown beside a service without one: by the time its pods are taken away, those of the others
would have been too.
"""

from __future__ import annotations

import base64
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from localcluster.config import find_cluster
from tests.harness import externalmetrics
from tests.harness.apiserver import Api, Json, eventually
from tests.harness.operator import Operator
from tests.harness.prometheus import Gate, Pod, back_fill, free_port
from tests.harness.services import Services
from tests.harness.traffic import Spoil, Traffic
from tests.tiers import INTEGRATION_CLUSTER

pytestmark = pytest.mark.usefixtures("sidecars")

HURRY = "40"
HIGH, LOW = 420.0, 20.0
PEAK = 5
"""Pods that the high load needs at least."""
EXTERNAL = f"/apis/apiregistration.k8s.io/v1/apiservices/{externalmetrics.REGISTRATION}"
SLOW = "slow"
WAIT_SECONDS = 180.0
"""For what comes within seconds on a quiet machine."""
ANTI_AFFINITY: Json = {
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {
                "labelSelector": {"matchLabels": {"serving.nereus.dev/service": "no-node"}},
                "topologyKey": "kubernetes.io/hostname",
            }
        ]
    }
}


def scaling(name: str, **fields: object) -> Json:
    """This control plane has no metrics-server: an emergency metric that cannot be read would block scaling down, so
    the decision stands in for it. Its pods go as soon as they may."""
    metric = {"name": "nereus_replicas", "selector": {"matchLabels": {"serving.nereus.dev/service": name}}}
    external = {"metric": metric, "target": {"type": "AverageValue", "averageValue": "1"}}
    return {
        "strategy": "Predictive",
        "minReplicas": 1,
        "maxReplicas": 6,
        "capacity": {"inferencesPerSecond": 100},
        "forecast": {"horizon": "30s"},
        "metrics": [{"type": "External", "external": external}],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
        **fields,
    }


@dataclass(frozen=True)
class Ground:
    """The control plane, the traffic, and where the operator lives."""

    api: Api
    traffic: Traffic
    home: str
    logs: Path

    def operator(
        self, identity: str, *, prometheus: str = "", home: str = "", watch: Sequence[str] = (), register: bool = True
    ) -> Operator:
        """One more replica; registered for external metrics as a pod behind the chart's Service would be."""
        port = free_port()
        if register:
            self.endpoint(identity, port)
        variables = {
            "NEREUS_HURRY": HURRY,
            "NEREUS_PROMETHEUS_URL": prometheus or self.traffic.prometheus.url,
            "NEREUS_PROMETHEUS_TIMEOUT": "5",
            "NEREUS_PROMETHEUS_SCRAPE_INTERVAL": "1",
            "NEREUS_PROMETHEUS_WINDOW": "4",
            **({"NEREUS_EXTERNAL_METRICS_PORT": str(port)} if register else {}),
        }
        return Operator(
            self.api.kubeconfig,
            lease_namespace=home or self.home,
            identity=identity,
            log=self.logs / f"{identity}.log",
            watch=tuple(watch),
            variables=variables,
            forked=True,
        )

    def endpoint(self, name: str, port: int) -> None:
        host = find_cluster(INTEGRATION_CLUSTER).addresses.host
        body = externalmetrics.endpoints(self.home, "nereus", name=name, host=host, port=port)
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self.home}/endpointslices"
        self.api.request("DELETE", f"{path}/{name}")
        made = self.api.request("POST", path, body)
        assert made.accepted, made.message

    def no_endpoint(self, name: str) -> None:
        gone = self.api.request("DELETE", f"/apis/discovery.k8s.io/v1/namespaces/{self.home}/endpointslices/{name}")
        assert gone.accepted, gone.message

    def read(self, services: Services, name: str = "svc") -> int | None:
        """The external metric as the autoscaler gets it; None while it cannot be read."""
        selector = f"labelSelector=serving.nereus.dev%2Fservice%3D{name}"
        path = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{services.namespace}/nereus_replicas?{selector}"
        answer = self.api.request("GET", path)
        return int(answer.body["items"][0]["value"]) if answer.accepted else None


@pytest.fixture(scope="module")
def ground(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    home = f"op-{uuid.uuid4().hex[:8]}"
    assert api.request("POST", "/api/v1/namespaces", {"metadata": {"name": home}}).accepted
    with Traffic(api, tmp_path_factory.mktemp("prometheus")) as traffic:
        try:
            register(api, home)
            yield Ground(api, traffic, home, tmp_path_factory.mktemp("operators"))
        finally:
            # First of all, and before any namespace: while it is there and nobody answers, none can be deleted.
            api.request("DELETE", EXTERNAL)
            api.request("DELETE", f"/api/v1/namespaces/{home}")


def register(api: Api, home: str) -> None:
    """The External Metrics API for processes on this machine, as the chart does it for pods."""
    for path, body in (
        (f"/api/v1/namespaces/{home}/services", externalmetrics.service(home, "nereus")),
        (f"/api/v1/namespaces/{home}/configmaps", {"metadata": {"name": "nereus-external-metrics"}}),
        (EXTERNAL.rpartition("/")[0], externalmetrics.registration(home, "nereus")),
    ):
        made = api.request("POST", path, body)
        assert made.accepted, made.message


def floor(services: Services, name: str = "svc") -> int:
    found = services.get("HorizontalPodAutoscaler", name)
    return int(found["spec"]["minReplicas"]) if found else 0


def replicas(services: Services, name: str = "svc") -> int:
    return int(services.child("Deployment", name)["spec"]["replicas"])


def status(services: Services, name: str = "svc") -> Json:
    found: Json = services.service(name).get("status", {}).get("scaling", {})
    return found


def until(services: Services, name: str, what: str, look: Callable[[Services, str], object]) -> None:
    services.until_true(f"{name}: {what}", lambda: look(services, name), seconds=WAIT_SECONDS)


def told(reasons: frozenset[str]) -> Callable[[Services, str], object]:
    """Whether it is said that the load is not known, for one of these reasons."""

    def look(services: Services, name: str) -> bool:
        condition = services.condition("MetricsAvailable", name)
        return condition.get("status") == "False" and condition["reason"] in reasons

    return look


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong for one service at its peak, and then is right again; the service is named like it.
    `reasons` are those of MetricsAvailable=False meanwhile, where it is told."""

    cause: Callable[[Ground, Services, str], None]
    clear: Callable[[Ground, Services, str], None]
    reasons: frozenset[str] = frozenset()
    floor: int = PEAK


def nothing(ground: Ground, services: Services, name: str) -> None:
    """The service is right by itself, or was made wrong once."""


def page(spoil: Spoil) -> Callable[[Ground, Services, str], None]:
    def cause(ground: Ground, services: Services, name: str) -> None:
        ground.traffic.spoiled[services.namespace, name] = spoil

    return cause


def well(ground: Ground, services: Services, name: str) -> None:
    del ground.traffic.spoiled[services.namespace, name]


def nan(pods: Sequence[Pod]) -> None:
    for pod in pods:
        pod.value = "NaN"


def silent(pods: Sequence[Pod]) -> None:
    for pod in pods:
        pod.dead = True


def half(pods: Sequence[Pod]) -> None:
    for number, pod in enumerate(pods):
        pod.dead = number % 2 == 0


def flapping(pods: Sequence[Pod]) -> None:
    """Back for less than a window of rates, again and again."""
    for pod in pods:
        pod.flaps = True


def pods_die_and_their_series_stay(ground: Ground, services: Services, name: str) -> None:
    ground.traffic.add_ghosts((services.namespace, name), PEAK, rate=1.0)
    page(silent)(ground, services, name)


def autoscaler_is_deleted(ground: Ground, services: Services, name: str) -> None:
    before = services.child("HorizontalPodAutoscaler", name)["metadata"]["uid"]
    assert services.delete("HorizontalPodAutoscaler", name).accepted

    def made_again() -> bool:
        found = services.get("HorizontalPodAutoscaler", name)
        return found is not None and found["metadata"]["uid"] != before and found["spec"]["minReplicas"] >= PEAK

    services.until_true("made again with its floor", made_again, seconds=WAIT_SECONDS)
    assert replicas(services, name) >= PEAK


def autoscaler_is_edited(ground: Ground, services: Services, name: str) -> None:
    services.patch("HorizontalPodAutoscaler", {"spec": {"minReplicas": 1, "maxReplicas": 2}}, name)
    until(services, name, "as it was", lambda at, of: floor(at, of) >= PEAK)
    assert services.child("HorizontalPodAutoscaler", name)["spec"]["maxReplicas"] == 6


def maximum_is_lowered(ground: Ground, services: Services, name: str) -> None:
    services.apply(name, scaling=scaling(name, maxReplicas=3))
    until(services, name, "not above the new maximum", lambda at, of: floor(at, of) == 3)
    until(services, name, "pods", lambda at, of: replicas(at, of) == 3)
    until(services, name, "said", lambda at, of: status(at, of).get("limitedBy") == "MaxReplicas")


def nodes_are_full(ground: Ground, services: Services, name: str) -> None:
    """More are asked for, and given up after a while (fifteen minutes of the policy)."""

    def given_up() -> bool:
        told = status(services, name)
        return told["limitedBy"] == "PendingReplicas" and "no node was found" in told["message"]

    services.until_true("given up", given_up, seconds=WAIT_SECONDS)
    until(services, name, "as many as have a node", lambda at, of: floor(at, of) <= 2)


def prometheus_is_slow(gate: Gate) -> Fault:
    def slow(ground: Ground, services: Services, name: str) -> None:
        gate.delay = 12.0

    def quick(ground: Ground, services: Services, name: str) -> None:
        gate.delay = 0.0

    return Fault(slow, quick, frozenset({"Slow"}))


FAULTS = {
    "not-a-number": Fault(page(nan), well, frozenset({"Invalid"})),
    "empty": Fault(page(silent), well, frozenset({"Missing", "Stale"})),
    "half": Fault(page(half), well, frozenset({"Partial"})),
    "ghosts": Fault(pods_die_and_their_series_stay, well, frozenset({"Missing", "Stale", "Partial", "Recovering"})),
    "flapping": Fault(page(flapping), well),
    "deleted": Fault(autoscaler_is_deleted, nothing, floor=1),
    "edited": Fault(autoscaler_is_edited, nothing, floor=1),
    "shrunk": Fault(maximum_is_lowered, nothing, floor=1),
    "no-node": Fault(nodes_are_full, nothing, floor=1),
}


@pytest.fixture
def idle_for_days(ground: Ground, services: Services) -> str:
    """A service whose past in Prometheus is three days without a single inference."""
    now = time.time() - 120
    labels = f'namespace="{services.namespace}",pod="idle-0",serving_nereus_dev_service="idle",model="m",version="1"'
    samples = [(now - 60 * minute, 0.0) for minute in range(3 * 1440, 0, -1)]
    ground.traffic.prometheus.stop()
    back_fill(ground.traffic.prometheus.store, {labels: samples}, family="nv_inference_count")
    ground.traffic.prometheus.start()
    return "idle"


def test_no_fault_takes_a_pod_away_and_each_that_passes_lets_them_go(
    ground: Ground, services: Services, idle_for_days: str
) -> None:
    """Also the first hour: every service here is new, and has its full load from the first moment on."""
    api, traffic = ground.api, ground.traffic
    apart = Services(api, f"{services.namespace}-slow")
    assert api.request("POST", "/api/v1/namespaces", {"metadata": {"name": apart.namespace}}).accepted
    with ExitStack() as stack:
        stack.callback(api.request, "DELETE", f"/api/v1/namespaces/{apart.namespace}")
        gate = Gate(traffic.prometheus.url)
        stack.callback(gate.stop)
        stack.callback(traffic.rates.clear)
        stack.enter_context(ground.operator("fleet", watch=[services.namespace]))
        stack.callback(ground.no_endpoint, "fleet")
        stack.enter_context(
            ground.operator("slow", prometheus=gate.url, home=apart.namespace, watch=[apart.namespace], register=False)
        )
        faults = {(services, name): fault for name, fault in FAULTS.items()}
        faults[apart, SLOW] = prometheus_is_slow(gate)

        everyone = ((services, "calm"), *faults)
        for where, name in everyone:
            runtime = {"affinity": ANTI_AFFINITY} if name == "no-node" else {}
            traffic.rates[where.namespace, name] = HIGH
            where.apply(name, scaling=scaling(name), runtime=runtime)
        traffic.rates[services.namespace, idle_for_days] = 0.0
        services.apply(idle_for_days, scaling=scaling(idle_for_days))
        for where, name in everyone:
            if name != "no-node":
                until(where, name, "floor", lambda at, of: floor(at, of) >= PEAK)
                where.until_ready(name, seconds=WAIT_SECONDS)
        until(services, "calm", "why", lambda at, of: "load " in status(at, of).get("message", ""))
        assert floor(services, idle_for_days) == 1

        for (where, name), fault in faults.items():
            fault.cause(ground, where, name)
        for where, name in everyone:
            traffic.rates[where.namespace, name] = LOW
        until(services, "calm", "lower", lambda at, of: floor(at, of) <= 2)
        until(services, "calm", "pods go", lambda at, of: replicas(at, of) <= 2)
        for (where, name), fault in faults.items():
            assert floor(where, name) >= fault.floor, f"{name}: {where.service(name)['status']}"
            assert replicas(where, name) >= fault.floor, name
        for (where, name), fault in faults.items():
            if fault.reasons:
                until(where, name, "said", told(fault.reasons))

        for (where, name), fault in faults.items():
            fault.clear(ground, where, name)
        traffic.rates[services.namespace, idle_for_days] = HIGH
        for where, name in faults:
            until(where, name, "lower", lambda at, of: floor(at, of) <= 2)
        for name in FAULTS:
            until(services, name, "pods go", lambda at, of: replicas(at, of) <= 2)
        until(services, idle_for_days, "woken", lambda at, of: floor(at, of) >= PEAK)


def test_replicas_and_prometheus_may_die_at_the_peak_and_the_metrics_api_may_be_gone(
    ground: Ground, services: Services
) -> None:
    traffic, mine = ground.traffic, (services.namespace, "svc")
    traffic.rates[mine] = HIGH
    services.apply(scaling=scaling("svc"))
    with ExitStack() as stack:
        stack.callback(traffic.rates.clear)
        leader = ground.operator("first", watch=[services.namespace])
        stack.callback(leader.kill)
        until(services, "svc", "floor", lambda at, of: floor(at, of) >= PEAK)
        eventually(lambda: None if ground.read(services) == floor(services) else "not served", seconds=WAIT_SECONDS)
        answering = leader.children()
        for pid in answering:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: None if leader.children() not in ([], answering) else "nobody answers", seconds=WAIT_SECONDS)
        eventually(lambda: None if ground.read(services) == floor(services) else "not served", seconds=WAIT_SECONDS)
        standby = stack.enter_context(ground.operator("second", watch=[services.namespace]))
        assert leader.leads

        answering = leader.children()
        leader.kill()
        eventually(lambda: "its process answers on" if any(map(_runs, answering)) else None, seconds=WAIT_SECONDS)
        ground.no_endpoint("first")
        read = ground.read
        eventually(lambda: None if (read(services) or 0) >= PEAK else "the standby is silent", seconds=WAIT_SECONDS)
        assert floor(services) >= PEAK
        eventually(lambda: None if standby.leads else "the standby does not lead", seconds=WAIT_SECONDS)
        assert floor(services) >= PEAK

        traffic.prometheus.kill()
        traffic.rates[mine] = LOW
        until(services, "svc", "blind", told(frozenset({"Unreachable"})))
        standby.kill()
        ground.no_endpoint("second")
        until(services, "svc", "the autoscaler is blind, too", lambda at, of: not _active(at, of))
        assert floor(services) >= PEAK
        assert replicas(services) >= PEAK

        third = stack.enter_context(ground.operator("third", watch=[services.namespace]))
        unread = 'nereus_operator_scaling_services{state="Unreachable"}'
        eventually(lambda: None if third.leads and third.metric(unread) == 1 else "no tick yet", seconds=WAIT_SECONDS)
        until(services, "svc", "the autoscaler reads again", _active)
        assert floor(services) >= PEAK, "lowered before anything was known"
        assert replicas(services) >= PEAK
        first_bundle = bundle(ground.api)

        traffic.prometheus.start()
        until(services, "svc", "lower", lambda at, of: floor(at, of) <= 2)
        until(services, "svc", "pods go", lambda at, of: replicas(at, of) <= 2)
        services.until_true(
            "seen", lambda: services.condition("MetricsAvailable").get("status") == "True", seconds=WAIT_SECONDS
        )
        until(services, "svc", "history", lambda at, of: (status(at, of).get("history") or [{}])[0].get("id"))

        ground.no_endpoint("third")
        traffic.rates[mine] = HIGH
        until(services, "svc", "floor without the metrics API", lambda at, of: floor(at, of) >= PEAK)
        until(services, "svc", "pods come", lambda at, of: replicas(at, of) >= PEAK)
        eventually(
            lambda: None if bundle(ground.api) != first_bundle else "no certificate was renewed", seconds=WAIT_SECONDS
        )
        assert b"BEGIN CERTIFICATE" in bundle(ground.api)


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _active(services: Services, name: str) -> bool:
    """Whether the autoscaler reads its metrics, by its own word."""
    conditions = services.child("HorizontalPodAutoscaler", name).get("status", {}).get("conditions", [])
    return any(item["type"] == "ScalingActive" and item["status"] == "True" for item in conditions)


def bundle(api: Api) -> bytes:
    """The certificates that the API server trusts."""
    return base64.b64decode(api.get(EXTERNAL)["spec"].get("caBundle", ""))
