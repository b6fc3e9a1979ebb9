"""A real `kubectl drain` under load: nobody loses a request, long ones end; and who gets the load.

The cluster has one node, so the place for new pods is the drained node itself, opened again in the middle of the drain
as another node would be. To kubectl, the API server and the kubelet it makes no difference whose node it is.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

from demo.kube import Kube
from demo.load import tensors
from tests.e2e.world import DOUBLE, World, X, model

pytestmark = pytest.mark.timeout(900)  # a drain waits for pods to come and to go, one after the other

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


class Drain:
    """`kubectl drain`, as a person types it, for the pods with one label; `said` is what that person reads so far."""

    def __init__(self, kube: Kube, node: str, label: str, log: Path) -> None:
        self._log = log
        options = (f"--pod-selector={label}", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=300s")
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [kube.tool("kubectl"), "drain", node, *options],
                env=kube.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        return self._log.read_text()

    def result(self) -> int | None:
        """The exit status; None while it goes on."""
        return self._process.poll()

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)


@contextmanager
def drained(kube: Kube, label: str, log: Path) -> Iterator[tuple[str, Drain]]:
    """The only node, being drained; it takes pods again afterwards, whatever happened."""
    [node] = json.loads(kube.kubectl("get", "nodes", "-o", "json"))["items"]
    name = node["metadata"]["name"]
    drain = Drain(kube, name, label, log)
    try:
        yield name, drain
    finally:
        drain.end()
        kube.kubectl("uncordon", name)


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


def test_a_drained_node_loses_no_request_and_waits_until_another_pod_serves(world_alone: World, tmp_path: Path) -> None:
    world = world_alone
    if not world.kube.routed:
        pytest.skip("drains the only node: not on a cluster that others may use")
    world.models_config_map(**{"double.model.py": DOUBLE, "slow.model.py": SLOW})
    world.apply(
        models=[model(), model("slow", source="configmap://models/slow", instances={"count": 2})],
        scaling={"strategy": "Manual", "replicas": 2},
        endpoint={"headless": True},
        runtime={"podLabels": {"example.com/drained": world.namespace}},
    )
    world.wait_ready()
    before = names(world)
    assert len(before) == 2
    with (
        world.kube.address("svc", 8001, namespace=world.namespace) as grpc_address,
        world.kube.address("svc", 8000, namespace=world.namespace) as http_address,
        world.load(grpc_address, protocol="grpc", clients=CLIENTS) as grpc,
        world.load(http_address, protocol="http", clients=CLIENTS) as http,
        world.load(grpc_address, protocol="grpc", clients=2, model="slow") as slow,
    ):

        def answered(after: str, *, more: int) -> None:
            """So many more requests of each kind, and a long one."""
            seen = [load.outcome.answered for load in (grpc, http, slow)]
            wanted = (more, more, 1)
            world.wait(
                lambda: all(
                    load.outcome.answered >= had + further
                    for load, had, further in zip((grpc, http, slow), seen, wanted, strict=True)
                ),
                f"traffic {after}",
                seconds=60,
            )

        answered("before", more=200)
        with drained(world.kube, f"example.com/drained={world.namespace}", tmp_path / "drain.log") as (node, drain):
            # One pod goes. The one in its place finds no node, so the disruption budget keeps the other.
            world.wait(lambda: len(before & names(world)) == 1, "the first pod gone", seconds=120)
            world.wait(lambda: "would violate the pod's disruption budget" in drain.said, "the drain held", seconds=60)
            assert "node(s) were unschedulable" in world.wait_reason("Unschedulable", seconds=120)
            answered("while the drain is held", more=100)
            assert len(before & names(world)) == 1, drain.said
            assert drain.result() is None, drain.said

            world.kube.kubectl("uncordon", node)
            world.wait(lambda: drain.result() is not None, "the end of the drain", seconds=180)
            print(drain.said)
            assert drain.result() == 0, drain.said
            assert not before & names(world), drain.said
        world.wait_ready()
        answered("after the drain", more=100)
    print(f"gRPC: {grpc.outcome}\nHTTP: {http.outcome}\nlong gRPC: {slow.outcome}")
    for outcome in (grpc.outcome, http.outcome, slow.outcome):
        assert outcome.failed == 0, outcome.errors[:10]
    assert min(slow.outcome.latencies) >= LONG_SECONDS
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
