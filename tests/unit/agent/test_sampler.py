"""What the agent makes of the driver's numbers: pods, peaks, limits, and trouble that ends nothing."""

from __future__ import annotations

import json
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pynvml
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from nereus.agent import containers, main, nvml
from nereus.agent.containers import Containers
from nereus.agent.exposition import Exposition
from nereus.agent.nvml import Device, DriverError, Nvml, Process
from nereus.agent.sampler import Sampler
from nereus.agent.simulation import Simulation
from nereus.gpu.usage import PodUsage

UID = "a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d"
CIDS = {"triton": "0f" * 32, "sidecar": "1e" * 32}
GIB = 2**30


class Stand:
    """A driver with what a test put into it."""

    simulated = False

    def __init__(self) -> None:
        self.parts: list[Device] = []
        self.limits: dict[str, int] = {}
        self.error = ""
        self.asked_limits = 0

    def version(self) -> str:
        if self.error:
            raise DriverError(self.error)
        return "615.71"

    def devices(self) -> tuple[Device, ...]:
        return tuple(self.parts)

    def limit(self, device: str, _cgroup: str) -> int | None:
        self.asked_limits += 1
        return self.limits.get(device)

    def close(self) -> None:
        """Nothing is open."""


def device(uuid: str = "GPU-1", *processes: tuple[int, int | None], parent: str = "", total: int = 80 * GIB) -> Device:
    return Device(
        uuid=uuid,
        index="0",
        product="NVIDIA-H100",
        parent=parent,
        total_bytes=total,
        used_bytes=GIB,
        utilization=0.5,
        process_utilization={pid: 0.25 for pid, _ in processes},
        processes=tuple(Process(pid=pid, used_bytes=used) for pid, used in processes),
    )


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host with the links of one pod of a ModelService."""
    (tmp_path / "containers").mkdir()
    for name, cid in CIDS.items():
        (tmp_path / "containers" / f"resnet-6d5f9c7b8d-x2k4p_demo_{name}-{cid}.log").touch()
    return tmp_path


def process(host: Path, pid: int, *, container: str = "triton", born: int = 1) -> None:
    folder = host / "proc" / str(pid)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup").write_text(f"0::/kubepods/burstable/pod{UID}/{CIDS[container]}\n")
    (folder / "stat").write_text(f"{pid} (trit) on) S " + " ".join(["0"] * 18) + f" {born} 0\n")


def sampler(driver: Any, host: Path) -> Sampler:
    found = Containers(host / "containers")
    return Sampler(driver, node="n", clock=lambda: 1.0, containers=found, proc=host / "proc")


def only(pods: tuple[PodUsage, ...]) -> PodUsage:
    [pod] = pods
    return pod


def test_processes_are_summed_per_container_and_device_and_named(host: Path) -> None:
    driver = Stand()
    process(host, 11)
    process(host, 12)
    driver.parts = [device("GPU-1", (11, 2 * GIB), (12, GIB), (99, GIB))]
    pod = only(sampler(driver, host).look().pods)
    assert (pod.uid, pod.namespace, pod.pod, pod.container) == (UID, "demo", "resnet-6d5f9c7b8d-x2k4p", "triton")
    assert (pod.used_bytes, pod.processes, pod.utilization) == (3 * GIB, 2, 0.5)
    assert pod.limit_bytes is None, "a whole GPU has no limit of its own"


def test_the_peak_stays_also_when_the_process_pauses_and_a_new_container_begins_anew(host: Path) -> None:
    driver = Stand()
    process(host, 11)
    looks = sampler(driver, host)
    for used in (5, 2):
        driver.parts = [device("GPU-1", (11, used * GIB))]
        looks.look()
    assert only(looks.usage.pods).peak_bytes == 5 * GIB
    driver.parts = [device("GPU-1")]
    assert looks.look().pods == ()
    driver.parts = [device("GPU-1", (11, GIB))]
    assert only(looks.look().pods).peak_bytes == 5 * GIB
    process(host, 11, container="sidecar", born=2)  # the process id came again, in another container
    assert only(looks.look().pods).peak_bytes == GIB


def test_a_slice_limits_by_its_size_and_the_driver_by_what_it_says_read_once(host: Path) -> None:
    driver = Stand()
    process(host, 11)
    driver.parts = [device("MIG-1", (11, GIB), parent="GPU-1", total=10 * GIB)]
    looks = sampler(driver, host)
    assert only(looks.look().pods).limit_bytes == 10 * GIB
    driver.parts = [device("GPU-2", (11, GIB))]
    driver.limits = {"GPU-2": 8 * GIB}
    for _ in range(3):
        assert only(looks.look().pods).limit_bytes == 8 * GIB
    assert driver.asked_limits == 1


def test_memory_that_the_driver_does_not_know_is_unknown_and_not_zero(host: Path) -> None:
    driver = Stand()
    process(host, 11)
    driver.parts = [device("GPU-1", (11, None))]
    looks = sampler(driver, host)
    pod = only(looks.look().pods)
    assert (pod.used_bytes, pod.peak_bytes) == (None, None)
    assert "nereus_gpu_pod_memory_used_bytes{" not in exposed(looks)


def test_a_driver_in_trouble_is_reported_and_asked_again(host: Path) -> None:
    driver = Stand()
    driver.error = "a GPU has fallen off the bus"
    looks = sampler(driver, host)
    assert looks.look().trouble == "a GPU has fallen off the bus"
    assert "nereus_gpu_agent_up 0.0" in exposed(looks)
    driver.error = ""
    assert looks.look().trouble == ""


def test_a_node_without_a_driver_says_so_in_words() -> None:
    driver = Nvml()
    with pytest.raises(DriverError, match="no libnvidia-ml"):
        driver.version()
    driver.close()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "the driver was replaced"),
        (pynvml.NVML_ERROR_GPU_IS_LOST, "fallen off the bus"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "not loaded"),
        (pynvml.NVML_ERROR_UNKNOWN, "NVML: "),
    ],
)
def test_every_kind_of_trouble_is_put_into_words(error: int, words: str) -> None:
    assert words in nvml._words(pynvml.NVMLError(error))


def exposed(looks: Sampler) -> str:
    registry = CollectorRegistry()
    registry.register(Exposition(lambda: looks.usage, lambda ns, pod: looks.services.get((ns, pod), "")))
    return generate_latest(registry).decode()


def sample(page: str, series: str) -> float:
    [line] = [line for line in page.splitlines() if line.startswith(series)]
    return float(line.rpartition(" ")[2])


def test_the_metrics_carry_namespace_pod_service_container_and_gpu(host: Path) -> None:
    driver = Stand()
    process(host, 11)
    driver.parts = [device("MIG-1", (11, GIB), parent="GPU-1", total=10 * GIB)]
    looks = sampler(driver, host)
    looks.look()
    labels = 'gpu="MIG-1",modelservice="resnet",modelservice_container="triton",modelservice_namespace="demo"'
    labels += ',modelservice_pod="resnet-6d5f9c7b8d-x2k4p"'
    page = exposed(looks)
    for name, value in (("used", GIB), ("peak", GIB), ("limit", 10 * GIB)):
        assert sample(page, f"nereus_gpu_pod_memory_{name}_bytes{{{labels}}}") == value
    assert sample(page, f"nereus_gpu_pod_utilization_ratio{{{labels}}}") == 0.25
    assert 'nereus_gpu_device_memory_total_bytes{gpu="MIG-1",parent="GPU-1",product="NVIDIA-H100"}' in page


@pytest.mark.parametrize(
    ("pod", "names", "service"),
    [
        ("resnet-6d5f9c7b8d-x2k4p", ("triton", "sidecar"), "resnet"),
        ("a-b-c-6d5f9c7b8d-x2k4p", ("triton", "sidecar"), "a-b-c"),
        ("resnet-6d5f9c7b8d-x2k4p", ("triton",), ""),
        ("job-x2k4p", ("triton", "sidecar"), ""),
    ],
)
def test_a_pod_belongs_to_a_service_when_it_looks_like_one_of_ours(
    tmp_path: Path, pod: str, names: tuple[str, ...], service: str
) -> None:
    for number, name in enumerate(names):
        (tmp_path / f"{pod}_ns_{name}-{number:064x}.log").touch()
    (tmp_path / "something-else").touch()
    found = containers.read(tmp_path)
    assert {entry.service for entry in found.values()} == {service}
    assert {entry.container for entry in found.values()} == set(names)


def test_a_simulation_is_marked_wherever_it_shows(tmp_path: Path) -> None:
    path = tmp_path / "gpus.json"
    looks = sampler(Simulation(path), tmp_path)
    assert "simulated" in looks.look().trouble
    path.write_text(json.dumps({"devices": [{"uuid": "GPU-sim-0", "totalBytes": GIB}]}))
    assert looks.look().simulated
    assert "nereus_gpu_agent_simulated 1.0" in exposed(looks)
    path.write_text(json.dumps({"broken": "the bus is gone"}))
    assert looks.look().trouble == "simulated: the bus is gone"


def test_the_pages_answer(host: Path) -> None:
    looks = sampler(Stand(), host)
    looks.look()
    alive = [True]
    server = main._Server(("127.0.0.1", 0), looks, lambda: alive[0])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        with urllib.request.urlopen(f"{address}/v1/usage") as answer:
            assert json.load(answer)["node"] == "n"
        with urllib.request.urlopen(f"{address}/metrics") as answer:
            assert b"nereus_gpu_agent_up 1.0" in answer.read()
        assert urllib.request.urlopen(f"{address}/live").status == 200
        alive[0] = False
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{address}/live")
    finally:
        server.shutdown()
        server.server_close()
