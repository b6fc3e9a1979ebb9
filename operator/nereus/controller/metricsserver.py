"""The process that answers the External Metrics API, from its own memory: `python -m nereus.controller.metricsserver`.

Beside the operator, because there an answer waits for whatever the event loop does, and in a thread for the lock of the
interpreter: both take tens of milliseconds while services are looked at (bench/metricsapi.py measures it).

The operator (metricsprocess.py) writes what is to be known to the standard input, as lines of JSON, and reads a line
after each `beat`: whether this process serves. It ends when the input ends, so it never outlives the operator. While
the operator hangs, its lease and its decisions run out here as they do there.

Nothing of the operator's is loaded but what is answered, so that the process stays small beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import ssl
import sys
import time
from typing import Any

from aiohttp import web

from nereus.controller.metricsapi import Callers, Known, Numbers, answer, encoded

SILENT_SECONDS = 300.0
"""An operator that has said nothing for this long hangs: what it said before is not served any more."""
IDLE_SECONDS = 300.0
"""A connection without a request is closed after this; the API server closes its own after 90 s."""
END_SECONDS = 1.0
"""What is being answered may take this long to end; an answer takes milliseconds."""
LONGEST_MESSAGE = 2**24


def context(callers: Callers) -> ssl.SSLContext:
    """TLS for callers with a certificate; the server's own is loaded by the caller. Raises ssl.SSLError."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(cadata=callers.authority)
    return made


class Server:
    """Listens as soon as it is told who may ask and has a certificate; needs a running event loop."""

    def __init__(self, port: int, *, host: str = "0.0.0.0") -> None:  # noqa: S104 - the API server asks from outside
        self._host = host
        self._port = port
        self.numbers = Numbers()
        self._callers: Callers | None = None
        self._certificate: tuple[str, str] | None = None
        self._loaded = False
        self._context: ssl.SSLContext | None = None
        self._listening: web.AppRunner | None = None

    async def take(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """What the operator says: any of `services`, `callers`, `certificate` and `beat` (the moments of `Numbers`).
        Returns what is said to a beat."""
        for name, known in message.get("services", {}).items():
            namespace, _, service = name.partition("/")
            if known is None:
                self.numbers.known.pop((namespace, service), None)
            else:
                self.numbers.known[namespace, service] = Known(*known)
        if "callers" in message:
            told = message["callers"]
            await self._take_callers(Callers(authority=told["authority"], allowed=tuple(told["allowed"])))
        if "certificate" in message:
            chain, key = message["certificate"]
            self._certificate, self._loaded = (chain, key), False
        if "beat" not in message:
            return None
        self.numbers.leads_until, self.numbers.decided_until = message["beat"]
        self.numbers.heard_until = time.monotonic() + SILENT_SECONDS
        return {"problem": await self._listen(), "serves": self._listening is not None}

    async def _take_callers(self, callers: Callers) -> None:
        """Another authority means other connections: one that is no longer trusted must not be accepted."""
        if self._callers is None or callers.authority != self._callers.authority:
            self._context = None
            await self.close()
        self._callers = callers

    async def _listen(self) -> str:
        """Serves with what it was told last, as soon as that is enough; returns what hinders it."""
        if self._callers is None or self._certificate is None:
            return ""
        try:
            if self._context is None:
                self._context, self._loaded = context(self._callers), False
            if not self._loaded:
                self._context.load_cert_chain(*self._certificate)
                self._loaded = True
            if self._listening is None:
                self._listening = await self._start(self._context)
        except OSError as error:  # also ssl.SSLError
            return f"port {self._port}: {error}"
        return ""

    async def _start(self, tls: ssl.SSLContext) -> web.AppRunner:
        """Raises OSError when the port cannot be had."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(
            application, access_log=None, keepalive_timeout=IDLE_SECONDS, shutdown_timeout=END_SECONDS
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port, ssl_context=tls).start()
        except OSError:
            await runner.cleanup()
            raise
        return runner

    async def close(self) -> None:
        """Accepts no more connections, and ends those that are open."""
        if self._listening is not None:
            runner, self._listening = self._listening, None
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        assert self._callers is not None, "nothing listens before it is known who may ask"
        given = answer(
            request.method,
            request.raw_path,
            caller=_common_name(request.get_extra_info("peercert")),
            callers=self._callers,
            numbers=self.numbers,
            now=time.monotonic(),
        )
        return web.json_response(given.body, status=given.status)


def _common_name(certificate: dict[str, Any] | None) -> str:
    for part in (certificate or {}).get("subject", ()):
        for name, value in part:
            if name == "commonName":
                return str(value)
    return ""


async def run(port: int) -> None:
    """Serves until the standard input ends."""
    server = Server(port)
    reader = asyncio.StreamReader(limit=LONGEST_MESSAGE)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        said = await server.take(json.loads(line))
        if said is not None:
            os.write(sys.stdout.fileno(), encoded(said))
        await asyncio.sleep(0)  # whoever asks now does not wait until everything was taken in
    await server.close()


if __name__ == "__main__":
    # Ctrl-C reaches the whole group; the operator ends in order, and this process with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A head that is no HTTP is answered with 400; it is no error of ours, and there may be many.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    with contextlib.suppress(BrokenPipeError):
        asyncio.run(run(int(sys.argv[1])))
