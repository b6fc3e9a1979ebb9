"""How long one look at the load of a whole fleet takes, on a real Prometheus, and what it costs both sides.

A store is filled with Triton's series at a sample every 15 s (promtool writes the blocks, so that no time is spent
scraping); then `Reader.read` runs as the operator runs it. Wall time, CPU seconds of both processes, queries, and the
longest time that the event loop stood still.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.figures import cpu_seconds
from localcluster.packages import find_tool
from nereus.prometheus.options import Options
from nereus.prometheus.reader import Reader
from nereus.prometheus.reading import Freshness, Key, Wanted
from tests.harness.prometheus import Prometheus

SCRAPE = 15
MINUTES = 12
RESULTS = Path("build/bench/prometheus.json")
Json = dict[str, Any]


def series(services: int, pods: int, models: int) -> Iterator[str]:
    """Labels of every series of Triton in the fleet."""
    for service in range(services):
        for pod in range(pods):
            for model in range(models):
                yield (
                    f'namespace="team-{service % 50}",serving_nereus_dev_service="service-{service}",'
                    f'pod="service-{service}-6f7c9d8b5-{pod:05d}",model="model-{model}",version="1",'
                    f'instance="10.0.{service % 250}.{pod}:8002",job="pods",node="node-{service % 100}"'
                )


def write(folder: Path, end: int, *, services: int, pods: int, models: int) -> int:
    """Fills the store; gives the number of series."""
    counters = {
        "nv_inference_count": 150,
        "nv_inference_request_success": 150,
        "nv_inference_exec_count": 40,
        "nv_inference_compute_input_duration_us": 5_000,
        "nv_inference_compute_infer_duration_us": 6_000_000,
        "nv_inference_compute_output_duration_us": 5_000,
        "nv_inference_pending_request_count": 0,
        'nv_inference_request_failure",reason="REJECTED': 0,
    }
    count = 0
    with (folder / "past.txt").open("w") as out:
        for labels in series(services, pods, models):
            for family, growth in counters.items():
                name, _, more = family.partition('",')
                full = f"{name}{{{labels}{f',{more}' + chr(34) if more else ''}}}"
                count += 1
                for step in range(MINUTES * 60 // SCRAPE + 1):
                    out.write(f"{full} {growth * step} {end - MINUTES * 60 + step * SCRAPE}\n")
        out.write("# EOF\n")
    command = ["tsdb", "create-blocks-from", "--max-block-duration=336h", "openmetrics", "past.txt", "data"]
    subprocess.run([str(find_tool("promtool")), *command], cwd=folder, check=True, capture_output=True)
    (folder / "past.txt").unlink()
    return count


async def standstill(stop: asyncio.Event) -> float:
    """The longest time in seconds for which nothing else could run."""
    worst, before = 0.0, time.perf_counter()
    while not stop.is_set():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        worst, before = max(worst, now - before - 0.001), now
    return worst


async def measure(server: Prometheus, *, services: int, pods: int, models: int, rounds: int, ended: float) -> Json:
    """Figures of `rounds` looks; asserts that each saw every service."""
    assert server.process is not None
    names = tuple(f"model-{number}" for number in range(models))
    wanted = [
        Wanted(key=Key(f"team-{n % 50}", f"service-{n}"), models=names, expected_ready=pods) for n in range(services)
    ]
    reader = Reader(Options(address=server.url, scrape_interval=SCRAPE, timeout=120))
    walls, stops = [], []
    queries, theirs, ours = server.answered(), cpu_seconds(server.process.pid), time.process_time()
    for _ in range(rounds):
        stop = asyncio.Event()
        watch = asyncio.create_task(standstill(stop))
        began = time.perf_counter()
        found = await reader.read(wanted)
        walls.append(time.perf_counter() - began)
        stop.set()
        stops.append(await watch)
        assert len(found) == services
        states = {reading.state for reading in found.values()}
        assert states == {Freshness.FRESH}, (states, next(iter(found.values())))
        assert time.time() < ended, "the looks took longer than there are samples"
    reader.close()
    return {
        "services": services,
        "pods": services * pods,
        "models": models,
        "queries_per_look": (server.answered() - queries) / rounds,
        "wall_seconds_median": sorted(walls)[len(walls) // 2],
        "wall_seconds_worst": max(walls),
        "operator_cpu_seconds": (time.process_time() - ours) / rounds,
        "prometheus_cpu_seconds": (cpu_seconds(server.process.pid) - theirs) / rounds,
        "event_loop_standstill_worst_seconds": max(stops),
        "operator_peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.prometheus", description=__doc__)
    parser.add_argument("--services", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--pods", type=int, default=2, help="per service")
    parser.add_argument("--models", type=int, default=1, help="per service")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    results = []
    for services in given.services:
        with tempfile.TemporaryDirectory(prefix="nereus-bench-") as name:
            folder = Path(name)
            # Written ahead, so that samples are current while the looks run, however long the writing took.
            ended = time.time() + MINUTES * 60 - 60
            count = write(folder, int(ended), services=services, pods=given.pods, models=given.models)
            with Prometheus(folder, scrape_seconds=SCRAPE) as server:
                result = asyncio.run(
                    measure(
                        server,
                        services=services,
                        pods=given.pods,
                        models=given.models,
                        rounds=given.rounds,
                        ended=ended,
                    )
                )
        results.append({**result, "series": count})
        print(json.dumps(results[-1], indent=1), flush=True)  # noqa: T201  a command-line tool
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
