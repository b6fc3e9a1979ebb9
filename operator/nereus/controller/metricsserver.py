"""The process that answers the External Metrics API, from its own memory: `python -m nereus.controller.metricsserver`.

Beside the operator, because there an answer waits for whatever the event loop does, and in a thread for the lock of the
interpreter: both take tens of milliseconds while services are looked at (bench/metricsapi.py measures it).

The operator (metricsprocess.py) writes what is to be known to the standard input, as lines of JSON, and reads a line
after each `beat`: whether this process serves. It ends when the input ends, so it never outlives the operator. While
the operator hangs, its lease and its decisions run out here as they do there.

HTTP is the little that the API server speaks to an aggregated API: GET without a body, over connections that stay.
The standard library's own servers answer in threads; aiohttp would take twice the memory (37 instead of 20 MB).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import ssl
import sys
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from nereus.controller.metricsapi import Answer, Callers, Known, Numbers, answer, encoded, refused

SILENT_SECONDS = 300.0
"""An operator that has said nothing for this long hangs: what it said before is not served any more."""
IDLE_SECONDS = 300.0
"""A connection without a request is closed after this; the API server closes its own after 90 s."""
HANDSHAKE_SECONDS = 10.0
LONGEST_HEAD = 2**16
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
        self._connected: set[asyncio.StreamWriter] = set()
        self._context: ssl.SSLContext | None = None
        self._listening: asyncio.Server | None = None

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
            self._take_callers(Callers(authority=told["authority"], allowed=tuple(told["allowed"])))
        if "certificate" in message:
            chain, key = message["certificate"]
            self._certificate, self._loaded = (chain, key), False
        if "beat" not in message:
            return None
        self.numbers.leads_until, self.numbers.decided_until = message["beat"]
        self.numbers.heard_until = time.monotonic() + SILENT_SECONDS
        return {"problem": await self._listen(), "serves": self._listening is not None}

    def _take_callers(self, callers: Callers) -> None:
        """Another authority means other connections: one that is no longer trusted must not be accepted."""
        if self._callers is None or callers.authority != self._callers.authority:
            self._context = None
            self.close()
            for writer in self._connected:
                writer.close()
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
            if self._listening is not None:
                return ""
            self._listening = await asyncio.start_server(
                self._talk,
                self._host,
                self._port,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                limit=LONGEST_HEAD,
            )
        except OSError as error:  # also ssl.SSLError
            return f"port {self._port}: {error}"
        return ""

    def close(self) -> None:
        """Accepts no more connections."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side has enough."""
        caller = _common_name(writer.get_extra_info("peercert"))
        self._connected.add(writer)
        gone = (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, OSError)
        with contextlib.suppress(*gone):
            # Otherwise the authority was replaced while this client still shook hands.
            last = writer.get_extra_info("sslcontext") is not self._context
            while not last:
                async with asyncio.timeout(IDLE_SECONDS):
                    request = parse(await reader.readuntil(b"\r\n\r\n"))
                    last = request.last
                    writer.write(_response(self._answer(request, caller), last=last))
                    await writer.drain()
        self._connected.discard(writer)
        writer.close()

    def _answer(self, request: Request, caller: str) -> Answer:
        if self._callers is None or request.method is None:
            return refused(400, "BadRequest", "a GET over HTTP/1.1 without a body is expected")
        return answer(
            request.method,
            request.target,
            caller=caller,
            callers=self._callers,
            numbers=self.numbers,
            now=time.monotonic(),
        )


@dataclass(frozen=True)
class Request:
    """The head of a request; `method` is None when it cannot be answered. `last`: the connection ends with it."""

    method: str | None
    target: str = ""
    last: bool = True


def parse(head: bytes) -> Request:
    """The head of a request, up to and with its empty line. Total: whatever is not understood is the last request."""
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
        return Request(None)
    method, target, version = words
    fields = {name.strip().lower(): value.strip().lower() for name, _, value in (line.partition(":") for line in lines)}
    if fields.get("content-length", "0") != "0" or "transfer-encoding" in fields:
        return Request(None)
    last = method != "GET" or version == "HTTP/1.0" or "close" in fields.get("connection", "")
    return Request(method, target, last)


def _response(given: Answer, *, last: bool) -> bytes:
    body = json.dumps(given.body).encode()
    head = (
        f"HTTP/1.1 {given.status} {HTTPStatus(given.status).phrase}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"Date: {time.strftime('%a, %d %b %Y %H:%M:%S GMT', time.gmtime())}\r\n"
        f"{'Connection: close' if last else 'Connection: keep-alive'}\r\n\r\n"
    )
    return head.encode() + body


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
    server.close()


if __name__ == "__main__":
    # Ctrl-C reaches the whole group; the operator ends in order, and this process with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(BrokenPipeError):
        asyncio.run(run(int(sys.argv[1])))
