"""A real card: the agent against nvidia-smi and a known allocation, and MPS against a greedy client.

Results belong into docs/gpu-isolation.md with date, card and driver.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nereus.agent.nvml import Nvml

ALLOCATE = Path(__file__).with_name("allocate.py")
MIB = 2**20
CONTEXT_MIB = 1024
"""More than a CUDA context takes on any card."""


@contextmanager
def holding(mib: int, **environment: str) -> Iterator[tuple[int, int]]:
    """A process that holds what it could get of `mib`; its id and the MiB that it got."""
    with subprocess.Popen(
        [sys.executable, str(ALLOCATE), str(mib)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline().split()
        assert said[:1] == ["allocated"], said
        try:
            yield process.pid, int(said[1])
        finally:
            process.communicate("")


def smi(query: str) -> list[list[str]]:
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]


def test_the_agent_and_nvidia_smi_see_the_same_devices() -> None:
    seen = {gpu.uuid: gpu for gpu in Nvml().devices() if not gpu.parent}
    for uuid, name, total in smi("uuid,name,memory.total"):
        assert seen[uuid].product == name
        assert abs((seen[uuid].total_bytes or 0) / MIB - float(total)) < 1024


def test_a_known_allocation_is_seen_at_the_process_that_made_it() -> None:
    with holding(1024) as (pid, got):
        assert got == 1024
        processes = {process.pid: process for gpu in Nvml().devices() for process in gpu.processes}
        used = (processes[pid].used_bytes or 0) / MIB
        assert 1024 <= used <= 1024 + CONTEXT_MIB, f"{used:.0f} MiB for 1024 MiB and a context"


@pytest.mark.skipif(shutil.which("nvidia-cuda-mps-control") is None, reason="no MPS on this machine")
def test_a_pinned_limit_of_mps_refuses_more_and_a_client_without_the_server_escapes(tmp_path: Path) -> None:
    pipe = {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path / "pipe"), "CUDA_MPS_LOG_DIRECTORY": str(tmp_path / "log")}
    for folder in pipe.values():
        Path(folder).mkdir()
    subprocess.run(["nvidia-cuda-mps-control", "-d"], env={**os.environ, **pipe}, check=True)
    try:
        with holding(4096, **pipe, CUDA_MPS_PINNED_DEVICE_MEM_LIMIT="0=2048M") as (_, got):
            assert got <= 2048, f"the limit is 2048 MiB and the client got {got}"
    finally:
        control = {**os.environ, **pipe}
        subprocess.run(["nvidia-cuda-mps-control"], input="quit\n", text=True, env=control, check=False)
    with holding(4096) as (_, got):
        assert got == 4096, "without the pipe directory there is no limit: that is what makes MPS Soft"
