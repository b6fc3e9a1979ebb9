"""A proxy between an operator and a real API server that fails on purpose: slow, refusing, deaf, or cut off.

A stand-in for the faults of networks and of overloaded API servers, and nothing else: whatever it lets through is
answered by the real server. It also writes down every call, so that a test can say which rights were used and what
was written when. Plain HTTP towards the operator; towards the server with the certificate of the kubeconfig, or with
whatever token the operator brought.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from tests.harness.apiserver import Json

CLOSING_SECONDS = 0.25
"""TLS connections of aiohttp close a moment after their session."""
WRITES = ("POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class Call:
    """One request of the operator. `at` is monotonic; `kind` is the resource with its subresource."""

    method: str
    path: str
    watch: bool
    at: float

    @property
    def group(self) -> str:
        parts = self.path.strip("/").split("/")
        return parts[1] if parts[0] == "apis" else ""

    @property
    def _all(self) -> list[str]:
        parts = self.path.strip("/").split("/")
        return parts[3:] if parts[0] == "apis" else parts[2:]

    @property
    def _rest(self) -> list[str]:
        return self._all[2:] if self.namespace else self._all

    @property
    def namespace(self) -> str:
        """Empty where it is about all of them, or about an object of the cluster."""
        return self._all[1] if self._all[:1] == ["namespaces"] and len(self._all) > 2 else ""

    @property
    def resource(self) -> str:
        """Such as `deployments` or `deployments/scale`; empty for discovery."""
        return "/".join(self._rest[:1] + self._rest[2:3])

    @property
    def name(self) -> str:
        return self._rest[1] if len(self._rest) > 1 else ""

    @property
    def verb(self) -> str:
        """As a Role names it."""
        if self.method == "GET":
            return "watch" if self.watch else "get" if self.name else "list"
        return {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[self.method]

    @property
    def writes(self) -> bool:
        """Whether it changes something, the Lease left out."""
        return self.method in WRITES and self.resource != "leases"


@dataclass(frozen=True)
class Fault:
    """What goes wrong with a call: it waits first, is answered in the server's place, or its answer is lost. A watch
    that is `silent` is open and shows nothing, until watches are cut."""

    delay: float = 0.0
    status: int = 0
    retry_after: str = ""
    lose_answer: bool = False
    expired: bool = False
    silent: bool = False


Plan = Callable[[Call], Fault | None]


@dataclass
class FaultyProxy:
    """Runs in a thread while it is entered. `plan` says what goes wrong; `after` is told of each call that the server
    has carried out, before the operator hears of it."""

    kubeconfig: Path
    plan: Plan = lambda _call: None
    after: Callable[[Call], None] = lambda _call: None
    own_identity: bool = True
    calls: list[Call] = field(default_factory=list)
    answers: list[tuple[Call, int]] = field(default_factory=list)
    _watches: set[asyncio.Task[object]] = field(default_factory=set)

    def __enter__(self) -> FaultyProxy:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(started)), daemon=True)
        self._thread.start()
        assert started.wait(10), "the proxy did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=10)
        assert not self._thread.is_alive(), "the proxy did not end"
        if error is not None:
            print("--- last calls through the proxy", *self.calls[-30:], sep="\n")

    def kubeconfig_for_operator(self, path: Path, *, token: str = "") -> Path:
        """Writes a kubeconfig that leads here."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": f"http://127.0.0.1:{self._port}"}}],
            "users": [{"name": "operator", "user": {"token": token} if token else {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "operator"}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def cut_watches(self) -> None:
        """End every watch that is open, as a load balancer does."""

        def cut() -> None:
            for task in self._watches:
                task.cancel()

        self._loop.call_soon_threadsafe(cut)

    def writes(self) -> list[Call]:
        return [call for call in self.calls if call.writes]

    async def _run(self, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        cluster, user = _parts(self.kubeconfig)
        context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.own_identity:
            _present(context, user)
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=2**21) as session:
            app = web.Application(client_max_size=2**26)

            async def handle(request: web.Request) -> web.StreamResponse:
                return await self._handle(request, session, str(cluster["server"]))

            app.router.add_route("*", "/{path:.*}", handle)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self._port = runner.addresses[0][1]
            started.set()
            await self._stop.wait()
            for task in list(self._watches):
                task.cancel()
            await runner.cleanup()
        await asyncio.sleep(CLOSING_SECONDS)

    async def _handle(self, request: web.Request, session: aiohttp.ClientSession, server: str) -> web.StreamResponse:
        watch = request.query.get("watch", "") in ("1", "true")
        call = Call(request.method, request.path, watch, time.monotonic())
        self.calls.append(call)
        fault = self.plan(call) or Fault()
        await asyncio.sleep(fault.delay)
        if fault.status:
            headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            return web.json_response(
                {"kind": "Status", "message": "faulty proxy"}, status=fault.status, headers=headers
            )
        if fault.expired:
            gone = {"kind": "Status", "apiVersion": "v1", "code": 410, "reason": "Expired", "message": "too old"}
            return web.Response(text=json.dumps({"type": "ERROR", "object": gone}) + "\n")
        if fault.silent:
            return await self._held(request, lambda _response: asyncio.Event().wait())
        headers = {
            name: request.headers[name]
            for name in ("Accept", "Content-Type", "Authorization")
            if name in request.headers
        }
        url = server + request.path_qs
        async with session.request(request.method, url, data=await request.read() or None, headers=headers) as answer:
            self.answers.append((call, answer.status))
            if watch and answer.status == 200:
                return await self._stream(request, answer)
            body = await answer.read()
            self.after(call)
            if fault.lose_answer:
                assert request.transport is not None
                request.transport.abort()
            passed = {name: answer.headers[name] for name in ("Content-Type", "Retry-After") if name in answer.headers}
            return web.Response(status=answer.status, body=body, headers=passed)

    async def _stream(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        async def pump(response: web.StreamResponse) -> None:
            async for chunk in answer.content.iter_any():
                await response.write(chunk)

        return await self._held(request, pump)

    async def _held(
        self, request: web.Request, fill: Callable[[web.StreamResponse], Coroutine[Any, Any, object]]
    ) -> web.StreamResponse:
        """An answer that goes on until it is filled or cut."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        task: asyncio.Task[object] = asyncio.ensure_future(fill(response))
        self._watches.add(task)
        try:
            with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                await task
        except asyncio.CancelledError:
            if not task.cancelled():
                task.cancel()
                raise
        finally:
            self._watches.discard(task)
        return response


def _parts(kubeconfig: Path) -> tuple[Json, Json]:
    config = yaml.safe_load(kubeconfig.read_text())
    return config["clusters"][0]["cluster"], config["users"][0]["user"]


def _present(context: ssl.SSLContext, user: Json) -> None:
    with tempfile.NamedTemporaryFile(suffix=".pem") as pair:
        pair.write(
            base64.b64decode(user["client-certificate-data"]) + b"\n" + base64.b64decode(user["client-key-data"])
        )
        pair.flush()
        context.load_cert_chain(pair.name)
