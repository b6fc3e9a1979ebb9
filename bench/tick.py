"""What one scaling tick of a large fleet does to those who share the event loop with it: `make bench BENCH=tick`.

Everything but the cluster and Prometheus is real: the store with its objects, what the tick takes from it, the client
and its answers over HTTP, the policy, the queue that is woken. The answers are made up once and come from a process of
their own. A task sleeps for 5 ms again and again, as long as ticks go on, and notes how much later than that it woke.

Other work on the machine makes everything late, so each delay is also told in processor time of this process: that
much of it the tick itself can have caused. Half a percent of the services change between two ticks.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from nereus.api import names
from nereus.api.spec.scaling import Strategy
from nereus.controller.kinds import MODEL_SERVICE
from nereus.controller.main import GC_THRESHOLDS, SWITCH_SECONDS
from nereus.controller.metrics import Metrics
from nereus.controller.queue import Priority, Queue
from nereus.controller.scaler import Scaler
from nereus.controller.store import Key, Store
from nereus.controller.subjects import Subjects
from nereus.prometheus import queries
from nereus.prometheus.options import Options
from nereus.prometheus.queries import Query, Scope
from nereus.prometheus.reader import Reader
from tests.harness.prometheus import SERVICE_LABEL, Server, respond

SLEEP_SECONDS = 0.005
PODS = 2
CAPACITY = 10.0
CHANGED_SHARE = 0.005
SCRAPE_SECONDS = 15.0
NOT_ASKED = {Query.HITS, Query.FAILURES, Query.CURVE, Query.LATE}
"""Answers without rows: what this fleet does not have."""


def service_name(number: int) -> Key:
    return Key(f"team-{number % 20}", f"svc-{number}")


def objects(number: int, version: int) -> Iterator[dict[str, Any]]:
    """A service, its Deployment and its pods."""
    namespace, name = service_name(number)
    owner = {"apiVersion": f"{names.GROUP}/v1alpha1", "kind": names.KIND, "name": name, "uid": f"u-{number}"}
    about = {"namespace": namespace, "resourceVersion": str(version)}
    yield {
        "apiVersion": owner["apiVersion"],
        "kind": names.KIND,
        "metadata": {**about, "name": name, "uid": owner["uid"], "generation": 1},
        "spec": {
            "models": [{"name": "m", "source": {"uri": "pvc://models/m"}}],
            "scaling": {
                "strategy": "Predictive",
                "minReplicas": 1,
                "maxReplicas": 10,
                "capacity": {"inferencesPerSecond": CAPACITY},
            },
        },
    }
    yield {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**about, "name": name, "uid": f"d-{number}", "ownerReferences": [owner]},
        "spec": {"replicas": PODS},
    }
    for pod in range(PODS):
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **about,
                "name": f"{name}-{pod}",
                "uid": f"p-{number}-{pod}",
                "labels": {names.LABEL_SERVICE: name},
            },
            "spec": {"containers": [{"name": "triton", "image": "triton"}]},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}],
            },
        }


def answers(services: int) -> Mapping[str, tuple[Query, np.ndarray[Any, Any]]]:
    """By the text of each query: which it is, and the mean value of every service."""
    rng = np.random.default_rng(1)
    load = rng.uniform(2, 30, services)
    constant = {Query.PODS: PODS, Query.WHOLE: PODS}
    made: dict[str, tuple[Query, np.ndarray[Any, Any]]] = {}
    for query, text in queries.tick(Scope(scrape_interval=SCRAPE_SECONDS)).items():
        values = np.full(services, float(constant[query])) if query in constant else load
        made[text] = query, np.zeros(services) if query in (Query.QUEUE, Query.FULLEST, Query.GROWTH) else values
    return made


def serve(services: int, told: Connection) -> None:
    """The process that answers in the place of Prometheus."""
    known = answers(services)
    keys = [service_name(number) for number in range(services)]
    rng = np.random.default_rng(2)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        asked = parse_qs(handler.rfile.read(length).decode() or urlsplit(handler.path).query)
        query, values = known[asked["query"][0]]
        now = time.time()
        per_service = query in (Query.NEWEST, Query.PODS, Query.WHOLE)
        if query is Query.NEWEST:
            values = np.full(services, now - 2)
        elif not per_service:
            values = values * rng.uniform(0.9, 1.1, services)
        rows = [
            {
                "metric": {"namespace": namespace, SERVICE_LABEL: name, **({} if per_service else {"model": "m"})},
                "value": [now, f"{value:.6g}" if query is not Query.NEWEST else f"{value:.3f}"],
            }
            for (namespace, name), value in zip(keys, values, strict=True)
        ]
        body = {"status": "success", "data": {"resultType": "vector", "result": [] if query in NOT_ASKED else rows}}
        respond(handler, 200, json.dumps(body, separators=(",", ":")).encode(), "application/json")

    server = Server(answer)
    told.send(server.address)
    told.recv()
    server.stop()


@contextlib.contextmanager
def prometheus(services: int) -> Iterator[str]:
    """The address of a server of answers."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(services, theirs), daemon=True)
    process.start()
    yield f"http://{ours.recv()}"
    ours.send(None)
    process.join()


