"""A process that is as busy as an operator and serves the External Metrics API, for `bench.metricsapi`.

Its event loop runs pure Python in pieces of 5 to 50 ms, as looking at services does, three quarters of the time; every
few seconds the policy of a whole fleet decides in a thread, and what it decided is served. `place` is where: in the
event loop itself, in a thread with an event loop of its own, or in a process of its own as the operator does it.
Ends when its input ends; then writes how much work it got done and what a process that serves took.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from bench.figures import MIB, cpu_seconds, memory_bytes
from nereus.api.decision import ScalingDecision
from nereus.controller.certificate import Certificate
from nereus.controller.metricsapi import Callers
from nereus.controller.metricsfeed import Feed
from nereus.controller.metricsprocess import MetricsProcess
from nereus.controller.metricsserver import Server
from nereus.controller.store import Key
from nereus.scaling.fleet import FleetObservation, FleetPolicy
from nereus.scaling.memory import DAY

PLACES = ("loop", "thread", "process")
PIECE_SECONDS = (0.005, 0.050)
REST_SECONDS = (0.0, 0.018)
TICK_SECONDS = 3.0
START = 20_000 * DAY * 60.0
Take = Callable[[dict[str, Any]], Awaitable[object]]


def services(count: int) -> list[tuple[str, str]]:
    return [(f"ns-{number % 20:02d}", f"s{number:05d}") for number in range(count)]


def spin(seconds: float) -> int:
    """Pure Python for so long, by the clock; how many rounds it came to."""
    until, rounds, table = time.monotonic() + seconds, 0, {}
    while time.monotonic() < until:
        table[str(rounds % 100)] = [rounds, {"of": rounds}]
        rounds += 1
    return rounds


class Busy:
    """What goes on; `rounds` is the work done in the event loop, `ticks` the seconds of each tick."""

    def __init__(self, count: int, feed: Feed) -> None:
        self._services = [Key(*name) for name in services(count)]
        self._feed = feed
        self._draw = np.random.default_rng(1)
        self._policy = FleetPolicy(count, latency=np.full(count, 0.5), violations=np.full(count, 0.01))
        self._replicas = np.full(count, 10)
        self._time = START
        self.rounds = 0
        self.ticks: list[float] = []

    def decide(self) -> None:
        """One tick of the fleet, and a decision for each service."""
        count = len(self._services)
        self._time += 15.0
        seen = FleetObservation(
            time=self._time,
            load=10 * self._draw.uniform(50, 150, count),
            queue=np.zeros(count),
            ready=self._replicas,
            starting=np.zeros(count, np.int64),
            cold_start=np.full(count, 120.0),
            capacity=np.full(count, 10.0),
            late=np.zeros(count),
        )
        decided = self._policy.decide(seen, least=np.ones(count, np.int64), most=np.full(count, 200))
        self._replicas = decided.replicas

    def publish(self) -> None:
        """In the event loop, as after a tick."""
        self._feed.decided(
            {
                key: ScalingDecision(
                    id="1", at=time.time(), replicas=int(number), known=True, least=1, most=200, message=""
                )
                for key, number in zip(self._services, self._replicas, strict=True)
            }
        )

    async def tick(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.to_thread(self.decide)
            self.publish()
            self.ticks.append(time.monotonic() - began)
            await asyncio.sleep(TICK_SECONDS)

    async def work(self) -> None:
        while True:
            self.rounds += spin(random.uniform(*PIECE_SECONDS))  # noqa: S311 - how long a look takes
            await asyncio.sleep(random.uniform(*REST_SECONDS))  # noqa: S311


def terms() -> list[float]:
    """This replica leads, and its decisions hold."""
    return [time.monotonic() + 10, time.monotonic() + 300]


async def pump(feed: Feed, take: Take) -> None:
    """As MetricsProcess does it, for a server in this process."""
    while True:
        feed.news.clear()
        for message in feed.messages():
            await take(message)
        await take({"beat": terms()})
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await feed.news.wait()


@asynccontextmanager
async def serving(place: str, feed: Feed, port: int) -> AsyncIterator[Callable[[], int]]:
    """Gives the process that serves."""
    server = Server(port, host="127.0.0.1")
    process = MetricsProcess(feed, port=port, leads_until=lambda: terms()[0], decided_until=lambda: terms()[1])
    if place == "process":
        running = asyncio.create_task(process.run())
    elif place == "loop":
        running = asyncio.create_task(pump(feed, server.take))
    else:
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()

        async def take(message: dict[str, Any]) -> object:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(server.take(message), loop))

        running = asyncio.create_task(pump(feed, take))
    try:
        yield lambda: process.pid or os.getpid()
    finally:
        running.cancel()
        await asyncio.wait({running})


async def run(task: dict[str, Any]) -> None:
    feed, folder = Feed(), Path(task["folder"])
    chain, key = folder / "server.crt", folder / "server.key"
    feed.admit(Callers(authority=(folder / "ca.crt").read_text(), allowed=("test-server",)))
    feed.present(Certificate(chain.read_text(), chain, key, time.monotonic(), time.time() + 86_400))
    busy = Busy(task["services"], feed)
    busy.publish()
    if task["switch"]:
        sys.setswitchinterval(task["switch"])
    async with serving(task["place"], feed, task["port"]) as server:
        work = [asyncio.create_task(busy.tick()), asyncio.create_task(busy.work())] if task["busy"] else []
        began, spent = time.monotonic(), cpu_seconds(os.getpid())
        await asyncio.to_thread(sys.stdin.read)
        wall = time.monotonic() - began
        for each in work:
            if each.done():
                each.result()
            each.cancel()
        result: dict[str, Any] = {
            "busy_cores": round((cpu_seconds(os.getpid()) - spent) / wall, 2),
            "rounds_per_second": round(busy.rounds / wall),
            "ticks": len(busy.ticks),
            "tick_mean_seconds": round(float(np.mean(busy.ticks or [0.0])), 3),
        }
        if server() != os.getpid():
            result["serving_rss_mib"] = round(memory_bytes(server())["VmRSS"] / MIB, 1)
            result["serving_cpu_cores"] = round(cpu_seconds(server()) / wall, 3)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    asyncio.run(run(json.loads(sys.stdin.readline())))
