"""The operator with exactly the rights that the chart grants: they suffice, each is needed, none is about Secrets.

Every call goes through a proxy that writes it down; the operator's own token goes along, so the real API server
decides. When the operator has lived through everything, the rights are taken away one at a time: each time a call that
it made must be refused. Two sets of values reach every rule of the chart: all namespaces with a Prometheus and GPU
agents, and one namespace with the External Metrics API.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from hack.chart_lint import CASES
from localcluster.config import find_cluster
from nereus.alerting.catalogue import NAMES
from nereus.gpu.usage import DeviceUsage, NodeUsage, PodUsage
from tests.harness import chart, monitoringkinds
from tests.harness.apiserver import Api, Json, eventually
from tests.harness.faulty_proxy import FaultyProxy
from tests.harness.gpunodes import SHARES, AddNode
from tests.harness.operator import Operator
from tests.harness.prometheus import free_port, respond
from tests.harness.rights import RBAC, REFUSED, Ask, Grant, allowed, asked, granted, take_away_one_by_one, unneeded
from tests.harness.services import Services
from tests.harness.traffic import Traffic
from tests.tiers import INTEGRATION_CLUSTER

pytestmark = pytest.mark.usefixtures("sidecars")

APPLIED = (
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "APIService",
    "ConfigMap",
    "Service",
)
REGISTRATION = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io"
ROLE_OF_THE_CLUSTER = "extension-apiserver-authentication-reader"
MODEL = {"name": "m", "source": {"uri": "configmap://models/m"}, "backend": "python", "maxBatchSize": 8}
MINE = {"minReplicas": 2, "maxReplicas": 3}
VALUES = {
    "cluster": "prometheus.url={prometheus},gpu.agent.enabled=true,gpu.evictAfterSeconds=1",
    "namespace": "watchNamespaces={{{namespace}}},externalMetrics.enabled=true",
}
"""Under these the operator lives through everything; between them they render every rule."""
WITHOUT_DEFINITION = ("--set", "crds.install=false")
"""It is there already, and long."""
GIB = 2**30
GENEROUS = 60.0
"""Seconds: nothing here is about speed."""


class Agent:
    """A GPU agent's answers in the place of a node's: every pod of a service uses 7 GiB. No GPU is here to be filled;
    the real agent and eviction by its word are tested in tests/e2e/test_gpu.py."""

    def __init__(self, services: Services, name: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                pods = services.all_of("Pod", name)
                respond(self, 200, _usage(pods).to_json().encode(), "application/json")

            def log_message(self, *_: object) -> None:
                """Nobody reads a line per question."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _usage(pods: list[Json]) -> NodeUsage:
    found = [
        PodUsage(
            uid=pod["metadata"]["uid"],
            namespace=pod["metadata"]["namespace"],
            pod=pod["metadata"]["name"],
            container="triton",
            device="GPU-0",
            used_bytes=7 * GIB,
        )
        for pod in pods
    ]
    device = DeviceUsage(uuid="GPU-0", total_bytes=16 * GIB, used_bytes=7 * GIB * len(found))
    return NodeUsage(node="shares", devices=(device,), pods=tuple(found))


@pytest.fixture
def proxy(api: Api) -> Iterator[FaultyProxy]:
    with FaultyProxy(api.kubeconfig, own_identity=False) as running:
        yield running


@pytest.fixture
def traffic(api: Api, tmp_path: Path) -> Iterator[Traffic]:
    with Traffic(api, tmp_path / "prometheus") as running:
        yield running


@pytest.fixture
def agent(services: Services) -> Iterator[Agent]:
    running = Agent(services, "hungry")
    yield running
    running.stop()


@pytest.fixture
def release(api: Api) -> Iterator[str]:
    """The namespace and name of the release; what lies outside of it is taken away after the test."""
    name = f"op-{uuid.uuid4().hex[:8]}"
    assert api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}}).accepted
    yield name
    # The registration first: while it is there and nobody answers, no namespace can be deleted.
    for kinds in ("apiservice,clusterrole,clusterrolebinding", "rolebinding"):
        api.kubectl("-n", "kube-system", "delete", kinds, "-l", f"app.kubernetes.io/instance={name}")
    api.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="module")
def monitoring_kinds(api: Api) -> Iterator[None]:
    """A cluster that knows the kinds of prometheus-operator."""
    made = monitoringkinds.install(api)
    yield
    monitoringkinds.remove(api, made)


