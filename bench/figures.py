"""What the operator and the API server used while something went on, and how figures are read and summed up."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.fleet import Json

if TYPE_CHECKING:
    from bench.scale import Bench

MIB = 2**20
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
LOOKS = 'nereus_operator_reconcile_seconds_count{outcome="'


def ready(seen: Mapping[str, float]) -> float:
    """Services that serve."""
    return seen.get('nereus_operator_services{reason="Serving"}', 0.0)


def queue(seen: Mapping[str, float]) -> float:
    """Services that wait to be looked at; not a number when the operator did not answer."""
    return seen.get("nereus_operator_queue_depth", float("nan"))


def looked(seen: Mapping[str, float]) -> float:
    """Looks at services that ended well."""
    return seen.get('nereus_operator_reconcile_seconds_count{outcome="done"}', 0.0)


def shares(name: str, seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles for a result; not a number when there is nothing."""
    taken = np.array(seconds or [np.nan])
    return {f"{name}p{share}_seconds": round(float(np.percentile(taken, share)), 4) for share in (50, 90, 99, 100)}


def say(text: str) -> None:
    """Progress on stderr."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} load {os.getloadavg()[0]:.1f}  {text}\n")
    sys.stderr.flush()


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def memory_bytes(pid: int) -> dict[str, int]:
    """VmRSS and VmHWM, its highest so far."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words[0] in ("VmRSS:", "VmHWM:")}


class Measured:
    """What operator and API server used while something went on."""

    def __init__(self, bench: Bench, name: str) -> None:
        self._bench = bench
        self._name = name
        self.result: Json = {}

    async def __aenter__(self) -> Json:
        say(f"--- {self._name}")
        self._began = time.monotonic()
        self._server = await self._bench.fleet.server_metrics()
        self._cpu = cpu_seconds(self._bench.operator.pid)
        self._writes = await self._counts()
        self._looks = await self._outcomes()
        return self.result

    async def _counts(self) -> dict[str, float]:
        return await asyncio.to_thread(self._bench.operator.writes)

    async def _outcomes(self) -> dict[str, float]:
        """Looks at services so far, by what came of them."""
        series = await asyncio.to_thread(self._bench.operator.series)
        return {
            name.partition(LOOKS)[2].rstrip('"}'): value for name, value in series.items() if name.startswith(LOOKS)
        }

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            return
        bench, result = self._bench, self.result
        wall = time.monotonic() - self._began
        writes = await self._counts()
        done = {series: count - self._writes.get(series, 0.0) for series, count in writes.items()}
        looks = {word: count - self._looks.get(word, 0.0) for word, count in (await self._outcomes()).items()}
        server = await bench.fleet.server_metrics()
        used = {key: server[key] - self._server.get(key, 0.0) for key in server}
        memory = memory_bytes(bench.operator.pid)
        result |= {
            "wall_seconds": round(wall, 1),
            "load_average": round(os.getloadavg()[0], 1),
            "operator_cpu_seconds": round(cpu_seconds(bench.operator.pid) - self._cpu, 1),
            "operator_cpu_cores": round((cpu_seconds(bench.operator.pid) - self._cpu) / wall, 3),
            "operator_rss_mib": round(memory["VmRSS"] / MIB, 1),
            "operator_rss_peak_mib": round(memory["VmHWM"] / MIB, 1),
            "looks": {word: count for word, count in looks.items() if count},
            "operator_writes": {series: count for series, count in done.items() if count},
            "status_writes_per_second": round(sum(v for k, v in done.items() if 'verb="status"' in k) / wall, 2),
            "events_per_second": round(sum(v for k, v in done.items() if 'kind="Event"' in k) / wall, 2),
            "apiserver_cpu_cores": round(used["cpu_seconds"] / wall, 2),
            "apiserver_rss_mib": round(server["rss_bytes"] / MIB, 1),
            "apiserver_requests_per_second": {
                key.removeprefix("requests_"): round(value / wall, 1)
                for key, value in used.items()
                if key.startswith("requests_") and key != "requests_timed" and value / wall >= 0.1
            },
            "apiserver_mean_request_seconds": round(used["request_seconds"] / max(used["requests_timed"], 1), 4),
            "apiserver_rejected": used.get("rejected", 0.0),
        }
        bench.results[self._name] = result
        say(f"{self._name}: {json.dumps(result)}")
