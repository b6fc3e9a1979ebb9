"""The benchmarks' client of the External Metrics API: it asks steadily, also while an answer is late."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.asking import Asker, Way, path
from tests.harness.authority import issue
from tests.harness.prometheus import free_port

PERIOD = 0.02
WAIT_SECONDS = 60.0
VALUE = b'{"items":[{"value":"4"}]}'
LATE_SECONDS = 1.0


@dataclass
class Answering:
    """A TLS server that wants a certificate; answers 404 for services named `other`, nothing while not `free`."""

    port: int = 0
    asked: list[str] = field(default_factory=list)
    free: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            where = head.decode().split(" ")[1]
            self.asked.append(where)
            self.news.set()
            await self.free.wait()
            status = b"404 Not Found" if where.endswith("other") else b"200 OK"
            writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(VALUE), VALUE))
            await writer.drain()

    async def until_asked(self, times: int) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.asked) < times:
                self.news.clear()
                await self.news.wait()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return issue(tmp_path_factory.mktemp("authority"), "127.0.0.1")


@pytest.fixture
async def server(files: tuple[Path, Path, Path]) -> AsyncIterator[Answering]:
    authority, chain, key = files
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority)
    context.load_cert_chain(chain, key)
    made = Answering(free_port())
    made.free.set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await made.talk(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    listening = await asyncio.start_server(talk, "127.0.0.1", made.port, ssl=context)
    yield made
    listening.close()


def asker(files: tuple[Path, Path, Path], port: int, *services: str) -> Asker:
    authority, chain, key = map(str, files)
    way = Way(server=f"https://127.0.0.1:{port}", authority=authority, certificate=chain, key=key)
    return Asker(way, [path("ns", service) for service in services], period=PERIOD)


async def test_each_answer_with_a_value_is_counted_with_its_time_and_those_without_apart(
    server: Answering, files: tuple[Path, Path, Path]
) -> None:
    client = asker(files, server.port, "svc", "other")
    await server.until_asked(20)
    asked = await asyncio.to_thread(client.end)
    base = (
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/ns/nereus_replicas?labelSelector=serving.nereus.dev/service"
    )
    assert set(server.asked) == {f"{base}%3D{name}" for name in ("svc", "other")}
    assert asked.refused == sum(each.endswith("other") for each in server.asked)
    assert len(asked.seconds) == len(server.asked) - asked.refused
    assert all(0 < took < WAIT_SECONDS for took in asked.seconds)


async def test_the_requests_that_wait_behind_a_late_answer_count_from_when_they_were_due(
    server: Answering, files: tuple[Path, Path, Path]
) -> None:
    client = asker(files, server.port, "svc")
    await server.until_asked(5)
    server.free.clear()
    await asyncio.sleep(LATE_SECONDS)  # so late is the answer
    server.free.set()
    await server.until_asked(len(server.asked) + int(LATE_SECONDS / PERIOD))
    asked = await asyncio.to_thread(client.end)
    late = [took for took in asked.seconds if took > LATE_SECONDS / 2]
    assert len(late) >= LATE_SECONDS / 2 / PERIOD, "all that were due in the first half of the time waited this long"


async def test_where_nobody_listens_everything_is_refused(server: Answering, files: tuple[Path, Path, Path]) -> None:
    nowhere, somewhere = asker(files, free_port(), "svc"), asker(files, server.port, "svc")
    await server.until_asked(20)
    asked = [await asyncio.to_thread(client.end) for client in (nowhere, somewhere)]
    assert [bool(each.seconds) for each in asked] == [False, True]
    assert asked[1].refused == 0
