"""The process that serves the External Metrics API: killed, halted, orphaned, kept from its port, ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from nereus.api.decision import ScalingDecision
from nereus.controller.certificate import Certificate
from nereus.controller.metricsapi import BASE, Callers
from nereus.controller.metricsfeed import Feed
from nereus.controller.metricsprocess import MODULE, MetricsProcess
from nereus.controller.store import Key
from tests.harness.authority import issue
from tests.harness.prometheus import free_port
from tests.tiers import ROOT

SVC = f"{BASE}/namespaces/ns/nereus_replicas?labelSelector=serving.nereus.dev%2Fservice%3Dsvc"
WAIT_SECONDS = 60.0


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Certificate of the authority; certificate and key of server and client."""
    return issue(tmp_path_factory.mktemp("authority"), "127.0.0.1")


def fed(files: tuple[Path, Path, Path], replicas: int = 4) -> Feed:
    authority, chain, key = files
    feed = Feed()
    feed.admit(Callers(authority=authority.read_text(), allowed=("test-server",)))
    feed.present(Certificate("", chain, key, 0.0, 0.0))
    decide(feed, replicas)
    return feed


def decide(feed: Feed, replicas: int) -> None:
    decision = ScalingDecision(id="1", at=0.0, replicas=replicas, known=True, least=1, most=9, message="")
    feed.decided({Key("ns", "svc"): decision})


def read(files: tuple[Path, Path, Path], port: int) -> str:
    """The value as the API server gets it; empty while there is none."""
    authority, chain, key = files
    made = ssl.create_default_context(cafile=str(authority))
    made.verify_flags &= ~ssl.VERIFY_X509_STRICT
    made.load_cert_chain(chain, key)
    with suppress(OSError):
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            made.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            connection.sendall(f"GET {SVC} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(4096), b"")).decode()
        return answer.partition('"value": "')[2].partition('"')[0]
    return ""


async def until(what: str, look: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not await asyncio.to_thread(look):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


@asynccontextmanager
async def running(feed: Feed, port: int, *, hangs_seconds: float = 10.0) -> AsyncIterator[MetricsProcess]:
    process = MetricsProcess(
        feed,
        port=port,
        leads_until=lambda: time.monotonic() + 10,
        decided_until=lambda: time.monotonic() + 300,
        hangs_seconds=hangs_seconds,
    )
    task = asyncio.create_task(process.run())
    try:
        yield process
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_a_decision_is_served_at_once_and_so_is_the_next(files: tuple[Path, Path, Path]) -> None:
    feed, port = fed(files), free_port()
    async with running(feed, port):
        await until("the first decision", lambda: read(files, port) == "4")
        decide(feed, 5)
        await until("the next decision", lambda: read(files, port) == "5")


async def test_one_that_is_killed_is_replaced_by_one_that_knows_everything(files: tuple[Path, Path, Path]) -> None:
    port = free_port()
    async with running(fed(files), port) as process:
        await until("served", lambda: read(files, port) == "4")
        first = process.pid
        os.kill(first, signal.SIGKILL)
        await until("another one", lambda: process.pid != first and read(files, port) == "4")
        assert not exists(first)


async def test_one_that_hangs_is_replaced(files: tuple[Path, Path, Path]) -> None:
    port = free_port()
    async with running(fed(files), port, hangs_seconds=2.0) as process:
        await until("served", lambda: read(files, port) == "4")
        first = process.pid
        os.kill(first, signal.SIGSTOP)
        await until("another one", lambda: process.pid != first and read(files, port) == "4")
        assert not exists(first)


async def test_time_in_which_the_operator_itself_was_held_up_does_not_count_as_silence(
    files: tuple[Path, Path, Path],
) -> None:
    feed, port = fed(files), free_port()
    async with running(feed, port, hangs_seconds=2.0) as process:
        await until("served", lambda: read(files, port) == "4")
        first = process.pid
        os.kill(first, signal.SIGSTOP)
        decide(feed, 5)
        for _ in range(5):
            await asyncio.sleep(0)  # it is told, and owes an answer
        time.sleep(2.5)  # noqa: ASYNC251 - both are held up, as on a machine that stands still
        os.kill(first, signal.SIGCONT)
        await until("the next decision", lambda: read(files, port) == "5")
        assert process.pid == first


async def test_a_server_that_cannot_serve_is_noticed_and_serves_as_soon_as_it_can(
    files: tuple[Path, Path, Path],
) -> None:
    port = free_port()
    somebody = socket.create_server(("127.0.0.1", port))
    async with running(fed(files), port) as process:
        await until("silence", lambda: process.silent_seconds() > 1.5)
        somebody.close()
        await until("served", lambda: read(files, port) == "4")
        await until("it is noticed", lambda: process.silent_seconds() < 1.5)


async def test_silence_is_no_fault_before_it_is_known_who_may_ask(files: tuple[Path, Path, Path]) -> None:
    feed = Feed()
    decide(feed, 4)
    async with running(feed, free_port()) as process:
        await until("it runs", lambda: process.pid)
        assert process.silent_seconds() == 0.0


async def test_one_that_ends_at_once_every_time_is_silence(files: tuple[Path, Path, Path]) -> None:
    process = MetricsProcess(
        fed(files), port=1, leads_until=lambda: 0.0, decided_until=lambda: 0.0, command=(sys.executable, "-c", "")
    )
    task = asyncio.create_task(process.run())
    await until("silence", lambda: process.silent_seconds() > 1.5)
    assert not task.done()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_it_ends_in_order_and_leaves_the_port_free(files: tuple[Path, Path, Path]) -> None:
    port = free_port()
    async with running(fed(files), port) as process:
        await until("served", lambda: read(files, port) == "4")
        pid = process.pid
    assert not exists(pid)
    assert not listens(port)


def test_it_ends_when_the_operator_is_killed_and_not_with_ctrl_c(files: tuple[Path, Path, Path]) -> None:
    """The operator's part is a pipe whose other end goes with it."""
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE, str(free_port())],
        env={"PYTHONPATH": str(ROOT / "operator")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for _ in range(2):
        process.stdin.write(b'{"beat":[0,0]}\n')
        process.stdin.flush()
        assert process.stdout.readline() == b'{"problem":"","serves":false}\n'
        process.send_signal(signal.SIGINT)
    process.stdin.close()
    assert process.wait(timeout=WAIT_SECONDS) == 0
    process.stdout.close()


def test_it_loads_nothing_of_the_operator_but_what_is_answered() -> None:
    code = f"import {MODULE}, sys; print(*sys.modules)"
    environment = {"PYTHONPATH": str(ROOT / "operator")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    loaded = done.stdout.split()
    assert {name for name in loaded if name.startswith("nereus")} == {
        *("nereus", "nereus.api", "nereus.api.names"),
        *("nereus.controller", "nereus.controller.metricsapi", "nereus.controller.metricsserver"),
    }
    assert not {"kopf", "kubernetes", "numpy"} & set(loaded)
