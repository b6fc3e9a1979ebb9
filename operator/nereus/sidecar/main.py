"""`nereus sidecar`: starts the parts, watches the plan, and stops cleanly.

The admin key is written before anything else, because Triton's command reads it when it starts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from aiohttp import web

import nereus
from nereus.api import names
from nereus.sidecar import adminkey, logs, rejection
from nereus.sidecar import plan as plans
from nereus.sidecar.cache import BEAT_SECONDS, STALE_SECONDS, Cache
from nereus.sidecar.costs import Costs
from nereus.sidecar.drain import Drain, DrainSettings
from nereus.sidecar.drift import Drifts
from nereus.sidecar.fetch import FetchContext, Limits
from nereus.sidecar.fetch.cached import SharedCache
from nereus.sidecar.keeper import Keeper
from nereus.sidecar.loader import PARALLEL_LOADS, Loader
from nereus.sidecar.repository import Repository
from nereus.sidecar.server import Heartbeat, application
from nereus.sidecar.state import Board, Moments
from nereus.sidecar.triton_client import TritonClient

PLAN_SECONDS = 0.3
PENDING_LOG_SECONDS = 10.0


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    logs.setup(level=arguments.log_level)
    try:
        key = adminkey.ensure(arguments.admin_key)
        return asyncio.run(_run(arguments, key))
    except OSError as error:
        logs.warning("the sidecar cannot run", why=str(error))
        return 1


async def _run(arguments: argparse.Namespace, key: str) -> int:
    repository = Repository(arguments.repository)
    repository.prepare()
    memory = arguments.admin_key.with_name("moments.json")
    refusals = arguments.admin_key.with_name("rejected.json")
    board = Board(version=nereus.__version__, moments=_recall(memory), rejected=rejection.recall(refusals))
    triton = TritonClient(
        http_port=arguments.http_port,
        grpc_port=arguments.grpc_port,
        metrics_port=arguments.metrics_port,
        admin_key=key,
    )
    limits = Limits(max_bytes=arguments.max_source_bytes, max_files=arguments.max_source_files)
    shared = None
    if arguments.cache is not None:
        cache = Cache(arguments.cache, arguments.cache_bytes, arguments.pod, stale_seconds=arguments.cache_stale)
        shared = SharedCache(cache, beat_seconds=min(BEAT_SECONDS, arguments.cache_stale / 4))
    context = FetchContext(limits=limits)
    keeper = Keeper(board, repository, context, look_seconds=arguments.look_seconds, shared=shared)
    drifts = Drifts(triton, every_seconds=2 * arguments.look_seconds)
    loader = Loader(board, repository, triton, keeper, drifts, parallel=arguments.parallel_loads)
    settings = DrainSettings(
        http_port=arguments.http_port,
        grpc_port=arguments.grpc_port,
        min_seconds=min(arguments.drain_min, arguments.drain_max),
        max_seconds=arguments.drain_max,
        count_loopback=arguments.drain_counts_loopback,
    )
    heartbeat = Heartbeat()
    app = application(board=board, triton=triton, drain=Drain(settings, board, triton), heartbeat=heartbeat)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await runner.setup()
    try:
        await web.TCPSite(runner, arguments.address, arguments.port).start()
        logs.info("the sidecar runs", version=nereus.__version__, port=arguments.port)
        tasks = [
            asyncio.create_task(_follow(arguments, keeper, memory, refusals, heartbeat), name="plan"),
            asyncio.create_task(loader.run(), name="loader"),
            asyncio.create_task(Costs(board, triton, look_seconds=2 * arguments.look_seconds).run(), name="costs"),
            asyncio.create_task(stop.wait(), name="stop"),
        ]
        if shared is not None:
            tasks.append(asyncio.create_task(shared.run(repository.sources, keeper.again), name="cache"))
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        failed = [task for task in done if task.exception() is not None]
        for task in failed:
            logs.warning("the sidecar stops: a task ended", task=task.get_name(), error=repr(task.exception()))
        return 1 if failed else 0
    finally:
        await keeper.close()
        if shared is not None:
            await shared.close(for_good=board.draining)
        await triton.close()
        await runner.cleanup()
        logs.info("the sidecar ends")


async def _follow(
    arguments: argparse.Namespace, keeper: Keeper, memory: Path, refusals: Path, heartbeat: Heartbeat
) -> None:
    """Watches the plan's volume, and keeps the moments and what was refused for a next life of this container."""
    board, directory = keeper.board, arguments.plan
    refused = board.rejected
    accepted: tuple[object, ...] | None = None
    kept = asdict(board.moments)
    told = 0.0
    try:
        while True:
            heartbeat.beat()
            if board.rejected != refused:
                accepted, refused = None, board.rejected
                rejection.remember(refusals, refused)
            stamp = plans.stamp(directory)
            if stamp != accepted:
                try:
                    plan = plans.read(directory, pod=arguments.pod, but_not=refused[0])
                except plans.PlanPendingError as error:
                    board.problems["plan"] = str(error)
                    if time.monotonic() - told >= PENDING_LOG_SECONDS:
                        told = time.monotonic()
                        logs.warning("waiting for the plan", why=str(error))
                else:
                    # a volume that was swapped while it was read is read again
                    accepted = stamp if plans.stamp(directory) == stamp else None
                    board.problems.pop("plan", None)
                    if plan.revision != board.revision:
                        names_of = [model.name for model in plan.models]
                        logs.info("a new plan", revision=plan.revision, models=names_of, tried_first=plan.tried)
                    keeper.follow(plan)
            if asdict(board.moments) != kept:
                kept = asdict(board.moments)
                _keep(memory, kept)
            await asyncio.sleep(PLAN_SECONDS)
    finally:
        _keep(memory, asdict(board.moments))


