"""A real HTTPS server with a certificate of its own, and conditions to wait for."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Site:
    """An HTTPS server on loopback. `routes` maps a path to its handler and may change while it runs; `trusting` is a
    client's TLS context that knows its certificate."""

    port: int
    trusting: ssl.SSLContext
    routes: dict[str, Handler] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"https://localhost:{self.port}{path}"

    def serve(self, path: str, body: bytes, *, status: int = 200) -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(body=body, status=status)

        self.routes[path] = answer


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Certificate and key for `localhost`."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "tls.crt", folder / "tls.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.fixture
async def site(certificate: tuple[Path, Path]) -> AsyncIterator[Site]:
    """The server, running for one test."""
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(*map(str, certificate))
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    running = Site(0, trusting)

    async def dispatch(request: web.Request) -> web.StreamResponse:
        running.requests.append(request.path_qs)
        handler = running.routes.get(request.path)
        return await handler(request) if handler else web.Response(status=404, text="<html>no such page</html>")

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", dispatch)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        tcp = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls)
        await tcp.start()
        running.port = runner.addresses[0][1]
        yield running
    finally:
        await runner.cleanup()


async def until(condition: Callable[[], object], *, seconds: float = 15.0, state: Callable[[], object] = str) -> None:
    """Waits until the condition holds; fails with the state when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s; {state()}"
        await asyncio.sleep(0.01)
