"""The scaling tick over a whole fleet: what a step of the load comes to, and what the tick costs, for `bench.scale`.

Every service is under strategy Predictive and has a load in a real Prometheus. The pods' metrics pages are made up (no
KWOK pod runs a Triton): one server tells the counters of the pods that each Deployment wants at this moment. The
operator serves the External Metrics API behind the API server's front proxy, as in a cluster.

Then loads jump, one service after the other, and it is noted when the autoscaler's floor is raised and when the
Deployment has as many replicas, while two other processes ask the External Metrics API all the time, directly and
through the API server.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.asking import Asker, Way, path
from bench.figures import MIB, cpu_seconds, memory_bytes, shares
from bench.fleet import Fleet, Json, Name
from localcluster.config import Cluster
from nereus.controller.kinds import AUTOSCALER, DEPLOYMENT, Kind
from tests.harness import externalmetrics
from tests.harness.prometheus import SERVICE_LABEL, Prometheus, Server, free_port, respond

if TYPE_CHECKING:
    from bench.scale import Bench

SCRAPE_SECONDS = 15.0
CAPACITY = 10.0
"""Inferences per second that one pod sustains, as the services declare it."""
CALM = 0.4
"""Share of the capacity that is asked for before a jump."""
JUMP_PODS = 1.5
"""Load of a jump beyond what the pods sustain, in pods."""
ASK_SECONDS = 0.04
"""Between two requests of each client."""
PAUSE_SECONDS = 0.5
LATE_SECONDS = 180.0
PAGES = 20
HOME = "default"
TICKS = "nereus_operator_scaling_tick_seconds"


def scaling(pods: int) -> Json:
    """What every service declares."""
    capacity = {"inferencesPerSecond": CAPACITY}
    return {"strategy": "Predictive", "minReplicas": pods, "maxReplicas": pods + 3, "capacity": capacity}


class Load:
    """The counters of every pod of the fleet, on a few pages. `pods` and `rates` (inferences per second) are those of
    each service now; a counter grows by what was told of it before."""

    def __init__(self, services: Mapping[Name, int]) -> None:
        self.pods = dict(services)
        self.rates = {service: CALM * CAPACITY * pods for service, pods in services.items()}
        self._done: dict[Name, list[float]] = defaultdict(list)
        self._told = dict.fromkeys(range(PAGES), time.time())
        self._server = Server(self._answer)

    def targets(self) -> list[dict[str, Any]]:
        where = self._server.address
        return [{"targets": [where], "labels": {"__metrics_path__": f"/{page}"}} for page in range(PAGES)]

    def stop(self) -> None:
        self._server.stop()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        text = "".join(self._page(int(handler.path[1:]))).encode()
        respond(handler, 200, text, "text/plain; version=0.0.4")

    def _page(self, page: int) -> Iterator[str]:
        now = time.time()
        passed, self._told[page] = now - self._told[page], now
        for service in list(self.pods)[page::PAGES]:
            pods, done = self.pods[service], self._done[service]
            done[:] = [*done, *[0.0] * (pods - len(done))][:pods]
            for number in range(pods):
                done[number] += self.rates[service] / pods * passed
                yield _pod_page(service, number, done[number])


def _pod_page(service: Name, number: int, done: float) -> str:
    """What Triton would count: every execution has one request and takes a tenth of a second."""
    labels = (
        f'{{namespace="{service.namespace}",{SERVICE_LABEL}="{service.name}",pod="{service.name}-{number}"'
        ',model="m",version="1"}'
    )
    counted = (
        f"nv_inference_count{labels} {done:.3f}\nnv_inference_request_success{labels} {done:.3f}\n"
        f"nv_inference_exec_count{labels} {done:.3f}\n"
        f"nv_inference_compute_infer_duration_us{labels} {done * 1e6 / CAPACITY:.0f}\n"
    )
    idle = "".join(f"nv_inference_compute_{part}_duration_us{labels} 0\n" for part in ("input", "output"))
    return f"{counted}{idle}nv_inference_pending_request_count{labels} 0\n"


@dataclass(frozen=True)
class Ground:
    """Where the load comes from, and where the operator serves the External Metrics API."""

    load: Load
    prometheus: Prometheus
    port: int
    cluster: Cluster

    def variables(self) -> dict[str, str]:
        """What an operator is told."""
        return {
            "NEREUS_PROMETHEUS_URL": self.prometheus.url,
            "NEREUS_PROMETHEUS_SCRAPE_INTERVAL": f"{SCRAPE_SECONDS:g}",
            "NEREUS_EXTERNAL_METRICS_PORT": str(self.port),
        }

    async def register(self, fleet: Fleet) -> None:
        """The External Metrics API for a process of this machine, as the chart does it for pods."""
        host = self.cluster.addresses.host
        certificates = {"metadata": {"name": "nereus-external-metrics", "namespace": HOME}}
        made: tuple[tuple[str, Json], ...] = (
            (f"/api/v1/namespaces/{HOME}/services", externalmetrics.service(HOME, "nereus")),
            (
                f"/apis/discovery.k8s.io/v1/namespaces/{HOME}/endpointslices",
                externalmetrics.endpoints(HOME, "nereus", name="nereus", host=host, port=self.port),
            ),
            (f"/api/v1/namespaces/{HOME}/configmaps", certificates),
            ("/apis/apiregistration.k8s.io/v1/apiservices", externalmetrics.registration(HOME, "nereus")),
        )
        for place, body in made:
            url = fleet.connection.server + place
            async with fleet.session.post(url, json=body) as answer:
                if answer.status not in (201, 409):
                    raise SystemExit(f"{place}: the API server answered {answer.status}: {await answer.text()}")

    def ways(self, fleet: Fleet) -> dict[str, Way]:
        """To the External Metrics API: as the API server asks, and as its clients do."""
        certificate, key = (str(self.cluster.pki(f"front-proxy-client.{kind}")) for kind in ("crt", "key"))
        return {
            "metric": Way(server=f"https://127.0.0.1:{self.port}", certificate=certificate, key=key),
            "metric_through_apiserver": Way.as_client(fleet.connection),
        }


@contextmanager
def ground(cluster: Cluster, sizes: Mapping[Name, int]) -> Iterator[Ground]:
    load = Load(sizes)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="nereus-bench-") as folder,
            Prometheus(Path(folder), exporter=load, scrape_seconds=SCRAPE_SECONDS) as prometheus,
        ):
            yield Ground(load, prometheus, free_port(), cluster)
    finally:
        load.stop()


async def tick(bench: Bench, ground: Ground, jumps: int) -> None:
    """So many loads jump, and everything is measured meanwhile."""
    everybody = bench.fleet.services()
    chosen = everybody[:: max(1, len(everybody) // jumps)][:jumps]
    await bench.until("ticks", lambda seen: seen.get(f"{TICKS}_count", 0) >= 4, limit=600)
    floors: dict[Name, list[tuple[float, int]]] = defaultdict(list)
    wanted: dict[Name, list[tuple[float, int]]] = defaultdict(list)
    paths = [path(service.namespace, service.name) for service in everybody]
    askers = {name: Asker(way, paths, period=ASK_SECONDS) for name, way in ground.ways(bench.fleet).items()}
    working = [
        asyncio.create_task(_note(bench.fleet, AUTOSCALER, "minReplicas", floors)),
        asyncio.create_task(_note(bench.fleet, DEPLOYMENT, "replicas", wanted, ground.load.pods)),
    ]
    before, queries = await asyncio.to_thread(bench.seen), await asyncio.to_thread(ground.prometheus.answered)
    server = ground.prometheus.process
    assert server is not None
    theirs = cpu_seconds(server.pid)
    async with bench.measured("tick") as result:
        bench.results["tick"] = result
        sent = {}
        for service in chosen:
            sent[service] = time.monotonic(), ground.load.pods[service]
            ground.load.rates[service] = CAPACITY * (ground.load.pods[service] + JUMP_PODS)
            await asyncio.sleep(PAUSE_SECONDS)
        raised: dict[Name, tuple[float, float]] = {}
        deadline = time.monotonic() + LATE_SECONDS
        while len(raised) < len(sent) and time.monotonic() < deadline:
            await asyncio.sleep(1.0)
            for task in working:
                if task.done():
                    task.result()
            for service, (_, pods) in sent.items():
                floor = next((each for each in floors[service] if each[1] > pods), None)
                if floor and (done := next((at for at, number in wanted[service] if number >= floor[1]), None)):
                    raised[service] = floor[0], done
        for task in working:
            task.cancel()
        asked = {name: await asyncio.to_thread(asker.end) for name, asker in askers.items()}
        after = await asyncio.to_thread(bench.seen)
        ticks = after[f"{TICKS}_count"] - before[f"{TICKS}_count"]
        queries = await asyncio.to_thread(ground.prometheus.answered) - queries
        result |= {
            "jumps": len(sent),
            "raised": len(raised),
            **shares("jump_to_floor_", [floor - sent[service][0] for service, (floor, _) in raised.items()]),
            **shares("floor_to_replicas_", [max(0.0, done - floor) for floor, done in raised.values()]),
            **{f"{name}_asked": len(each.seconds) for name, each in asked.items()},
            **{f"{name}_refused": each.refused for name, each in asked.items()},
            **{key: took for name, each in asked.items() for key, took in shares(f"{name}_", each.seconds).items()},
            "ticks": ticks,
            "tick_mean_seconds": round((after[f"{TICKS}_sum"] - before[f"{TICKS}_sum"]) / max(ticks, 1), 3),
            "queries_per_tick": round(queries / max(ticks, 1), 1),
            "prometheus_cpu_seconds": round(cpu_seconds(server.pid) - theirs, 1),
            "prometheus_rss_mib": round(memory_bytes(server.pid)["VmRSS"] / MIB),
        }


async def _note(
    fleet: Fleet,
    kind: Kind,
    field: str,
    seen: dict[Name, list[tuple[float, int]]],
    current: dict[Name, int] | None = None,
) -> None:
    """When a number of a spec changed, and to what."""
    async for moment, name, found in fleet.changes(kind, whole=True):
        number = int(found["spec"].get(field) or 0)
        seen[name].append((moment, number))
        if current is not None:
            current[name] = number
