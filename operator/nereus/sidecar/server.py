"""The sidecar's HTTP endpoints: what the kubelet, the operator and Prometheus ask.

Listens on all addresses, because the kubelet and the operator come from outside of the pod. Everything is read-only but
`/drain`, which the kubelet calls when the pod is told to stop; what a stranger could do with it is make one pod
unready, and only until Triton starts again.
"""

from __future__ import annotations

import asyncio
import time

from aiohttp import web

from nereus.api import protocol
from nereus.sidecar import metrics
from nereus.sidecar.drain import Drain
from nereus.sidecar.state import Board
from nereus.sidecar.triton_client import TritonClient, TritonRefusedError, TritonUnavailableError

STUCK_SECONDS = 60.0


class Heartbeat:
    """Whether the tasks still turn; `/live` fails when they do not."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def beat(self) -> None:
        self._last = time.monotonic()

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self._last


def application(*, board: Board, triton: TritonClient, drain: Drain, heartbeat: Heartbeat) -> web.Application:
    """The routes."""

    async def started(_: web.Request) -> web.Response:
        return _verdict(board.unstarted())

    async def live(_: web.Request) -> web.Response:
        age = heartbeat.age_seconds
        return _verdict([f"the main loop has not turned for {age:.0f} s"] if age > STUCK_SECONDS else [])

    async def ready(_: web.Request) -> web.Response:
        reasons = board.unready(frozenset()) if board.draining else await _ask(board, triton)
        return _verdict(reasons)

    async def state(_: web.Request) -> web.Response:
        return web.Response(text=board.report().to_json(), content_type="application/json")

    async def prometheus(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(board).encode(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def drained(_: web.Request) -> web.Response:
        result = await drain.run()
        words = {"seconds": result.seconds, "why": result.why, "http": result.http, "grpc": result.grpc}
        return web.json_response(words)

    app = web.Application()
    app.add_routes(
        [
            web.get(protocol.PATH_STARTED, started),
            web.get(protocol.PATH_LIVE, live),
            web.get(protocol.PATH_READY, ready),
            web.get(protocol.PATH_STATE, state),
            web.get(protocol.PATH_METRICS, prometheus),
            web.get(protocol.PATH_DRAIN, drained),
        ]
    )
    return app


async def _ask(board: Board, triton: TritonClient) -> list[str]:
    """Why the pod is not ready, by what Triton says now: the last turn of the loader may be two seconds old."""
    error: Exception | None = None
    for _ in range(2):  # a connection may meet a thread of Triton that is busy with a load; the next one meets another
        try:
            index = await triton.index(seconds=0.45)
            return board.unready(frozenset(index.ready))
        except (TritonUnavailableError, TritonRefusedError) as caught:
            error = caught
            await asyncio.sleep(0)
    return [*board.unready(frozenset(r.name for r in board.planned if r.serving)), str(error)]


def _verdict(reasons: list[str]) -> web.Response:
    if not reasons:
        return web.json_response({"ok": True})
    return web.json_response({"ok": False, "reasons": reasons[:20]}, status=503)
