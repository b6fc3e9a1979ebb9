"""SIMULATION: a stand-in for the driver where there is no GPU, read from a file; for tests and demonstrations only.

Whatever it says is marked as simulated wherever it shows: in the answer to the operator, in the status, in a metric.
The file is JSON: {"driver": "615.71", "devices": [{"uuid", "product", "totalBytes", "parent"}], "processes":
[{"pid", "device", "usedBytes", "busy"}], "limits": {"DEVICE CGROUP": bytes}, "broken": "words"}.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nereus.agent.nvml import Device, DriverError, Process


class Simulation:
    """The driver that the file describes; a missing file is a missing driver."""

    simulated = True

    def __init__(self, path: Path) -> None:
        self._path = path

    def version(self) -> str:
        return str(self._read().get("driver", "simulated"))

    def devices(self) -> tuple[Device, ...]:
        described = self._read()
        found = []
        for number, device in enumerate(described.get("devices", ())):
            living = [
                process
                for process in described.get("processes", ())
                if process["device"] == device["uuid"] and Path(f"/proc/{process['pid']}").exists()
            ]
            processes = tuple(
                Process(pid=int(process["pid"]), used_bytes=int(process["usedBytes"])) for process in living
            )
            busy = {int(process["pid"]): float(process["busy"]) for process in living if "busy" in process}
            found.append(
                Device(
                    uuid=str(device["uuid"]),
                    index=str(number),
                    product=str(device.get("product", "simulated")),
                    parent=str(device.get("parent", "")),
                    total_bytes=int(device["totalBytes"]),
                    used_bytes=sum(process.used_bytes or 0 for process in processes),
                    utilization=None if device.get("parent") else min(1.0, sum(busy.values())),
                    process_utilization={} if device.get("parent") else busy,
                    processes=processes,
                )
            )
        return tuple(found)

    def limit(self, device: str, cgroup: str) -> int | None:
        limits = self._read().get("limits", {})
        return next(
            (int(amount) for key, amount in limits.items() if key.split()[0] == device and key.split()[1] in cgroup),
            None,
        )

    def close(self) -> None:
        """Nothing is open."""

    def _read(self) -> dict[str, Any]:
        try:
            described: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DriverError(f"simulated: no driver ({error})") from None
        if described.get("broken"):
            raise DriverError(f"simulated: {described['broken']}")
        return described
