"""A web server on loopback that answers as a test tells it: what a real API server does only when it is in trouble."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from kubernetes.aio.client import Configuration

from nereus.controller.connection import Connection


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Scripted:
    """The server. `answer` makes each response; `seen` holds what was asked."""

    answer: Callable[[Seen], Awaitable[web.StreamResponse]]
    seen: list[Seen] = field(default_factory=list)
    address: str = ""
    port: int = 0

    @property
    def connection(self) -> Connection:
        configuration = Configuration()
        configuration.host = self.address
        return Connection(server=self.address, configuration=configuration)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        seen = Seen(
            request.method, request.path, dict(request.query), dict(request.headers), json.loads(raw) if raw else None
        )
        self.seen.append(seen)
        return await self.answer(seen)


@asynccontextmanager
async def scripted(answer: Callable[[Seen], Awaitable[web.StreamResponse]]) -> AsyncIterator[Scripted]:
    """Runs the server while the block runs."""
    server = Scripted(answer)
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    server.address = f"http://127.0.0.1:{server.port}"
    try:
        yield server
    finally:
        await runner.cleanup()


def refusal(code: int, reason: str, message: str, **headers: str) -> web.Response:
    """A Status object as the API server answers it."""
    body = {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": code}
    return web.json_response(body, status=code, headers=headers)


async def until(what: str, look: Any) -> None:
    """Waits until something holds, for about ten seconds; fails saying what did not come true."""
    for _ in range(2000):
        if look():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(what)
