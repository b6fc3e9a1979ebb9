"""An eviction, which is what `kubectl drain` asks for, under load: nobody loses a request, long ones end; and who gets
the load."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

from demo.kube import CommandError
from demo.load import tensors
from tests.e2e.world import DOUBLE, World, X, model

CLIENTS = 4
LONG_SECONDS = 1.5
"""Below connectionAgeGrace (3 s), which is the limit that is promised, time in a queue included."""
SLOW = f"""
import time
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        time.sleep({LONG_SECONDS})
        values = [pb_utils.get_input_tensor_by_name(request, "X").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", value)]) for value in values]
"""
POOL = Path(__file__).resolve().parents[2] / "examples" / "clients" / "pool.py"


def pool_example() -> ModuleType:
    """The client of examples/, as it stands."""
    spec = importlib.util.spec_from_file_location("pool", POOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def evict(world: World, pod: str) -> bool:
    """Asks for an eviction as `kubectl drain` does; False when the disruption budget says not now."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": world.namespace}}
    path = f"/api/v1/namespaces/{world.namespace}/pods/{pod}/eviction"
    try:
        world.kube.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))
    except CommandError as error:
        if "disruption budget" not in str(error):
            raise
        return False
    return True


def names(world: World) -> set[str]:
    """All pods, those that are about to stop included."""
    return {pod["metadata"]["name"] for pod in world.kube.items("pods", namespace=world.namespace)}


def served(world: World) -> dict[str, float]:
    """Inferences of the model `double` by pod, since each started."""
    found = {}
    for pod in world.pods():
        address = pod["status"].get("podIP")
        with urllib.request.urlopen(f"http://{address}:8002/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        mine = [line for line in lines if line.startswith('nv_inference_count{model="double"')]
        found[pod["metadata"]["name"]] = sum(float(line.rpartition(" ")[2]) for line in mine)
    return found


def spread(before: dict[str, float], after: dict[str, float]) -> list[float]:
    """Each pod's share of what was served in between, the smallest first."""
    counts = [after[name] - before.get(name, 0.0) for name in after]
    return sorted(count / sum(counts) for count in counts)


def test_an_eviction_loses_nothing_and_long_requests_end(world: World) -> None:
    world.models_config_map(**{"double.model.py": DOUBLE, "slow.model.py": SLOW})
    world.apply(
        models=[model(), model("slow", source="configmap://models/slow", instances={"count": 2})],
        scaling={"strategy": "Manual", "replicas": 2},
        endpoint={"headless": True},
    )
    world.wait_ready()
    first, second = sorted(pod["metadata"]["name"] for pod in world.pods())
    with (
        world.kube.address("svc", 8001, namespace=world.namespace) as grpc_address,
        world.kube.address("svc", 8000, namespace=world.namespace) as http_address,
        world.load(grpc_address, protocol="grpc", clients=CLIENTS) as grpc,
        world.load(http_address, protocol="http", clients=CLIENTS) as http,
        world.load(grpc_address, protocol="grpc", clients=2, model="slow") as slow,
    ):
        world.wait(lambda: min(grpc.outcome.answered, http.outcome.answered) > 200, "traffic", seconds=30)
        assert evict(world, first)
        assert not evict(world, second), "one at a time: the disruption budget holds the second one"
        world.wait(lambda: first not in names(world), "the pod gone", seconds=90)
        world.wait_ready()
        seen = slow.outcome.answered
        world.wait(lambda: slow.outcome.answered > seen, "a long request after that", seconds=30)
    print(f"gRPC: {grpc.outcome}\nHTTP: {http.outcome}\nlong gRPC: {slow.outcome}")
    for outcome in (grpc.outcome, http.outcome, slow.outcome):
        assert outcome.failed == 0, outcome.errors[:10]
    assert min(slow.outcome.latencies) >= LONG_SECONDS
    if world.kube.routed:
        _one_client_reaches_every_pod(world)


def _one_client_reaches_every_pod(world: World) -> None:
    """The client of the examples on the headless address: every pod gets its share, also one that was just added."""
    example = pool_example()
    inputs = tensors(triton_grpc, X)

    async def ask(address: str, requests: int) -> None:
        pool = example.Pool(address)
        answers: list[Any] = [await pool.infer("double", inputs) for _ in range(requests)]
        assert all(np.allclose(answer.as_numpy("Y"), 2 * X["X"]) for answer in answers)
        await pool.close()

    dns = world.kube.get("service", "kube-dns", namespace="kube-system")
    assert dns is not None
    headless = f"dns://{dns['spec']['clusterIP']}:53/svc-pods.{world.namespace}.svc.cluster.local:8001"
    before = served(world)
    asyncio.run(ask(headless, 200))
    shares = spread(before, served(world))
    print(f"headless, one client: {shares}")
    assert len(shares) == 2
    assert shares[0] == pytest.approx(0.5, abs=0.15)

    with world.kube.address("svc", 8001, namespace=world.namespace) as address:
        before = served(world)
        asyncio.run(ask(address, 20))
        print(f"cluster address, one client: {spread(before, served(world))}")
