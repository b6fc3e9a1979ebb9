"""GPUs with a real scheduler: what nodes offer decides once, is kept, and what is missing is told at once; an eviction
that a real disruption budget holds back.

The GPU agents are a FAKE: pods on KWOK nodes have no process that a real one could measure.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nereus.gpu.usage import NodeUsage, PodUsage
from tests.harness.apiserver import MODEL_SERVICES, Api, Json, eventually
from tests.harness.gpunodes import SHARES, AddNode
from tests.harness.operator import Operator
from tests.harness.services import Services

pytestmark = pytest.mark.usefixtures("operator")

SLICES: Json = {
    "allocatable": {"nvidia.com/mig-1g.10gb": 1},
    "product": "NVIDIA-A100-SXM4-80GB",
    "memory": "81920",
    "sharing": "none",
    "strategy": "mixed",
}


class Agents:
    """FAKE: the answer of one GPU agent, as a test says it is."""

    def __init__(self) -> None:
        self.said = NodeUsage(node="none", simulated=True)
        agents = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = agents.said.to_json().encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
                """Requests are not logged."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    def measure(self, node: str, used: dict[str, int]) -> None:
        """GiB that Triton uses in each pod of a node, by uid of the pod."""
        pods = tuple(PodUsage(uid=uid, container="triton", used_bytes=amount * 2**30) for uid, amount in used.items())
        self.said = NodeUsage(node=node, simulated=True, driver="580", pods=pods)


@pytest.fixture(scope="module")
def agents() -> Iterator[Agents]:
    running = Agents()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture(scope="module")
def operator(api: Api, sidecars: None, agents: Agents, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """An operator that asks the fake agents, and looks at nodes and agents more often than usual."""
    namespace = f"op-{uuid.uuid4().hex[:8]}"
    created = api.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    assert created.accepted, created.message
    variables = {"NEREUS_GPU_AGENTS": agents.address, "NEREUS_GPU_EVICT_AFTER": "1", "NEREUS_HURRY": "5"}
    log: Path = tmp_path_factory.mktemp("operator") / "log"
    with Operator(api.kubeconfig, lease_namespace=namespace, identity="op", log=log, variables=variables) as running:
        eventually(lambda: None if running.leads else "the operator does not lead")
        yield running
    api.request("DELETE", f"/api/v1/namespaces/{namespace}")


def gpu_status(services: Services, name: str = "one") -> Json:
    found: Json = (services.service(name).get("status") or {}).get("gpu") or {}
    return found


def said(services: Services, name: str) -> str:
    """Everything that is told about a service now."""
    return str((services.service(name).get("status") or {}).get("reasons"))


def placed(services: Services, name: str) -> dict[str, str]:
    """Nodes of the pods that have one, by uid of the pod."""
    pods = [pod for pod in services.all_of("Pod", name) if not pod["metadata"].get("deletionTimestamp")]
    return {pod["metadata"]["uid"]: pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName")}


def limits(services: Services, name: str = "one") -> Json:
    found: Json = services.child("Deployment", name)["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    return found


def test_what_nodes_offer_is_chosen_once_kept_and_moved_only_when_asked(
    api: Api, services: Services, add_node: AddNode, agents: Agents
) -> None:
    services.apply("one", gpu={"memory": "6Gi"})
    told = services.until("GPUUnavailable", "one")["status"]
    assert "no node has a GPU" in str(told["reasons"])
    assert services.get("Deployment", "one") is None, "nothing is made that could never run"

    add_node("shares", SHARES)
    services.until_ready("one", seconds=60)
    assert gpu_status(services)["mechanism"] == "None"
    assert services.condition("GPUMemoryEnforced", "one")["reason"] == "LimitNotEnforced"

    # Two share the GPU; a third, here the second pod of `two`, is told why it cannot.
    watched = {"memory": "6Gi", "isolation": "None", "onExceed": "Evict"}
    services.apply("two", gpu=watched, scaling={"strategy": "Manual", "replicas": 2})
    taken = "every nvidia.com/gpu that fits None is taken"
    services.until_true("the third is told", lambda: taken in said(services, "two"), seconds=60)
    services.until_true("one pod serves", lambda: _ready_pods(services, "two") == 1, seconds=60)
    [(above, node)] = placed(services, "two").items()
    before = placed(services, "one")
    assert set(before.values()) == {node}

    # Above its limit, where an eviction is asked for: the budget allows none while the other pod does not serve.
    agents.measure(node, {above: 7, **dict.fromkeys(before, 3)})
    services.until_true(
        "the budget holds the eviction back",
        lambda: all(words in said(services, "two") for words in ("was not evicted", "disruption budget")),
        seconds=60,
    )
    assert above in placed(services, "two")

    # More shares: the other pod serves, so the first one may go. Something stronger too: it is shown, and no pod of
    # the service that could have it is touched.
    add_node("more", SHARES)
    add_node("slices", SLICES)
    services.until_true("the eviction", lambda: above not in placed(services, "two"), seconds=90)
    services.until_true(
        "a better one shown", lambda: "MIG (Hard" in gpu_status(services).get("pending", ""), seconds=60
    )
    assert placed(services, "one") == before

    # Asked for, it moves; and as there is one slice only, without a surge pod.
    path = f"{MODEL_SERVICES.format(namespace=services.namespace)}/one"
    answer = api.request("PATCH", path, {"metadata": {"annotations": {"serving.nereus.dev/rollout": "1"}}})
    assert answer.accepted, answer.message
    services.until_true("a slice", lambda: limits(services) == {"nvidia.com/mig-1g.10gb": "1"}, seconds=30)
    services.until_true("the pods moved", lambda: _all_on(services, "slices"), seconds=60)
    strategy = services.child("Deployment", "one")["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 0, "maxUnavailable": 1}
    services.until_ready("one", seconds=60)
    assert services.condition("GPUMemoryEnforced", "one")["reason"] == "LimitNotProven"


def _ready_pods(services: Services, name: str) -> int:
    conditions = [pod.get("status", {}).get("conditions", []) for pod in services.all_of("Pod", name)]
    return sum(any(item["type"] == "Ready" and item["status"] == "True" for item in those) for those in conditions)


def _all_on(services: Services, node: str) -> bool:
    pods = [pod for pod in services.all_of("Pod", "one") if not pod["metadata"].get("deletionTimestamp")]
    return bool(pods) and all(str(pod["spec"].get("nodeName", "")).startswith(node) for pod in pods)
