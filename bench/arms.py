"""Requests to several services at the same moments, and what became of them and of their pods: `bench.compare`.

Requests go to every ready pod in turn, as clients with a headless address send them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import tritonclient.grpc.aio as triton_grpc
from tritonclient.utils import InferenceServerException

from bench.figures import say
from demo.load import tensors
from nereus.backtest.world import Floats

Json = dict[str, Any]
OBJECTIVE_SECONDS, GIVE_UP_SECONDS = 1.0, 5.0
LOOK_SECONDS = 0.7


class Pods(Protocol):
    """What is asked about a service: addresses of its ready pods, and how many pods it has."""

    def ready_addresses(self, name: str) -> list[str]: ...
    def pods(self, name: str) -> int: ...


@dataclass
class Arm:
    """One service: what became of its requests (arrival, latency in seconds; NaN when it failed), and its pods by
    second."""

    name: str
    arrivals: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    pods: list[int] = field(default_factory=list)
    ready: list[int] = field(default_factory=list)

    def figures(self, since: float = 0.0) -> Json:
        """What counts: requests that belong to this second or a later one, and what was spent from then on."""
        latency = np.array(self.latencies)[np.array(self.arrivals) >= since]
        spent_at = np.array(self.seconds) >= since
        pods = np.array(self.pods)[spent_at]
        good = latency[np.isfinite(latency)]
        late = int((good > OBJECTIVE_SECONDS).sum())
        failed = int(np.isnan(latency).sum())
        spent = float(np.trapezoid(pods, np.array(self.seconds)[spent_at])) if len(pods) > 1 else 0.0
        return {
            "requests": len(latency),
            "late": late,
            "failed": failed,
            "late_or_failed_percent": round(100 * (late + failed) / max(1, len(latency)), 2),
            **{f"p{p}_ms": round(1000 * float(np.percentile(good, p))) for p in (50, 95, 99)},
            "replica_seconds": round(spent),
            "most_pods": int(max(pods, default=0)),
        }

    def late_by_minute(self) -> list[float]:
        """Share of the requests of each minute that were late or failed; not a number in a minute without any."""
        minute = np.array(self.arrivals) // 60
        bad = ~(np.array(self.latencies) <= OBJECTIVE_SECONDS)
        minutes = range(int(minute.max(initial=-1)) + 1)
        return [float(bad[minute == each].mean()) if (minute == each).any() else np.nan for each in minutes]


class Clients:
    """Requests to every ready pod of a service in turn."""

    def __init__(self, world: Pods, arm: Arm) -> None:
        self.arm = arm
        self._world = world
        self._known: dict[str, triton_grpc.InferenceServerClient] = {}
        self._turn: list[str] = []
        self._next = 0
        self._inputs = tensors(triton_grpc, {"X": np.ones((1, 2), np.float32)})

    async def look(self) -> None:
        """Who is ready now."""
        self._turn = await asyncio.to_thread(self._world.ready_addresses, self.arm.name)
        for address in self._turn:
            if address not in self._known:
                self._known[address] = triton_grpc.InferenceServerClient(f"{address}:8001")

    @property
    def ready(self) -> int:
        return len(self._turn)

    async def send(self, at: float) -> None:
        """One request that belongs to second `at` of the run."""
        begun = time.monotonic()
        took = float("nan")
        if self._turn:
            self._next += 1
            client = self._known[self._turn[self._next % len(self._turn)]]
            with contextlib.suppress(InferenceServerException, asyncio.CancelledError):
                await client.infer("m", self._inputs, client_timeout=GIVE_UP_SECONDS)
                took = time.monotonic() - begun
        self.arm.arrivals.append(at)
        self.arm.latencies.append(took)

    async def close(self) -> None:
        for client in self._known.values():
            await client.close()


async def replay(world: Pods, arms: Sequence[Arm], arrivals: Sequence[Floats]) -> None:
    """`arrivals[s]` are the moments within second s at which every arm gets one request."""
    clients = [Clients(world, arm) for arm in arms]
    tasks: set[asyncio.Task[None]] = set()
    begun = time.monotonic()
    watching = asyncio.create_task(_watch(world, clients, begun))
    for second, moments in enumerate(arrivals):
        for moment in moments:
            await asyncio.sleep(max(0.0, begun + second + moment - time.monotonic()))
            for each in clients:
                task = asyncio.create_task(each.send(second + float(moment)))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        if second % 60 == 0:
            pods = ", ".join(f"{arm.name} {arm.ready[-1] if arm.ready else 0}" for arm in arms)
            say(f"minute {second // 60}: {len(moments)} requests/s; ready: {pods}")
    await asyncio.gather(*list(tasks))
    watching.cancel()
    for each in clients:
        await each.close()


async def _watch(world: Pods, clients: Sequence[Clients], begun: float) -> None:
    while True:
        for each in clients:
            await each.look()
            each.arm.seconds.append(time.monotonic() - begun)
            each.arm.pods.append(await asyncio.to_thread(world.pods, each.arm.name))
            each.arm.ready.append(each.ready)
        await asyncio.sleep(LOOK_SECONDS)
