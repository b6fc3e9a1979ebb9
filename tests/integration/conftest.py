"""A real control plane (API server, controller-manager, scheduler) for the tier, and a namespace for each test."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localcluster.config import find_cluster
from tests.harness import ground as grounds
from tests.harness.apiserver import Api, Json, eventually
from tests.harness.gpunodes import AddNode, gpu_node
from tests.harness.operator import Operator
from tests.harness.services import Services
from tests.tiers import INTEGRATION_CLUSTER, ROOT, integration_options

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/modelservices.serving.nereus.dev"


def _localcluster(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "localcluster", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=None,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"localcluster {' '.join(arguments)} failed: its own line is above"
    return done.stdout.strip()


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    """The API server, with the ModelService definition of this checkout established."""
    kubeconfig = Path(_localcluster("up", *integration_options(INTEGRATION_CLUSTER)))
    kubectl = Path(_localcluster("bin")) / "kubectl"
    server = Api(kubeconfig, kubectl=str(kubectl), scratch=tmp_path_factory.mktemp("api"))
    applied = server.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds/modelservices.yaml"))
    assert applied.returncode == 0, applied.stderr
    eventually(lambda: _not_served(server))
    return server


def _not_served(server: Api) -> str | None:
    """Established, and the present schema published: kubectl reads it from there."""
    conditions = (server.get(CRD).get("status") or {}).get("conditions") or []
    if {"Established": "True"}.items() - {entry["type"]: entry["status"] for entry in conditions}.items():
        return f"the definition is not established: {conditions}"
    served = server.request("GET", "/openapi/v3/apis/serving.nereus.dev/v1alpha1")
    return None if served.accepted else f"the schema is not published: {served.code}"


def _made_namespace(api: Api) -> str:
    name = f"it-{uuid.uuid4().hex[:8]}"
    created = api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    assert created.accepted, created.message
    # Pods are refused until a controller has made this; a refused ReplicaSet tries again less and less often.
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    eventually(lambda: None if api.request("GET", account).accepted else f"{name} has no default ServiceAccount")
    return name


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A fresh namespace, deleted after the test; its content goes with it."""
    name = _made_namespace(api)
    yield name
    api.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="session")
def empty_namespace(api: Api) -> Iterator[str]:
    """One namespace for all tests that store nothing: what they send is a dry run."""
    name = _made_namespace(api)
    yield name
    api.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="session")
def sidecars(api: Api) -> Iterator[None]:
    """Answers in the place of the sidecars of pods on KWOK nodes; inside the cluster's network namespace."""
    kubectl = str(Path(_localcluster("bin")) / "kubectl")
    pods = find_cluster(INTEGRATION_CLUSTER).addresses.kwok_pods
    inside = ["env", f"PYTHONPATH={ROOT / 'operator'}:{ROOT}", sys.executable, "-m", "tests.harness.sidecars"]
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "localcluster", "exec", "--name", INTEGRATION_CLUSTER, "--"),
            *(*inside, str(api.kubeconfig), kubectl, pods),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert "listening" in process.stdout.readline(), "the stand-in for the sidecars did not start"
            yield
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def operator(api: Api, sidecars: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """One operator that watches every namespace and leads, for the tests of a module."""
    namespace = f"op-{uuid.uuid4().hex[:8]}"
    created = api.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    assert created.accepted, created.message
    log = tmp_path_factory.mktemp("operator") / "log"
    with Operator(api.kubeconfig, lease_namespace=namespace, identity="op", log=log) as running:
        eventually(lambda: None if running.leads else "the operator does not lead")
        yield running
    api.request("DELETE", f"/api/v1/namespaces/{namespace}")


@pytest.fixture(scope="module")
def ground(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[grounds.Ground]:
    """Traffic, a Prometheus and a home for operators that decide, for the tests of a module."""
    with grounds.ground(api, tmp_path_factory.mktemp("ground")) as made:
        yield made


@pytest.fixture
def services(api: Api, namespace: str) -> Services:
    """ModelServices in a fresh namespace, and what became of them."""
    return Services(api, namespace)


@pytest.fixture
def add_node(api: Api, namespace: str) -> Iterator[AddNode]:
    """Makes a KWOK node with GPUs, tainted as GPU nodes are; removed after the test."""
    made = []

    def add(name: str, described: Json) -> None:
        node = gpu_node(f"{name}-{namespace}", described)
        answer = api.request("POST", "/api/v1/nodes", node)
        assert answer.accepted, answer.message
        made.append(node["metadata"]["name"])

    yield add
    for name in made:
        api.request("DELETE", f"/api/v1/nodes/{name}")


@pytest.fixture
def api_server(api: Api) -> Iterator[Callable[[str], None]]:
    """Ends and starts the API server of the cluster; it runs again after the test."""

    def component(command: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "localcluster", command, "--name", INTEGRATION_CLUSTER, "apiserver"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    yield component
    component("start")
    eventually(lambda: None if api.request("GET", "/readyz").accepted else "not ready", seconds=60)
