"""One look a second: every device and its processes, found back to pods, with the peak of each container.

Peaks are kept while the container lives. A driver that fails is reported and asked again; the process does not end,
because a node whose driver is being replaced needs somebody who says so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nereus.agent.cgroups import Container, container_of
from nereus.agent.containers import Containers, Names
from nereus.agent.nvml import Device, Driver, DriverError
from nereus.gpu.usage import DeviceUsage, NodeUsage, PodUsage

PROC = Path("/proc")


class Sampler:
    """The last look, and the peaks so far."""

    def __init__(
        self,
        driver: Driver,
        *,
        node: str,
        clock: Callable[[], float],
        containers: Containers | None = None,
        proc: Path = PROC,
    ) -> None:
        self._driver = driver
        self._node = node
        self._clock = clock
        self._containers = containers or Containers()
        self._proc = proc
        self._places: dict[tuple[int, str], Container | None] = {}
        self._peaks: dict[tuple[str, str, str], int] = {}
        self._limits: dict[tuple[str, str], int | None] = {}
        self.usage = NodeUsage(node=node, trouble="the GPUs have not been looked at yet", simulated=driver.simulated)
        self.services: dict[tuple[str, str], str] = {}

    def look(self) -> NodeUsage:
        """Looks once; never raises."""
        try:
            version, devices = self._driver.version(), self._driver.devices()
            pods = self._pods(devices)
        except DriverError as error:
            self._driver.close()
            self.usage = NodeUsage(
                node=self._node, at=self._clock(), trouble=str(error), simulated=self._driver.simulated
            )
            return self.usage
        self.usage = NodeUsage(
            node=self._node,
            at=self._clock(),
            driver=version,
            simulated=self._driver.simulated,
            devices=tuple(
                DeviceUsage(
                    uuid=device.uuid,
                    index=device.index,
                    product=device.product,
                    parent=device.parent,
                    total_bytes=device.total_bytes,
                    used_bytes=device.used_bytes,
                    utilization=device.utilization,
                )
                for device in devices
            ),
            pods=pods,
        )
        return self.usage

    def _pods(self, devices: tuple[Device, ...]) -> tuple[PodUsage, ...]:
        places = self._find({process.pid for device in devices for process in device.processes})
        names = self._containers.names(place.container_id for place in places.values())
        groups: dict[tuple[str, str, str], list[int]] = {}
        of_device = {device.uuid: device for device in devices}
        for device in devices:
            for process in device.processes:
                place = places.get(process.pid)
                if place is not None:
                    groups.setdefault((place.pod_uid, place.container_id, device.uuid), []).append(process.pid)
        self._peaks = {
            key: peak for key, peak in self._peaks.items() if key in groups or self._containers.knows(key[1])
        }
        self._limits = {key: limit for key, limit in self._limits.items() if any(key[0] == g[2] for g in groups)}
        self.services = {(name.namespace, name.pod): name.service for name in names.values()}
        return tuple(
            self._usage(key, of_device[key[2]], sorted(pids), places[pids[0]], names.get(key[1]))
            for key, pids in sorted(groups.items())
        )

    def _usage(
        self, key: tuple[str, str, str], device: Device, pids: list[int], place: Container, names: Names | None
    ) -> PodUsage:
        uid, container_id, uuid = key
        amounts = [process.used_bytes for process in device.processes if process.pid in pids]
        known = [amount for amount in amounts if amount is not None]
        used = sum(known) if len(known) == len(amounts) else None
        if used is not None:
            self._peaks[key] = max(self._peaks.get(key, 0), used)
        busy = [device.process_utilization[pid] for pid in pids if pid in device.process_utilization]
        return PodUsage(
            uid=uid,
            namespace=names.namespace if names else "",
            pod=names.pod if names else "",
            container=names.container if names else container_id[:12],
            device=uuid,
            used_bytes=used,
            peak_bytes=self._peaks.get(key),
            limit_bytes=device.total_bytes if device.parent else self._limit(uuid, place.path),
            utilization=min(1.0, sum(busy)) if busy else None,
            processes=len(pids),
        )

    def _limit(self, device: str, cgroup: str) -> int | None:
        """A limit is set when a container is created and stays, so it is read once for each."""
        key = (device, cgroup)
        if key not in self._limits:
            self._limits[key] = self._driver.limit(device, cgroup)
        return self._limits[key]

    def _find(self, pids: set[int]) -> dict[int, Container]:
        """The containers of processes. What was found is kept while the process lives: a process id may come again,
        so its start time is part of the key."""
        fresh: dict[tuple[int, str], Container | None] = {}
        for pid in pids:
            key = (pid, self._born(pid))
            fresh[key] = self._places[key] if key in self._places else self._read(pid)
        self._places = fresh
        return {pid: place for (pid, _), place in fresh.items() if place is not None}

    def _born(self, pid: int) -> str:
        try:
            # After the name in brackets, which may hold anything, the start time is the 20th field (proc_pid_stat(5)).
            return (self._proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[19]
        except (OSError, IndexError):
            return ""

    def _read(self, pid: int) -> Container | None:
        try:
            return container_of((self._proc / str(pid) / "cgroup").read_text())
        except OSError:
            return None
