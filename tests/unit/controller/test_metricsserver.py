"""The server of the External Metrics API over real TLS: who is let in, renewals, and clients that do not behave."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nereus.controller.metricsapi import BASE
from nereus.controller.metricsserver import Server
from tests.harness.authority import issue
from tests.harness.prometheus import free_port

SVC = f"{BASE}/namespaces/ns/nereus_replicas?labelSelector=serving.nereus.dev%2Fservice%3Dsvc"
GET = f"GET {SVC} HTTP/1.1\r\nHost: x\r\n\r\n"
TERMS = [1e12, 1e12]


@dataclass(frozen=True)
class Authority:
    """With a certificate that serves as server and as client (common name `test-server`)."""

    certificate: Path
    chain: Path
    key: Path

    def callers(self, *allowed: str) -> dict[str, Any]:
        return {"authority": self.certificate.read_text(), "allowed": list(allowed)}

    @property
    def served_with(self) -> list[str]:
        return [str(self.chain), str(self.key)]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(*issue(tmp_path_factory.mktemp("ours"), "127.0.0.1"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(*issue(tmp_path_factory.mktemp("other"), "127.0.0.1", name="other"))


class Served:
    """A server that was told about one service, and its clients."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.server = Server(port, host="127.0.0.1")

    async def tell(self, **more: Any) -> dict[str, Any]:
        said = await self.server.take({"services": {"ns/svc": [4, True, 3, 5]}, **more, "beat": TERMS})
        assert said is not None
        return said

    async def open(self, trusts: Authority, shows: Authority | None = None) -> tuple[Any, asyncio.StreamWriter]:
        made = ssl.create_default_context(cafile=str(trusts.certificate))
        made.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if shows is not None:
            made.load_cert_chain(shows.chain, shows.key)
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=made)

    async def once(self, trusts: Authority, shows: Authority | None = None, request: str = GET) -> tuple[int, Any]:
        """Status and body for a connection of its own; 0 when there is no answer."""
        try:
            stream = await self.open(trusts, shows)
            try:
                return await asked(stream, request)
            finally:
                stream[1].close()
        except (OSError, asyncio.IncompleteReadError) as error:
            return 0, str(error)


async def asked(stream: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: str = GET) -> tuple[int, Any]:
    reader, writer = stream
    writer.write(request.encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(int(line.split(":")[1]) for line in head.splitlines() if line.startswith("Content-Length"))
    return int(head.split(" ")[1]), json.loads(await reader.readexactly(length))


@pytest.fixture
async def served(ours: Authority) -> AsyncIterator[Served]:
    made = Served(free_port())
    said = await made.tell(callers=ours.callers("test-server"), certificate=ours.served_with)
    assert said == {"problem": "", "serves": True}
    yield made
    await made.server.close()


async def test_the_api_server_reads_one_value_after_the_other_over_a_connection_that_stays(
    served: Served, ours: Authority
) -> None:
    stream = await served.open(ours, ours)
    for replicas in (4, 5, 6):
        await served.tell(services={"ns/svc": [replicas, True, 3, 5]})
        status, body = await asked(stream)
        assert (status, body["items"][0]["value"]) == (200, str(replicas))
    await served.tell(services={"ns/svc": None})
    assert (await asked(stream))[0] == 404
    stream[1].close()


async def test_nobody_else_gets_an_answer(served: Served, ours: Authority, other: Authority) -> None:
    assert (await served.once(ours))[0] == 0, "without a certificate"
    assert (await served.once(ours, other))[0] == 0, "with one of another authority"
    await served.tell(callers=ours.callers("front-proxy-client"))
    status, body = await served.once(ours, ours)
    assert (status, body["reason"]) == (403, "Forbidden")
    await served.tell(callers=ours.callers())
    assert (await served.once(ours, ours))[0] == 200


async def test_a_renewed_certificate_is_shown_to_new_connections_and_old_ones_go_on(
    served: Served, ours: Authority, other: Authority
) -> None:
    stream = await served.open(ours, ours)
    assert (await asked(stream))[0] == 200
    await served.tell(certificate=other.served_with)
    assert (await served.once(other, ours))[0] == 200
    assert "CERTIFICATE_VERIFY_FAILED" in (await served.once(ours, ours))[1]
    assert (await asked(stream))[0] == 200
    stream[1].close()


async def test_callers_of_a_replaced_authority_are_let_in_no_more_and_those_of_the_new_one_are(
    served: Served, ours: Authority, other: Authority
) -> None:
    stream = await served.open(ours, ours)
    assert (await asked(stream))[0] == 200
    assert await served.tell(callers=other.callers()) == {"problem": "", "serves": True}
    assert (await served.once(ours, other))[0] == 200
    assert (await served.once(ours, ours))[0] == 0
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await asked(stream)
    stream[1].close()


async def test_a_port_that_is_taken_and_a_certificate_that_is_no_file_are_said_and_tried_again(
    ours: Authority, tmp_path: Path
) -> None:
    port = free_port()
    somebody = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
    served = Served(port)
    broken = await served.tell(callers=ours.callers(), certificate=[str(tmp_path / "no.crt"), str(tmp_path / "no.key")])
    assert not broken["serves"]
    assert "No such file" in broken["problem"]
    taken = await served.tell(certificate=ours.served_with)
    assert not taken["serves"]
    assert str(port) in taken["problem"]
    somebody.close()
    assert await served.tell() == {"problem": "", "serves": True}
    assert (await served.once(ours, ours))[0] == 200
    await served.server.close()


async def test_without_knowing_who_may_ask_nothing_listens(ours: Authority) -> None:
    served = Served(free_port())
    assert await served.tell(certificate=ours.served_with) == {"problem": "", "serves": False}
    assert (await served.once(ours, ours))[0] == 0


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (f"POST {SVC} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 405),
        (f"GET {SVC} HTTP/1.0\r\n\r\n", 200),
        (f"GET {SVC} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
    ],
)
async def test_a_request_that_ends_its_connection_is_answered_first(
    served: Served, ours: Authority, request_text: str, status: int
) -> None:
    stream = await served.open(ours, ours)
    assert (await asked(stream, request_text))[0] == status
    assert await stream[0].read() == b""
    stream[1].close()


async def test_clients_that_say_too_much_nothing_or_no_tls_keep_nobody_waiting(served: Served, ours: Authority) -> None:
    plain = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(20)]
    silent = [await served.open(ours, ours) for _ in range(20)]
    chatty = await served.open(ours, ours)
    chatty[1].write(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000)
    began = time.monotonic()
    assert (await served.once(ours, ours))[0] == 200
    assert time.monotonic() - began < 5
    assert b" 400 " in (await chatty[0].read()).splitlines()[0]
    for _, writer in (*plain, *silent, chatty):
        writer.close()
