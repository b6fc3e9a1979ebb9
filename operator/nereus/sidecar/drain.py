"""Draining: how long Triton may still serve before it is told to stop, so that no request is lost.

Called by the preStop hook of Triton's container; the kubelet sends SIGTERM when the answer has come. What happens then
was measured: Triton refuses new HTTP connections, answers new calls on open gRPC connections with NOT_FOUND, which no
client retries by itself, and finishes the requests it has. So the wait has three parts:

1. at least `min_seconds`, until no proxy on any node sends new connections to a pod that left the endpoints;
2. until no gRPC connection is left. Triton closes each at its age (`--grpc-max-connection-age`) and the client connects
   elsewhere, so this ends by itself within age and grace;
3. until no request waits in a queue, and no HTTP connection closes any more. Triton has no age for HTTP connections and
   closes them only when it stops, whether they are idle or busy: more waiting saves no request, and the client of a
   busy one must retry on a closed connection in any case. Connections that go away by themselves (a gateway that was
   told of the new endpoints, a client that is done) are given the time to do so.

All of it ends after `max_seconds`, and at once when Triton no longer runs.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from nereus.sidecar import logs
from nereus.sidecar.connections import established
from nereus.sidecar.state import Board
from nereus.sidecar.triton_client import TritonClient

TURN_SECONDS = 0.25
LOG_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class DrainSettings:
    """`http_settle_seconds`: so long no HTTP connection may have closed before those that are left are taken as ones
    that stay. `count_loopback`: for a mesh whose proxy in the pod connects to Triton from a loopback address."""

    http_port: int
    grpc_port: int
    min_seconds: float = 5.0
    max_seconds: float = 60.0
    http_settle_seconds: float = 3.0
    count_loopback: bool = False


@dataclass(frozen=True, kw_only=True)
class DrainResult:
    """How it ended."""

    seconds: float
    why: str
    http: int
    grpc: int


@dataclass
class _Seen:
    http_still_since: float
    http: int = 0
    grpc: int = 0
    pending: int | None = None
    alive: bool = True


@dataclass
class Drain:
    """At most one drain at a time; a second call waits for the same one."""

    settings: DrainSettings
    board: Board
    triton: TritonClient
    _task: asyncio.Task[DrainResult] | None = field(default=None)

    async def run(self) -> DrainResult:
        """Marks the pod as not ready, waits, and says how it ended. Goes on when the caller goes away."""
        if self._task is None or (self._task.done() and not self.board.draining):
            self.board.draining, self.board.drained = True, False
            self._task = asyncio.create_task(self._drain(), name="drain")
        return await asyncio.shield(self._task)

    async def _drain(self) -> DrainResult:
        started = time.monotonic()
        logs.info("draining: not ready any more", max_seconds=self.settings.max_seconds)
        seen = _Seen(http_still_since=started)
        told = checked = started
        while True:
            now = time.monotonic()
            self._count(seen, now)
            if now - checked >= 1.0 or checked == started:
                checked = now
                seen.pending = await self.triton.pending_requests()
                seen.alive = await self.triton.runs()
            why = self._verdict(seen, elapsed=now - started, still=now - seen.http_still_since)
            if why:
                break
            if now - told >= LOG_SECONDS:
                told = now
                logs.info(
                    "draining", seconds=round(now - started), grpc=seen.grpc, http=seen.http, pending=seen.pending
                )
            await asyncio.sleep(TURN_SECONDS)
        result = DrainResult(seconds=round(time.monotonic() - started, 2), why=why, http=seen.http, grpc=seen.grpc)
        self.board.drained = True
        logs.info("drained", seconds=result.seconds, why=why, http=result.http, grpc=result.grpc)
        return result

    def _count(self, seen: _Seen, now: float) -> None:
        settings = self.settings
        try:
            found = established((settings.http_port, settings.grpc_port))
        except OSError as error:
            # without the kernel's table every connection may still be there: wait for the whole time
            seen.grpc = seen.grpc or 1
            self.board.problems["drain"] = f"connections cannot be counted: {error}; draining takes its full time"
            return
        count = Counter(
            found_one.local_port for found_one in found if settings.count_loopback or not found_one.loopback
        )
        http, grpc = count[settings.http_port], count[settings.grpc_port]
        if http < seen.http:
            seen.http_still_since = now
        seen.http, seen.grpc = http, grpc

    def _verdict(self, seen: _Seen, *, elapsed: float, still: float) -> str:
        settings = self.settings
        if elapsed >= settings.max_seconds:
            return "the time for draining is over"
        if not seen.alive:
            return "Triton no longer runs"
        if elapsed < settings.min_seconds or seen.grpc or seen.pending:
            return ""
        if not seen.http:
            return "no connection is left"
        if still >= settings.http_settle_seconds:
            return "only HTTP connections that stay open are left"
        return ""