def _keep(memory: Path, moments: dict[str, float | None]) -> None:
    with contextlib.suppress(OSError):
        memory.write_text(json.dumps(moments))


def _recall(memory: Path) -> Moments:
    try:
        known = json.loads(memory.read_text())
        moments = Moments(**{name: known.get(name) for name in Moments.__dataclass_fields__})
    except (OSError, ValueError, AttributeError):
        moments = Moments()
    if moments.started_at is None:
        moments.started_at = time.time()
    return moments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nereus sidecar",
        description="Runs beside Triton in a pod: fetches models, loads them, answers for readiness, drains.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--http-port", type=int, default=8000, help="Triton's HTTP port on localhost")
    add("--grpc-port", type=int, default=8001, help="Triton's gRPC port on localhost")
    add("--metrics-port", type=int, default=8002, help="Triton's metrics port; read while draining")
    add("--drain-max", type=float, default=60.0, help="seconds after which draining ends in any case")
    add("--drain-min", type=float, default=5.0, help="seconds until every proxy knows that this pod takes no requests")
    add(
        "--drain-counts-loopback",
        action="store_true",
        help="wait for connections from loopback addresses too (a mesh's proxy in the pod)",
    )
    add("--address", default="0.0.0.0", help="address to listen on")  # noqa: S104 (the kubelet asks from outside)
    add("--port", type=int, default=names.SIDECAR_PORT, help="port to listen on")
    add("--repository", type=Path, default=Path(names.PATH_REPOSITORY), help="model repository shared with Triton")
    add("--plan", type=Path, default=Path(names.PATH_PLAN), help="directory of the mounted plan")
    add("--pod", default=socket.gethostname(), help="name of this pod, which is also its host name")
    add("--admin-key", type=Path, default=Path(names.PATH_ADMIN_KEY), help="file for the key of the repository API")
    add(
        "--look-seconds",
        type=float,
        default=5.0,
        help="how often a mounted source is looked at; Triton's statistics and configuration half as often",
    )
    add("--cache", type=Path, help="directory for fetched models that other pods use too; none when absent")
    add("--cache-bytes", type=int, default=0, help="how large the cache may become")
    add(
        "--cache-stale",
        type=float,
        default=STALE_SECONDS,
        help="seconds after which another pod that fetches into the cache, and does not move, is thought dead",
    )
    add("--parallel-loads", type=int, default=PARALLEL_LOADS, help="how many models a starting pod loads at once")
    add("--max-source-bytes", type=int, default=Limits.max_bytes, help="largest source, packed and unpacked")
    add("--max-source-files", type=int, default=Limits.max_files, help="most files in one source")
    add("--log-level", default=os.environ.get("NEREUS_LOG_LEVEL", "INFO"), help="also: NEREUS_LOG_LEVEL")
    return parser
