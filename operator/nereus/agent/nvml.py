"""What the agent needs of the driver: a small interface, and NVIDIA's library behind it.

Everything that NVML may not know on some GPU is None, never 0: memory of integrated GPUs, utilisation of MIG slices,
limits before driver 615. A lost GPU, a driver that is being replaced and a missing library are `DriverError`, which
the sampler reports and tries again; nothing here ends the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import pynvml

Value = TypeVar("Value")


class DriverError(Exception):
    """The driver cannot be asked; the message says why, for a person."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process on a device: its id on the host, and bytes of device memory."""

    pid: int
    used_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Device:
    """A GPU, or a MIG slice of one (`parent` is the GPU's uuid). `processes` are those on this very device."""

    uuid: str
    index: str
    product: str
    parent: str = ""
    total_bytes: int | None = None
    used_bytes: int | None = None
    utilization: float | None = None
    process_utilization: dict[int, float]
    processes: tuple[Process, ...]


class Driver(Protocol):
    """The driver of a node. Every method raises DriverError."""

    simulated: bool

    def version(self) -> str:
        """The version of the driver."""

    def devices(self) -> tuple[Device, ...]:
        """Every GPU and every slice, as it is now."""

    def limit(self, device: str, cgroup: str) -> int | None:
        """The driver's own limit in bytes for a control group on a device; None when there is none."""

    def close(self) -> None:
        """Begin anew at the next call: after an error the library keeps a stale view of the driver."""


class Nvml:
    """NVIDIA's library. Initialised at the first call and again after `close`."""

    simulated = False

    def __init__(self) -> None:
        self._open = False
        self._handles: dict[str, Any] = {}
        self._seen: dict[str, int] = {}

    def version(self) -> str:
        return _text(self._ask(pynvml.nvmlSystemGetDriverVersion))

    def devices(self) -> tuple[Device, ...]:
        found: list[Device] = []
        for number in range(self._ask(pynvml.nvmlDeviceGetCount)):
            handle = self._ask(partial(pynvml.nvmlDeviceGetHandleByIndex, number))
            slices = list(self._slices(handle))
            gpu = self._device(handle, index=str(number), with_processes=not slices)
            found.append(gpu)
            for position, part in slices:
                found.append(self._device(part, index=f"{number}:{position}", parent=gpu.uuid, with_processes=True))
        return tuple(found)

    def limit(self, device: str, cgroup: str) -> int | None:
        handle = self._handles.get(device)
        ask = getattr(pynvml, "nvmlDeviceGetMemoryLimits_v1", None)
        kind = getattr(pynvml, "c_nvmlGetMemoryLimits_v1_t", None)
        if handle is None or ask is None or kind is None:
            return None

        def read() -> int | None:
            limits = kind()
            limits.nameSpace = cgroup.encode()
            answer = ask(handle, limits)
            limits = answer if answer is not None else limits
            return int(limits.hardLimit)

        found = self._maybe(read)
        unlimited = getattr(pynvml, "NVML_DEVICE_MEMORY_LIMIT_MAX", 2**64 - 1)
        return None if found is None or found in (0, unlimited) else found

    def close(self) -> None:
        if self._open:
            self._open = False
            self._handles = {}
            try:
                pynvml.nvmlShutdown()
            except pynvml.NVMLError:
                return

    def _slices(self, handle: Any) -> Iterator[tuple[int, Any]]:
        """The MIG slices of a GPU; none where MIG is off or not known."""
        mode = self._maybe(lambda: pynvml.nvmlDeviceGetMigMode(handle))
        if not mode or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
            return
        for position in range(self._maybe(lambda: pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)) or 0):
            # Holes are NotFound: slices keep their place when a neighbour is taken away.
            part = self._maybe(partial(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, position))
            if part is not None:
                yield position, part

    def _device(self, handle: Any, *, index: str, with_processes: bool, parent: str = "") -> Device:
        uuid = _text(self._ask(lambda: pynvml.nvmlDeviceGetUUID(handle)))
        self._handles[uuid] = handle
        memory = self._maybe(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
        rates = None if parent else self._maybe(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle))
        return Device(
            uuid=uuid,
            index=index,
            product=_text(self._maybe(lambda: pynvml.nvmlDeviceGetName(handle)) or ""),
            parent=parent,
            total_bytes=int(memory.total) if memory is not None else None,
            used_bytes=int(memory.used) if memory is not None else None,
            utilization=rates.gpu / 100 if rates is not None else None,
            process_utilization={} if parent else self._utilization(uuid, handle),
            processes=self._processes(handle) if with_processes else (),
        )

    def _processes(self, handle: Any) -> tuple[Process, ...]:
        """Compute, graphics and MPS processes; one that is in several lists is counted once."""
        found: dict[int, int | None] = {}
        for name in (
            "nvmlDeviceGetComputeRunningProcesses_v3",
            "nvmlDeviceGetGraphicsRunningProcesses_v3",
            "nvmlDeviceGetMPSComputeRunningProcesses_v3",
        ):
            ask = getattr(pynvml, name, None)
            for process in (self._maybe(partial(ask, handle)) if ask else None) or ():
                amount = process.usedGpuMemory
                found[int(process.pid)] = None if amount is None else int(amount)
        return tuple(Process(pid=pid, used_bytes=amount) for pid, amount in sorted(found.items()))

    def _utilization(self, uuid: str, handle: Any) -> dict[int, float]:
        """The share of time that each process kept the GPU busy since it was asked last."""
        since = self._seen.get(uuid, 0)
        samples = self._maybe(lambda: pynvml.nvmlDeviceGetProcessUtilization(handle, since)) or ()
        found: dict[int, tuple[int, int]] = {}
        for sample in samples:
            self._seen[uuid] = max(self._seen.get(uuid, 0), int(sample.timeStamp))
            total, count = found.get(int(sample.pid), (0, 0))
            found[int(sample.pid)] = (total + int(sample.smUtil), count + 1)
        return {pid: total / count / 100 for pid, (total, count) in found.items()}

    def _ask(self, call: Callable[[], Value]) -> Value:
        try:
            if not self._open:
                pynvml.nvmlInit()
                self._open = True
            return call()
        except pynvml.NVMLError as error:
            raise DriverError(_words(error)) from error

    def _maybe(self, call: Callable[[], Value]) -> Value | None:
        """None for what this GPU or this driver does not know; raises DriverError when the driver is gone."""
        try:
            return call()
        except (pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_Uninitialized, pynvml.NVMLError_DriverNotLoaded) as error:
            raise DriverError(_words(error)) from error
        except (pynvml.NVMLError, AttributeError, TypeError, ValueError):
            return None


def _words(error: Exception) -> str:
    """What it means for a person who looks after the node."""
    if isinstance(error, pynvml.NVMLError_LibraryNotFound):
        return "the container has no libnvidia-ml.so.1: no NVIDIA driver on the node, or no NVIDIA runtime for this pod"
    if isinstance(error, pynvml.NVMLError_DriverNotLoaded):
        return "the NVIDIA driver is not loaded on the node"
    if isinstance(error, pynvml.NVMLError_LibRmVersionMismatch):
        return "the driver was replaced and its library is of another version: restart the agent's pod, or the node"
    if isinstance(error, pynvml.NVMLError_GpuIsLost):
        return "a GPU has fallen off the bus (NVML: GPU is lost): the node needs a reboot"
    return f"NVML: {error}"


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
