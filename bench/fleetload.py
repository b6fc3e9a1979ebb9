"""A small fleet under a load that comes and goes, for pictures and checks of the dashboards. Needs the local cluster.

Models sleep instead of computing, so that seven services fit on two cores and their latency is theirs. The GPU is
SIMULATED: a file says what a driver would, see tests/e2e/test_gpu.py.
"""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc

from bench import oncall
from demo.kube import Kube, wait
from demo.load import tensors
from localcluster.config import DEFAULT_NAME
from tests.e2e.test_gpu import LABELS, SHARES, SimulatedGpus, triton_pid
from tests.e2e.world import CRASH, Json, World, model
from tests.tiers import e2e_values, simulated_gpus

NAMESPACE = oncall.SHOP
MAIN = "search"
OWNERS = {"Forecast": "search", "GPU": "vision", "Response": "ranking"}
"""Which service has what a closed row of the service dashboard shows, by the first word of the row."""
SLEEPER = """
import json
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self.seconds = float(parameters["milliseconds"]["string_value"]) / 1000

    def execute(self, requests):
        time.sleep(self.seconds)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", pb_utils.get_input_tensor_by_name(r, "X").as_numpy())])
                for r in requests]
"""
Pace = Callable[[float], float]
"""Requests per second, by the minutes since the load began."""


def _sleeper(milliseconds: int, **fields: Any) -> Json:
    parameters = {"milliseconds": f"{milliseconds}"}
    return model("net", source="configmap://models/sleeper", parameters=parameters, **fields)


ONE = {"minReplicas": 1, "maxReplicas": 1}
FLEET: dict[str, tuple[Json, Pace]] = {
    "search": (
        {
            "models": [_sleeper(50, batching={"mode": "Off"})],
            "scaling": {"minReplicas": 1, "maxReplicas": 4, "objective": {"latency": "300ms"}},
        },
        lambda minutes: 8 + 26 * max(0.0, math.sin((minutes - 1) * math.pi / 3)),
    ),
    "ranking": (
        {"models": [_sleeper(20, responseCache=True)], "scaling": ONE},
        lambda minutes: 10 + 5 * math.sin(minutes),
    ),
    "vision": (
        {
            "models": [_sleeper(40)],
            "gpu": {"memory": "6Gi", "isolation": "None"},
            "scaling": {"minReplicas": 2, "maxReplicas": 2},
        },
        lambda minutes: 12 if minutes % 4 < 2.5 else 4,
    ),
    "speech": (
        {"models": [_sleeper(120, batching={"preferredBatchSizes": [4, 8], "maxQueueDelay": "50ms"})], "scaling": ONE},
        lambda minutes: 6 + 2 * minutes,
    ),
    "captions": ({"models": [_sleeper(90, batching={"mode": "Off"})], "scaling": ONE}, lambda _: 9.5),
    "archive": ({"models": [_sleeper(10)], "scaling": ONE}, lambda _: 0.0),
    "billing": (
        {"models": [_sleeper(10), model("crash", source="configmap://models/crash")], "scaling": ONE},
        lambda _: 0.0,
    ),
}
"""What each service is, and what is asked of it. `billing` has a model that does not load; `archive` rests."""


@contextmanager
def running(*, minutes: float) -> Iterator[tuple[str, tuple[float, float]]]:
    """Returns when the load ran for so many minutes, and runs on within the block; gives the address of Prometheus, and
    that span in epoch seconds."""
    values = (*e2e_values(local=True), "--set", "replicas=2")
    with ExitStack() as stack:
        site = stack.enter_context(oncall.site(DEFAULT_NAME, pace=1, scrape_seconds=5, values=values, say=_say))
        kube, world = site.kube, site.world
        gpus = stack.enter_context(_gpus(kube))
        world.models_config_map(**{"sleeper.model.py": SLEEPER, "crash.model.py": CRASH})
        for name, (spec, _) in FLEET.items():
            world.apply(name, **spec)
        stack.callback(kube.kubectl, "delete", "namespace", NAMESPACE, "--wait=false")
        for name in FLEET:
            if name != "billing":
                world.wait_ready(name, seconds=300)
        stop = threading.Event()
        stack.callback(stop.set)
        began = time.time()
        threads = [threading.Thread(target=_use_gpus, args=(world, gpus, began, stop), daemon=True)]
        threads += [
            threading.Thread(target=_send, args=(world, name, began, stop, client), daemon=True)
            for name in FLEET
            for client in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        while time.time() < began + minutes * 60:
            time.sleep(10)
            _say(
                f"{time.time() - began:.0f} s: "
                + "; ".join(_line(each) for each in kube.items("msvc", namespace=NAMESPACE))
            )
        yield site.prometheus, (began, time.time())


CLIENTS = 8
"""Of each service: requests that wait for an answer at most."""


def _line(service: Json) -> str:
    return f"{service['metadata']['name']} {(service.get('status') or {}).get('replicas', '-')}"


def _send(world: World, name: str, began: float, stop: threading.Event, client: int) -> None:
    """One client's share of the pace; what fails shows in Triton's metrics and nowhere else."""
    pace = FLEET[name][1]
    with world.kube.address(name, 8001, namespace=NAMESPACE) as address:
        # Without the own pool all channels would share one connection, and so one pod.
        options = [("grpc.use_local_subchannel_pool", 1)]
        stub = triton_grpc.InferenceServerClient(address, channel_args=options)
        number = client
        while not stop.is_set():
            wanted = pace((time.time() - began) / 60) / CLIENTS
            if wanted <= 0:
                stop.wait(1)
                continue
            begun = time.monotonic()
            number = (number + 1) % 1_000_000
            value = float(number % 7 if number % 3 else number)  # two of three come again: the cache knows them
            inputs = {"X": np.array([[value, client]], dtype=np.float32)}
            with suppress(Exception):
                stub.infer("net", tensors(triton_grpc, inputs), client_timeout=5)
            stop.wait(max(0.0, 1 / wanted - (time.monotonic() - begun)))
        stub.close()


@contextmanager
def _gpus(kube: Kube) -> Iterator[SimulatedGpus]:
    """SIMULATED GPUs on the node, as the e2e tier has them."""
    gpus = SimulatedGpus(kube, simulated_gpus())
    [node] = json.loads(kube.kubectl("get", "nodes", "-o", "json"))["items"]
    labels = [f"{key}={value}" for key, value in LABELS.items()]
    kube.kubectl("label", "--overwrite", "node", node["metadata"]["name"], *labels)
    gpus.start()
    try:
        expected = {resource: str(len(ids)) for resource, ids in SHARES.items()}
        wait(lambda: gpus.allocatable() == expected, "the simulated GPUs on the node", seconds=120)
        yield gpus
    finally:
        gpus.stop()


def _use_gpus(world: World, gpus: SimulatedGpus, began: float, stop: threading.Event) -> None:
    """Memory and time that the pods of `vision` would take."""
    while not stop.wait(5):
        minutes = (time.time() - began) / 60
        pods = world.pods("vision")
        pids = [triton_pid(pod["metadata"]["uid"]) for pod in pods]
        share = 0.3 + 0.25 * math.sin(minutes * 2)
        memory = (3.2 + 1.1 * math.sin(minutes), 4.6 + 0.5 * math.sin(minutes * 1.7))
        gpus.use(
            {pid: ("GPU-sim-0", memory[number % 2]) for number, pid in enumerate(pids) if pid},
            busy={pid: share / (number + 1) for number, pid in enumerate(pids) if pid},
            limits={f"GPU-sim-0 {pod['metadata']['uid']}": 6.0 for pod in pods},
        )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
