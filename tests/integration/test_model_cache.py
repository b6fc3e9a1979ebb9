"""Several sidecars, as processes, start at once on one shared directory, and fetch from a real S3 server."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

import pytest

from nereus.api.protocol import ModelPlan, ModelState
from nereus.sidecar.cache import FORMAT
from nereus.sidecar.transfer.journal import PART_BYTES
from tests.harness.fetching import image_python
from tests.harness.s3 import ACCESS, SECRET, S3Server, s3_server, secret
from tests.harness.sidecar import SidecarProcess
from tests.harness.tritonserver import free_ports

pytestmark = pytest.mark.timeout(240)
BIG = 2 * PART_BYTES + 12345
CONTENT = hashlib.shake_128(b"weights").digest(BIG)
MIB = 1 << 20


@dataclass
class Shop:
    """The server, and pods that share `volume`."""

    root: Path
    server: S3Server
    volume: Path
    python: str
    limit: int = 100 * MIB

    @contextmanager
    def pod(self, name: str, *, stale: float = 60.0) -> Iterator[SidecarProcess]:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        arguments = (f"--cache={self.volume}", f"--cache-bytes={self.limit}", f"--pod={name}", f"--cache-stale={stale}")
        http, grpc, metrics = free_ports(3)
        with SidecarProcess(folder, (http, grpc, metrics), arguments, python=self.python) as made:
            yield made

    def plan(self, model: str = "m", path: str = "big", *, endpoint: str = "", **more: Any) -> ModelPlan:
        keys = {
            "AWS_ACCESS_KEY_ID": ACCESS,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": endpoint or self.server.endpoint,
        }
        folder = secret(self.root / f"creds-{hashlib.sha256(endpoint.encode()).hexdigest()[:8]}", **keys)
        text = 'backend: "python"'
        return ModelPlan(name=model, source=f"s3://models/{path}", credentials=folder, fields_text=text, **more)

    @property
    def entries(self) -> list[Path]:
        folder = self.volume / FORMAT / "entries"
        return sorted(folder.iterdir()) if folder.is_dir() else []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        for path in ("big", "second"):
            running.put(f"models/{path}/1/model.bin", CONTENT)
        yield running


@pytest.fixture
def shop(tmp_path: Path, server: S3Server) -> Shop:
    volume = tmp_path / "claim"
    volume.mkdir()
    return Shop(tmp_path, server, volume, image_python())


def fetched(pod: SidecarProcess, model: str = "m") -> bool:
    known = {each.name: each for each in pod.report().models}
    return model in known and known[model].state is ModelState.FETCHED


def content(pod: SidecarProcess, model: str = "m") -> bytes:
    """What Triton would find."""
    return (pod.repository / model / "1" / "model.bin").read_bytes()


def said(pod: SidecarProcess, message: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in pod.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["message"] == message]


def start(pods: list[SidecarProcess], *plans: ModelPlan) -> None:
    """All at once."""
    for pod in pods:
        pod.write_plan(*plans)
    threads = [threading.Thread(target=pod.start) for pod in pods]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Way:
    """A way to the server that stops after so many bytes, until it is opened."""

    def __init__(self, target: int, after: int) -> None:
        self.passed, self.open = 0, threading.Event()
        way = self

        class Handler(BaseRequestHandler):
            def handle(self) -> None:
                way._relay(self.request, target, after)

        self._server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _relay(self, client: Any, target: int, after: int) -> None:
        import socket

        with socket.create_connection(("127.0.0.1", target)) as there:
            threading.Thread(target=_pump, args=(client, there, lambda _: None), daemon=True).start()

            def count(size: int) -> None:
                self.passed += size
                if self.passed > after:
                    self.open.wait()

            _pump(there, client, count)

    def close(self) -> None:
        self.open.set()
        self._server.shutdown()
        self._server.server_close()


def _pump(source: Any, target: Any, seen: Callable[[int], None]) -> None:
    try:
        while chunk := source.recv(65536):
            seen(len(chunk))
            target.sendall(chunk)
    except OSError:
        pass
    finally:
        target.close()


def test_pods_that_start_at_once_fetch_once_and_all_serve_it(shop: Shop) -> None:
    plan = shop.plan()
    with ExitStack() as stack:
        pods = [stack.enter_context(shop.pod(f"pod-{number}")) for number in range(3)]
        start(pods, plan)
        for pod in pods:
            pod.until(lambda pod=pod: fetched(pod), seconds=120)  # type: ignore[misc]
        assert [content(pod) == CONTENT for pod in pods] == [True] * 3
        assert sum(line["fetched"] for pod in pods for line in said(pod, "served from the cache")) == 1
        [entry] = shop.entries
        link = (pods[0].repository / "m" / "1").resolve()
        assert link.is_relative_to(entry), "served from where it lies"
        pods[0].stop()
        (shop.root / "pod-0" / "sidecar.log").unlink()
        pods[0].start()
        pods[0].until(lambda: fetched(pods[0]))
        assert said(pods[0], "served from the cache") == [], "a restarted container looks at nothing twice"

    shop.server.put("models/big/1/model.bin", CONTENT[::-1])
    try:
        with shop.pod("later") as later:
            start([later], plan)
            later.until(lambda: fetched(later), seconds=120)
            assert content(later) == CONTENT[::-1], "an unpinned source that changed is fetched anew"
    finally:
        shop.server.put("models/big/1/model.bin", CONTENT)


def test_a_pod_killed_in_the_middle_is_succeeded_by_another_that_goes_on(shop: Shop) -> None:
    way = Way(shop.server.port, after=PART_BYTES + MIB)
    plan = shop.plan(endpoint=way.endpoint)
    try:
        with shop.pod("dies", stale=2.0) as dies, shop.pod("goes-on", stale=2.0) as other:
            start([dies], plan)
            dies.until(lambda: way.passed > PART_BYTES + MIB, seconds=120)
            start([other], plan)
            dies.stop(signal.SIGKILL)
            way.open.set()
            other.until(lambda: fetched(other), seconds=120)
            assert content(other) == CONTENT
            assert len(shop.entries) == 1
            assert list((shop.volume / FORMAT / "partial").iterdir()) == []
            assert list((shop.volume / FORMAT / "locks").iterdir()) == []
    finally:
        way.close()


def test_a_damaged_entry_is_never_served_but_fetched_again(shop: Shop) -> None:
    plan = shop.plan()
    with shop.pod("first") as first:
        start([first], plan)
        first.until(lambda: fetched(first), seconds=120)
    [entry] = shop.entries
    with (entry / "tree" / "1" / "model.bin").open("r+b") as file:
        file.write(b"spoilt")
    with shop.pod("second") as second:
        start([second], plan)
        second.until(lambda: fetched(second), seconds=120)
        assert content(second) == CONTENT
        assert "is not what was put into the cache" in said(second, "not taken from the cache")[0]["why"]


def test_the_bound_is_kept_and_what_does_not_fit_is_fetched_into_the_pod(shop: Shop) -> None:
    shop.limit = BIG + MIB
    with shop.pod("first") as first, shop.pod("second") as second:
        start([first], shop.plan())
        first.until(lambda: fetched(first), seconds=120)
        start([second], shop.plan("n", "second"))
        second.until(lambda: fetched(second, "n"), seconds=120)
        assert content(second, "n") == CONTENT
        assert len(shop.entries) == 1, "the first pod serves from it"
        assert "what is in it is in use" in said(second, "fetched without the cache")[0]["why"]
    for mark in (shop.volume / FORMAT / "uses").iterdir():
        mark.unlink()
    before = shop.entries
    with shop.pod("third") as third:
        start([third], shop.plan("n", "second"))
        third.until(lambda: fetched(third, "n"), seconds=120)
        assert len(shop.entries) == 1
        assert shop.entries != before, "what nobody uses makes room"


def test_a_full_volume_and_one_that_cannot_be_written_cost_only_the_cache(shop: Shop) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={BIG // MIB}m", "tmpfs", str(shop.volume)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"needs the right to mount: {mounted.stderr.strip()}")
    try:
        with shop.pod("full") as full:
            start([full], shop.plan())
            full.until(lambda: fetched(full), seconds=120)
            assert content(full) == CONTENT
            assert said(full, "fetched without the cache")
        subprocess.run(["mount", "-o", "remount,ro", str(shop.volume)], check=True)
        with shop.pod("read-only") as closed:
            start([closed], shop.plan())
            closed.until(lambda: fetched(closed), seconds=120)
            assert content(closed) == CONTENT
            assert said(closed, "fetched without the cache")
    finally:
        subprocess.run(["umount", "-l", str(shop.volume)], check=True)