class Installed:
    """What the chart makes of these values, as far as rights and registration go, on the API server."""

    def __init__(self, api: Api, release: str, *values: str) -> None:
        self._api = api
        self.release = release
        self.objects = chart.rendered(release, *values, *WITHOUT_DEFINITION)
        (deployment,) = [item for item in self.objects if item["kind"] == "Deployment"]
        self._pod = deployment["spec"]["template"]["spec"]
        self.account = str(self._pod["serviceAccountName"])
        applied = yaml.safe_dump_all([item for item in self.objects if item["kind"] in APPLIED])
        done = api.kubectl("apply", "--server-side", "-f", "-", stdin=applied)
        assert done.returncode == 0, done.stderr

    def grants(self) -> list[Grant]:
        path = f"{RBAC}/namespaces/kube-system/roles/{ROLE_OF_THE_CLUSTER}"
        return granted(self.objects, self.account, foreign=[self._api.get(path) | {"kind": "Role"}])

    def token(self) -> str:
        made = self._api.kubectl("-n", self.release, "create", "token", self.account)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def variables(self, **instead: str) -> dict[str, str]:
        """What the operator's pod is told; `instead` gives values for here to those that it is told at all."""
        told = {entry["name"]: entry["value"] for entry in self._pod["containers"][0]["env"] if "value" in entry}
        kept = ("NEREUS_PROMETHEUS", "NEREUS_EXTERNAL", "NEREUS_GPU", "NEREUS_WATCH")
        return {name: instead.get(name, value) for name, value in told.items() if name.startswith(kept)}

    def reach(self, port: int) -> None:
        """The Service of the release leads to a port of this machine."""
        name = next(item["metadata"]["name"] for item in self.objects if item["kind"] == "Service")
        endpoints = {
            "metadata": {"name": "here", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "metrics-api", "port": port, "protocol": "TCP"}],
            "endpoints": [{"addresses": [find_cluster(INTEGRATION_CLUSTER).addresses.host]}],
        }
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self.release}/endpointslices"
        answer = self._api.request("POST", path, endpoints)
        assert answer.accepted, answer.message


