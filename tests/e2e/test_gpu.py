"""GPUs on a real kubelet, SIMULATED: the devices exist in two files, everything else is real.

Allocation is the kubelet's, through the device plug-in protocol; the agent is the one of the chart and finds real
processes of real pods; only what the driver would say comes from a file.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.install import NAMESPACE
from demo.kube import Kube, condition_of, wait
from localcluster.config import DEFAULT_NAME
from nereus.agent.cgroups import container_of
from tests.e2e.world import World
from tests.tiers import ROOT, simulated_gpus

pytestmark = pytest.mark.timeout(900)

GIB = 2**30
AGENTS = "app.kubernetes.io/component=gpu-agent"
LABELS = {
    "nvidia.com/gpu.product": "SIMULATED-SHARED",
    "nvidia.com/gpu.memory": "16384",
    "nvidia.com/gpu.sharing-strategy": "time-slicing",
    "nvidia.com/gpu.replicas": "2",
    "nvidia.com/mig.strategy": "mixed",
    "nvidia.com/mig-1g.10gb.memory": "9728",
}
SHARES = {"nvidia.com/gpu": ["GPU-sim-0::0", "GPU-sim-0::1"], "nvidia.com/mig-1g.10gb": ["MIG-sim-1"]}
DEVICES = [
    {"uuid": "GPU-sim-0", "totalBytes": 16 * GIB},
    {"uuid": "GPU-sim-1", "totalBytes": 80 * GIB},
    {"uuid": "MIG-sim-1", "totalBytes": int(9.5 * GIB), "parent": "GPU-sim-1"},
]


class SimulatedGpus:
    """The node's device plug-in and what its driver would say."""

    def __init__(self, kube: Kube, folder: Path) -> None:
        self._kube = kube
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        self.offer(SHARES)
        self.use({})

    def offer(self, resources: dict[str, list[str]]) -> None:
        self._write("plugin.json", {"resources": resources})

    def use(
        self,
        used: dict[int, tuple[str, float]],
        *,
        busy: dict[int, float] | None = None,
        limits: dict[str, float] | None = None,
    ) -> None:
        """Process ids of the host, each with its device and GiB; the share of time that they keep it busy; and limits
        in GiB by `DEVICE CGROUP`."""
        processes = [
            {
                "pid": pid,
                "device": device,
                "usedBytes": int(amount * GIB),
                **({"busy": busy[pid]} if busy and pid in busy else {}),
            }
            for pid, (device, amount) in used.items()
        ]
        bounds = {key: int(amount * GIB) for key, amount in (limits or {}).items()}
        said = {"driver": "580.1", "devices": DEVICES, "processes": processes, "limits": bounds}
        self._write("gpus.json", said)

    def _write(self, name: str, content: Any) -> None:
        partial = self._folder / f".{name}"
        partial.write_text(json.dumps(content))
        partial.rename(self._folder / name)

    def start(self) -> None:
        inside = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "localcluster.simgpu"]
        command = [sys.executable, "-m", "localcluster", "exec", "--name", DEFAULT_NAME, "--", *inside]
        self._process = subprocess.Popen([*command, str(self._folder / "plugin.json")], cwd=ROOT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)

    def allocatable(self) -> dict[str, str]:
        [node] = json.loads(self._kube.kubectl("get", "nodes", "-o", "json"))["items"]
        return {
            name: amount for name, amount in node["status"]["allocatable"].items() if name.startswith("nvidia.com/")
        }


@pytest.fixture
def gpus(kube: Kube) -> Iterator[SimulatedGpus]:
    if not kube.routed:
        pytest.skip("simulated GPUs need the local cluster: run without CLUSTER=kind or existing")
    simulated = SimulatedGpus(kube, simulated_gpus())
    [node] = json.loads(kube.kubectl("get", "nodes", "-o", "json"))["items"]
    name = node["metadata"]["name"]
    kube.kubectl("label", "--overwrite", "node", name, *(f"{key}={value}" for key, value in LABELS.items()))
    simulated.start()
    try:
        expected = {resource: str(len(ids)) for resource, ids in SHARES.items()}
        wait(lambda: simulated.allocatable() == expected, "the simulated GPUs on the node", seconds=120)
        yield simulated
    finally:
        simulated.offer({})
        simulated.use({})
        simulated.stop()
        kube.kubectl("label", "node", name, *(f"{key}-" for key in LABELS))


