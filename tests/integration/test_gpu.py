"""GPUs with a real scheduler: what nodes offer decides once, is kept, and what is missing is told at once."""

from __future__ import annotations

import pytest

from tests.harness.apiserver import MODEL_SERVICES, Api, Json
from tests.harness.gpunodes import SHARES, AddNode
from tests.harness.services import Services

pytestmark = pytest.mark.usefixtures("operator")

SLICES: Json = {
    "allocatable": {"nvidia.com/mig-1g.10gb": 1},
    "product": "NVIDIA-A100-SXM4-80GB",
    "memory": "81920",
    "sharing": "none",
    "strategy": "mixed",
}


def gpu_status(services: Services, name: str = "one") -> Json:
    found: Json = (services.service(name).get("status") or {}).get("gpu") or {}
    return found


def limits(services: Services, name: str = "one") -> Json:
    found: Json = services.child("Deployment", name)["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    return found


def test_what_nodes_offer_is_chosen_once_kept_and_moved_only_when_asked(
    api: Api, services: Services, add_node: AddNode
) -> None:
    services.apply("one", gpu={"memory": "6Gi"})
    told = services.until("GPUUnavailable", "one")["status"]
    assert "no node has a GPU" in str(told["reasons"])
    assert services.get("Deployment", "one") is None, "nothing is made that could never run"

    add_node("shares", SHARES)
    services.until_ready("one", seconds=60)
    assert gpu_status(services)["mechanism"] == "None"
    assert services.condition("GPUMemoryEnforced", "one")["reason"] == "LimitNotEnforced"

    # Two share the GPU; a third is told why it cannot.
    services.apply("two", gpu={"memory": "6Gi"})
    services.until_ready("two", seconds=60)
    nodes = {pod["spec"]["nodeName"] for name in ("one", "two") for pod in services.all_of("Pod", name)}
    assert len(nodes) == 1
    services.apply("three", gpu={"memory": "6Gi"})
    message = str(services.until("Unschedulable", "three")["status"]["reasons"])
    assert "every nvidia.com/gpu that fits None is taken" in message

    # Something stronger appears: it is shown, and no pod is touched.
    before = {pod["metadata"]["uid"] for pod in services.all_of("Pod", "one")}
    add_node("slices", SLICES)
    services.until_true(
        "a better one shown", lambda: "MIG (Hard" in gpu_status(services).get("pending", ""), seconds=60
    )
    assert {pod["metadata"]["uid"] for pod in services.all_of("Pod", "one")} == before

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


def _all_on(services: Services, node: str) -> bool:
    pods = [pod for pod in services.all_of("Pod", "one") if not pod["metadata"].get("deletionTimestamp")]
    return bool(pods) and all(str(pod["spec"].get("nodeName", "")).startswith(node) for pod in pods)