class Lag:
    """How late a timer wakes, in seconds: by the clock, and by the processor time that this process used meanwhile."""

    def __init__(self) -> None:
        self.clock: list[float] = []
        self.processor: list[float] = []

    async def measure(self) -> None:
        while True:
            began, used = time.monotonic(), time.process_time()
            await asyncio.sleep(SLEEP_SECONDS)
            late = max(0.0, time.monotonic() - began - SLEEP_SECONDS)
            self.clock.append(late)
            self.processor.append(min(late, time.process_time() - used))

    def figures(self) -> dict[str, float]:
        """Milliseconds."""
        made: dict[str, float] = {}
        for name, values in (("", self.clock), ("processor_", self.processor)):
            array = 1e3 * np.array(values)
            made |= {f"{name}p50_ms": float(np.quantile(array, 0.5)), f"{name}p99_ms": float(np.quantile(array, 0.99))}
            made[f"{name}max_ms"] = float(array.max())
        return made


def resident_bytes() -> int:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def ticks(services: int, count: int, address: str) -> dict[str, Any]:
    """Figures of `count` ticks, after two that are not counted: then everything is new."""
    store, queue, version = Store(), Queue[Key](), 1
    for number in range(services):
        for item in objects(number, version):
            store.put(item)
    subjects = Subjects(store, absent_strategy=Strategy.PREDICTIVE)
    for key in store.services():
        subjects.touched(key)
    before = resident_bytes()
    woken = 0

    def wake(key: Key, after: float) -> None:
        nonlocal woken
        woken += 1
        queue.add(key, Priority.ROUTINE if after else Priority.CHANGE, after=after)

    now = time.time()
    reader = Reader(Options(address=address, scrape_interval=SCRAPE_SECONDS))
    scaler = Scaler(subjects, reader, wake=wake, metrics=Metrics(), clock=lambda: now)
    lag, spent, took = Lag(), [], []
    rng = np.random.default_rng(3)
    for tick in range(count + 2):
        measured = lag if tick >= 2 else Lag()
        task = asyncio.create_task(measured.measure())
        used, began = time.process_time(), time.monotonic()
        await scaler.tick()
        spent.append(time.process_time() - used)
        took.append(time.monotonic() - began)
        await asyncio.sleep(2 * SLEEP_SECONDS)
        task.cancel()
        now += SCRAPE_SECONDS
        version += 1
        for number in rng.choice(services, max(1, int(CHANGED_SHARE * services)), replace=False):
            for item in objects(int(number), version):
                store.put(item)
            subjects.touched(service_name(int(number)))
    reader.close()
    decided = sum(scaler.decision(key) is not None for key in store.services())
    assert decided == services, f"{decided} of {services} services were decided for"
    return {
        "services": services,
        "ticks": count,
        **lag.figures(),
        "tick_seconds": float(np.mean(took[2:])),
        "tick_processor_seconds": float(np.mean(spent[2:])),
        "woken_per_tick": woken / (count + 2),
        "store_megabytes": before / 1e6,
        "megabytes": resident_bytes() / 1e6,
        "states": dict(scaler.states),
        "objects": len(list(store.known(MODEL_SERVICE))),
    }


def main() -> int:
    """Measures, prints, and writes JSON."""
    parser = argparse.ArgumentParser(prog="bench.tick")
    parser.add_argument("--services", type=int, default=5000)
    parser.add_argument("--ticks", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(SWITCH_SECONDS)
    with prometheus(args.services) as address:
        made = asyncio.run(ticks(args.services, args.ticks, address))
    (args.out / f"tick-{args.services}.json").write_text(json.dumps(made, indent=1))
    sys.stdout.write(
        f"{args.services} services, {args.ticks} ticks of {made['tick_seconds']:.2f} s"
        f" ({made['tick_processor_seconds']:.2f} s of CPU), {made['states']}\n"
        f"event loop late by, p50 / p99 / most: {made['p50_ms']:.1f} / {made['p99_ms']:.0f} / {made['max_ms']:.0f} ms;"
        f" in CPU time {made['processor_p50_ms']:.1f} / {made['processor_p99_ms']:.0f} /"
        f" {made['processor_max_ms']:.0f} ms\n"
        f"memory: {made['store_megabytes']:.0f} MB before the first tick, {made['megabytes']:.0f} MB at the end;"
        f" {made['woken_per_tick']:.0f} services woken per tick\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