def triton_pid(uid: str) -> int | None:
    """The Triton process of a pod, on this host; None while there is none."""
    for folder in Path("/proc").iterdir():
        try:
            if not folder.name.isdigit() or b"tritonserver" not in (folder / "cmdline").read_bytes().split(b"\0")[0]:
                continue
            found = container_of((folder / "cgroup").read_text())
        except OSError:
            continue
        if found is not None and found.pod_uid == uid:
            return int(folder.name)
    return None


def only_pod(world: World, name: str) -> dict[str, Any]:
    [pod] = world.pods(name)
    return pod


def pid_of(world: World, name: str) -> int:
    pid = triton_pid(only_pod(world, name)["metadata"]["uid"])
    assert pid is not None, f"no Triton process of {name} on this host"
    return pid


def condition(world: World, name: str) -> tuple[str, str]:
    found = condition_of(world.service(name), "GPUMemoryEnforced")
    return str(found.get("status")), str(found.get("reason"))


def reasons(world: World, name: str) -> dict[str, str]:
    found = (world.service(name).get("status") or {}).get("reasons") or []
    return {item["reason"]: item["message"] for item in found}


def ready_agents(kube: Kube) -> dict[str, str]:
    """Names of the GPU agents that answer and stay, by uid."""
    found = {}
    for pod in kube.items("pods", namespace=NAMESPACE, selector=AGENTS):
        ready = condition_of(pod, "Ready").get("status") == "True"
        if ready and not pod["metadata"].get("deletionTimestamp"):
            found[pod["metadata"]["uid"]] = pod["metadata"]["name"]
    return found


def restart_agent(kube: Kube) -> None:
    before = ready_agents(kube).keys()
    kube.kubectl("-n", NAMESPACE, "delete", "pod", "-l", AGENTS, "--wait=false")
    wait(lambda: (now := ready_agents(kube).keys()) and not now & before, "a new GPU agent", seconds=120)