def asks_of_admission(services: Services) -> Ask:
    """Asked by an admission plug-in that this API server does not run (OwnerReferencesPermissionEnforcement), for every
    object that is made with an owner whose deletion waits for it."""
    assert services.child("Deployment")["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] is True
    return Ask("serving.nereus.dev", "modelservices/finalizers", "update", services.namespace, "svc")


@pytest.mark.usefixtures("monitoring_kinds")
@pytest.mark.parametrize("scope", ["cluster", "namespace"])
def test_the_chart_grants_what_is_needed_and_nothing_else(
    api: Api,
    services: Services,
    release: str,
    proxy: FaultyProxy,
    *,
    traffic: Traffic,
    agent: Agent,
    add_node: AddNode,
    tmp_path: Path,
    scope: str,
) -> None:
    everywhere = scope == "cluster"
    values = VALUES[scope].format(prometheus=traffic.prometheus.url, namespace=services.namespace)
    installed = Installed(api, release, "--set", values)
    port = free_port()
    installed.reach(port)
    told = installed.variables(NEREUS_GPU_AGENTS=agent.address, NEREUS_EXTERNAL_METRICS_PORT=f"{port}")
    kubeconfig = proxy.kubeconfig_for_operator(tmp_path / "kubeconfig", token=installed.token())
    variables = told | ({"NEREUS_HURRY": "20"} if everywhere else {})
    with Operator(kubeconfig, lease_namespace=release, identity="op", log=tmp_path / "log", variables=variables):
        if everywhere:
            add_node("shares", SHARES)
            begin_with_a_prometheus_and_gpus(services, traffic)
        else:  # no node may be read: a spec is taken at its word
            services.apply("gpu", gpu={"count": 1})
            services.until_true("a GPU asked for", lambda: services.get("Deployment", "gpu"), seconds=GENEROUS)
        live(api, services, proxy)
        if everywhere:
            until_decided_and_evicted(services, proxy)
        eventually(lambda: _unavailable(api.get(REGISTRATION)), seconds=GENEROUS)
        grants, unseen = installed.grants(), asks_of_admission(services)
        eventually(
            lambda: f"{left}" if (left := unneeded(grants, asked(proxy.answers) | {unseen})) else None,
            seconds=GENEROUS,
        )
    assert not refused(proxy, services.namespace, release, nodes=everywhere)
    take_away_one_by_one(api, release, installed.account, grants, asked(proxy.answers) | {unseen})


def live(api: Api, services: Services, proxy: FaultyProxy) -> None:
    """Everything that makes the operator act, under any values."""
    services.apply("stuck", runtime={"nodeSelector": {"example.com/nowhere": "1"}})
    services.apply(scaling=MINE)
    services.until_ready(seconds=GENEROUS)
    services.until_true(
        "the alerts", lambda: monitoringkinds.rule(api, services.namespace) is not None, seconds=GENEROUS
    )
    services.apply(scaling=MINE, alerts={"disable": [*NAMES]})
    services.until_true("no alerts", lambda: monitoringkinds.rule(api, services.namespace) is None, seconds=GENEROUS)
    services.apply(scaling=MINE, models=[MODEL, {**MODEL, "name": "second"}])
    services.until_ready(seconds=GENEROUS)
    eventually(lambda: _lifted(services, proxy), seconds=GENEROUS)
    services.apply(scaling={"strategy": "Manual", "replicas": 2})
    services.until_true("no autoscaler", lambda: services.get("HorizontalPodAutoscaler") is None, seconds=GENEROUS)
    # More templates than are kept.
    for number in range(12):
        annotations = {"example.com/n": f"{number}"}
        services.apply(scaling={"strategy": "Manual", "replicas": 0}, runtime={"podAnnotations": annotations})
        services.until_true(f"template {number}", lambda n=f"{number}": _number(services) == n, seconds=GENEROUS)  # type: ignore[misc]


def begin_with_a_prometheus_and_gpus(services: Services, traffic: Traffic) -> None:
    """A service with load, and one whose pods use more GPU memory than they may."""
    services.apply(
        "ahead",
        scaling={
            **{"strategy": "Predictive", "minReplicas": 1, "maxReplicas": 4},
            **{"capacity": {"inferencesPerSecond": 100}, "forecast": {"horizon": "30s"}},
        },
    )
    traffic.rates[services.namespace, "ahead"] = 250
    services.apply("hungry", gpu={"memory": "6Gi", "onExceed": "Evict"})


def until_decided_and_evicted(services: Services, proxy: FaultyProxy) -> None:
    services.until_true("ahead of the load", lambda: _floor(services, "ahead") >= 2, seconds=2 * GENEROUS)
    services.until_true("evicted", lambda: _done(proxy, "pods/eviction", "create"), seconds=2 * GENEROUS)


def refused(proxy: FaultyProxy, *namespaces: str, nodes: bool) -> list[str]:
    """Calls that were refused, as far as they are about these namespaces or about none: those of other tests may be
    ending, and nothing may be made in them. `nodes`: whether the operator may list them."""
    return [
        f"{call.verb} {call.path}: {status}"
        for call, status in proxy.answers
        if status in REFUSED
        and call.namespace in ("", "kube-system", *namespaces)
        and (nodes or (call.resource, call.verb) != ("nodes", "list"))
    ]


def _lifted(services: Services, proxy: FaultyProxy) -> str | None:
    """Lowers the pods until it was the operator who lifted them: an autoscaler does so too."""
    if _done(proxy, "deployments/scale", "patch"):
        return None
    if services.child("Deployment")["spec"]["replicas"] == MINE["minReplicas"]:
        services.patch("Deployment", {"spec": {"replicas": 1}}, subresource="scale")
    return "the operator lifts nothing to its floor"


def _done(proxy: FaultyProxy, resource: str, verb: str) -> bool:
    return any((call.resource, call.verb) == (resource, verb) and status < 300 for call, status in proxy.answers)


def _number(services: Services) -> str:
    annotations: Json = services.child("Deployment")["spec"]["template"]["metadata"].get("annotations", {})
    return str(annotations.get("example.com/n", ""))


def _floor(services: Services, name: str) -> int:
    found = services.get("HorizontalPodAutoscaler", name)
    return int(found["spec"]["minReplicas"]) if found else 0


def _unavailable(registration: Json) -> str | None:
    conditions = {entry["type"]: entry for entry in registration.get("status", {}).get("conditions", [])}
    available = conditions.get("Available", {})
    return None if available.get("status") == "True" else f"external metrics are not served: {available}"


def test_no_secret_is_readable_and_nothing_can_be_deleted_that_serves(
    api: Api, services: Services, release: str
) -> None:
    installed = Installed(api, release, "--set", f"watchNamespaces={{{services.namespace}}}")
    patterns = [pattern for grant in installed.grants() for pattern in grant.patterns]
    assert not [each for each in patterns if each.resource in ("secrets", "*") or "*" in (each.group, each.verb)]
    deletable = {each.resource for each in patterns if each.verb.startswith("delete")}
    assert deletable == {"controllerrevisions", "horizontalpodautoscalers", "prometheusrules"}
    for verb in ("get", "list", "watch"):
        for namespace in (services.namespace, release, "kube-system", ""):
            assert not allowed(api, release, installed.account, Ask("", "secrets", verb, namespace))


def test_no_other_values_grant_more_than_what_is_shown_to_be_needed() -> None:
    def rights(*values: str) -> set[tuple[str, str, str, str]]:
        objects = chart.rendered("release", *values, *WITHOUT_DEFINITION)
        (account,) = [
            item["spec"]["template"]["spec"]["serviceAccountName"] for item in objects if item["kind"] == "Deployment"
        ]
        foreign = {"kind": "Role", "metadata": {"name": ROLE_OF_THE_CLUSTER, "namespace": "kube-system"}, "rules": []}
        patterns = [pattern for grant in granted(objects, account, [foreign]) for pattern in grant.patterns]
        return {(each.group, each.resource, each.verb, each.name) for each in patterns}

    shown = set().union(
        *(rights("--set", text.format(prometheus="http://p:9090", namespace="n")) for text in VALUES.values())
    )
    for case in CASES:
        assert rights(*case.arguments) <= shown, case.what
