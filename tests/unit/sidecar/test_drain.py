"""Draining against a real listener: real connections in the kernel's table, counted from loopback for the test."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from nereus.sidecar.connections import _parse, established
from nereus.sidecar.drain import Drain, DrainSettings
from nereus.sidecar.state import Board
from nereus.sidecar.triton_client import TritonClient


@dataclass
class Server:
    """Ports like Triton's: HTTP with health and metrics in one, and one that only accepts connections."""

    http_port: int = 0
    grpc_port: int = 0
    pending: int = 0
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(self, port: int) -> asyncio.StreamWriter:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        self._writers.append(writer)
        return writer

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()

    async def live(_: web.Request) -> web.Response:
        return web.Response()

    async def metrics(_: web.Request) -> web.Response:
        series = "nv_inference_pending_request_count"
        return web.Response(text=f'# TYPE {series} gauge\n{series}{{model="m",version="1"}} {made.pending}\n')

    app = web.Application()
    app.add_routes([web.get("/v2/health/live", live), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.http_port = runner.addresses[0][1]

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    grpc = await asyncio.start_server(accept, "127.0.0.1", 0)
    made.grpc_port = grpc.sockets[0].getsockname()[1]
    yield made
    await made.close()
    grpc.close()
    await grpc.wait_closed()
    await runner.cleanup()


@pytest.fixture
async def drain(server: Server) -> AsyncIterator[Drain]:
    settings = DrainSettings(
        http_port=server.http_port,
        grpc_port=server.grpc_port,
        min_seconds=0.2,
        max_seconds=3.0,
        http_settle_seconds=0.8,
        count_loopback=True,
    )
    triton = TritonClient(http_port=server.http_port, grpc_port=1, metrics_port=server.http_port, admin_key="")
    yield Drain(settings, Board(), triton)
    await triton.close()


async def test_a_pod_without_connections_drains_after_the_shortest_time(drain: Drain) -> None:
    result = await drain.run()
    assert result.why == "no connection is left"
    assert 0.2 <= result.seconds < 1.5
    assert drain.board.draining


async def test_a_grpc_connection_is_waited_for_until_it_is_gone(drain: Drain, server: Server) -> None:
    writer = await server.connect(server.grpc_port)
    task = asyncio.create_task(drain.run())
    done, _ = await asyncio.wait([task], timeout=1.2)
    assert not done
    writer.close()
    closed = time.monotonic()
    assert (await task).why == "no connection is left"
    assert time.monotonic() - closed < 1.0


async def test_http_connections_that_stay_open_are_not_waited_for_forever(drain: Drain, server: Server) -> None:
    await server.connect(server.http_port)
    result = await drain.run()
    assert (result.why, result.http) == ("only HTTP connections that stay open are left", 1)
    assert 0.8 <= result.seconds < 2.0


async def test_http_connections_that_are_closing_by_themselves_get_the_time(drain: Drain, server: Server) -> None:
    writers = [await server.connect(server.http_port) for _ in range(4)]
    task = asyncio.create_task(drain.run())
    for writer in writers:
        await asyncio.sleep(0.4)
        assert not task.done()
        writer.close()
    assert (await task).why == "no connection is left"


async def test_waiting_requests_are_waited_for(drain: Drain, server: Server) -> None:
    server.pending = 3
    task = asyncio.create_task(drain.run())
    done, _ = await asyncio.wait([task], timeout=1.2)
    assert not done
    server.pending = 0
    assert (await task).why == "no connection is left"


async def test_draining_ends_in_any_case(drain: Drain, server: Server) -> None:
    await server.connect(server.grpc_port)
    result = await drain.run()
    assert (result.why, result.grpc) == ("the time for draining is over", 1)
    assert 3.0 <= result.seconds < 4.0


async def test_a_second_call_waits_for_the_same_drain_and_a_caller_that_leaves_does_not_end_it(drain: Drain) -> None:
    first = asyncio.create_task(drain.run())
    await asyncio.sleep(0.05)
    first.cancel()
    second, third = await asyncio.gather(drain.run(), drain.run())
    assert second is third
    assert drain.board.draining


async def test_a_triton_that_is_gone_is_not_waited_for() -> None:
    settings = DrainSettings(http_port=1, grpc_port=1, min_seconds=5)
    triton = TritonClient(http_port=1, grpc_port=1, metrics_port=1, admin_key="")
    result = await Drain(settings, Board(), triton).run()
    await triton.close()
    assert result.why == "Triton no longer runs"
    assert result.seconds < 2.0


async def test_connections_are_seen_in_the_kernels_table(server: Server) -> None:
    before = len(established([server.grpc_port]))
    writer = await server.connect(server.grpc_port)
    [found] = established([server.grpc_port])[before:]
    assert (found.local_port, found.loopback) == (server.grpc_port, True)
    writer.close()
    assert established([1]) == []


@pytest.mark.parametrize(
    ("peer", "loopback"),
    [
        ("0100007F:9C40", True),
        ("0600007F:9C40", True),
        ("0100C80A:9C40", False),
        ("00000000000000000000000001000000:9C40", True),
        ("0000000000000000FFFF00000100007F:9C40", True),
        ("0000000000000000FFFF00000100C80A:9C40", False),
        ("B80D01200000000000000000010000FF:9C40", False),
    ],
)
def test_loopback_is_told_from_other_addresses_of_both_families(peer: str, loopback: bool) -> None:
    line = f"   0: 0100007F:1F41 {peer} 01 00000000:00000000 00:00000000 00000000 0 0 1 1 0 20 4 30 10 -1"
    [found] = _parse([line], [8001])
    assert found.loopback is loopback