def restart_kubelet() -> None:
    """As a crash would: nothing is said to anybody, and containers go on."""
    for command in ("kill", "start"):
        words = [sys.executable, "-m", "localcluster", command, "--name", DEFAULT_NAME, "kubelet"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def devices_of(world: World, name: str) -> str:
    """What the kubelet gave to the Triton of a service's pod."""
    environment = Path(f"/proc/{pid_of(world, name)}/environ").read_bytes().split(b"\0")
    [given] = [entry for entry in environment if entry.startswith(b"NVIDIA_VISIBLE_DEVICES=")]
    return given.partition(b"=")[2].decode()


def agent_metrics(kube: Kube) -> str:
    [name] = ready_agents(kube).values()
    return kube.kubectl("get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}:9410/proxy/metrics")


def peak_said(kube: Kube, service: str) -> float:
    """Bytes of GPU memory that the agent has seen at most in the pods of a service."""
    family = [line for line in agent_metrics(kube).splitlines() if line.startswith("nereus_gpu_pod_memory_peak_bytes{")]
    [mine] = [line for line in family if f'modelservice="{service}"' in line]
    return float(mine.rpartition(" ")[2])


def test_gpu_memory_from_the_request_to_the_proof_and_to_the_eviction(world: World, gpus: SimulatedGpus) -> None:
    world.models_config_map()
    world.apply("slice", gpu={"memory": "8Gi"})
    world.apply("one", gpu={"memory": "6Gi", "isolation": "None", "onExceed": "Evict"})
    world.apply("two", gpu={"memory": "6Gi", "isolation": "None"})
    for name in ("slice", "one", "two"):
        world.wait_ready(name, seconds=120)

    # The strongest was chosen, and the kubelet gave the device of that resource to the container.
    assert world.service("slice")["status"]["gpu"]["mechanism"] == "MIG"
    assert devices_of(world, "slice") == "MIG-sim-1"

    # Two halves share one GPU; a third is told why it cannot.
    world.apply("three", gpu={"memory": "6Gi", "isolation": "None"})
    message = world.wait_reason("Unschedulable", name="three", seconds=120)
    assert "every nvidia.com/gpu that fits None is taken" in message

    # Nothing is claimed before it is seen; then the agent on the node sees the pod's process on its slice.
    assert condition(world, "slice") == ("Unknown", "LimitNotProven")
    slice_pid = pid_of(world, "slice")
    gpus.use({slice_pid: ("MIG-sim-1", 3.0)})
    world.wait(lambda: condition(world, "slice") == ("True", "LimitEnforced"), "a limit that was seen", seconds=120)
    status = world.service("slice")["status"]["gpu"]
    assert (status["observedPeak"], status["simulated"]) == ("3Gi", True)
    # This Triton has no GPU: the model was loaded on the CPU, and that is said.
    assert "runs on the CPU although the pod has a GPU: double" in reasons(world, "slice")["GPUNotUsed"]

    # An agent that starts again has forgotten the peak, and all that follows rests on what it says.
    gpus.use({slice_pid: ("MIG-sim-1", 2.0)})
    restart_agent(world.kube)
    evicted, stays = only_pod(world, "one")["metadata"]["uid"], only_pod(world, "two")["metadata"]["uid"]
    shares = {pid_of(world, name): ("GPU-sim-0", 7.0) for name in ("one", "two")}
    gpus.use({slice_pid: ("MIG-sim-1", 2.0), **shares})
    world.wait(lambda: 'modelservice="two"' in agent_metrics(world.kube), "the new agent's figures", seconds=60)
    assert peak_said(world.kube, "slice") == 2 * GIB

    # The metrics name pod, service and container.
    pod = only_pod(world, "two")["metadata"]["name"]
    labels = 'gpu="GPU-sim-0",modelservice="two",modelservice_container="triton"'
    labels += f',modelservice_namespace="{world.namespace}",modelservice_pod="{pod}"'
    assert f"nereus_gpu_pod_memory_used_bytes{{{labels}}}" in agent_metrics(world.kube)
    assert "nereus_gpu_agent_simulated 1.0" in agent_metrics(world.kube)

    # Above the limit where nothing holds it: evicted where that was asked for, and only there.
    world.wait(
        lambda: evicted not in {pod["metadata"]["uid"] for pod in world.pods("one")}, "the eviction", seconds=150
    )
    world.wait(lambda: "GPUMemoryExceeded" in reasons(world, "two"), "the excess of the other", seconds=120)
    assert stays == only_pod(world, "two")["metadata"]["uid"]

    # A plug-in that dies and comes back changes nothing; a device that is gone is told by name.
    gpus.stop()
    gpus.start()
    gpus.offer({"nvidia.com/gpu": [], "nvidia.com/mig-1g.10gb": ["MIG-sim-1"]})
    world.wait(lambda: gpus.allocatable().get("nvidia.com/gpu") == "0", "the GPU to be gone", seconds=120)
    message = world.wait_reason("GPUUnavailable", name="three", seconds=120)
    assert "no node offers nvidia.com/gpu: 1 as it was chosen" in message
    assert condition(world, "slice") == ("True", "LimitEnforced")
    assert world.service("slice")["status"]["gpu"]["observedPeak"] == "3Gi", "the status has not forgotten"


def test_a_kubelet_that_starts_again_gives_no_device_twice(world_alone: World, gpus: SimulatedGpus) -> None:
    world = world_alone
    world.models_config_map()
    world.apply("slice", gpu={"memory": "8Gi"})
    world.wait_ready("slice", seconds=120)
    gpus.use({pid_of(world, "slice"): ("MIG-sim-1", 3.0)})
    before = only_pod(world, "slice")

    # The plug-in registers with the new kubelet: a slice that comes afterwards is offered, and only that one is free.
    restart_kubelet()
    gpus.offer({**SHARES, "nvidia.com/mig-1g.10gb": ["MIG-sim-1", "MIG-sim-2"]})
    world.wait(lambda: gpus.allocatable().get("nvidia.com/mig-1g.10gb") == "2", "the new slice", seconds=120)
    world.apply("second", gpu={"memory": "8Gi"})
    world.wait_ready("second", seconds=120)
    assert (devices_of(world, "slice"), devices_of(world, "second")) == ("MIG-sim-1", "MIG-sim-2")

    # What ran goes on: the same pod and process, its limit seen.
    world.wait(lambda: condition(world, "slice") == ("True", "LimitEnforced"), "a limit that was seen", seconds=120)
    world.wait_ready("slice", seconds=120)
    after = only_pod(world, "slice")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert [status["restartCount"] for status in after["status"]["containerStatuses"]] == [0]
