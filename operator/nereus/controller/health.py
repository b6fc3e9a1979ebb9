"""The HTTP server of the operator: alive, ready, and metrics.

Alive means more than that the process answers: work that hangs or a watch that shows nothing new is a reason to be
started again. An API server that is down or refuses is not: a restart would not help, and the store would be lost. What
it refuses stands under the answer all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from nereus.controller.metrics import Metrics

Check = Callable[[], str]
"""Empty when all is well, otherwise what is wrong."""


async def serve(metrics: Metrics, *, host: str, port: int, alive: Check, ready: Check, notes: Check) -> web.AppRunner:
    """Serve /healthz, /readyz and /metrics until the runner is cleaned up; `notes` is what a person should know of that
    makes neither answer no."""

    def probe(check: Check) -> Callable[[web.Request], object]:
        async def answer(_: web.Request) -> web.Response:
            problem = check()
            text = "\n".join(filter(None, (problem or "ok", notes())))
            return web.Response(status=500 if problem else 200, text=text + "\n")

        return answer

    async def scrape(_: web.Request) -> web.Response:
        own = generate_latest(metrics.registry)
        body = own + (await asyncio.to_thread(metrics.services.render)).encode()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", probe(alive))  # type: ignore[arg-type]
    app.router.add_get("/readyz", probe(ready))  # type: ignore[arg-type]
    app.router.add_get("/metrics", scrape)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner


async def measure_lag(metrics: Metrics) -> None:
    """How late timers fire: work that holds the event loop shows here first."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(1)
        metrics.loop_lag.set(time.monotonic() - began - 1)
