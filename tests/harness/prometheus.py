"""A real Prometheus on loopback, and the pods that it scrapes: exporters whose series a test decides.

The server is Debian's package, as in the local cluster, with a configuration and a store of its own. The exporter
stands in for Triton's metrics page alone, because no Triton produces NaN, old time stamps or a second of silence when
asked to. `Gate` is a proxy in front of the server for the faults of networks and log-ins: slow, dripping, refusing.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from localcluster.packages import find_tool

START_SECONDS = 60.0
SERVICE_LABEL = "serving_nereus_dev_service"
SECRET_HASH = "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"
"""bcrypt of "secret", for `basic_auth_users`."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A threaded HTTP server on loopback that ends with the test."""

    def __init__(self, handle: Callable[[BaseHTTPRequestHandler], None]) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with contextlib.suppress(OSError):
                    handle(self)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                """Silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


def respond(handler: BaseHTTPRequestHandler, status: int, body: bytes, kind: str = "text/plain") -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@dataclass
class Pod:
    """One target. `rate` inferences per second since its start; `text` replaces the page; `dead` answers 503; one that
    `flaps` does so for two seconds of four."""

    namespace: str
    service: str
    name: str
    rate: float = 10.0
    model: str = "m"
    queue: float = 0.0
    batch: float = 4.0
    seconds: float = 0.04
    dead: bool = False
    flaps: bool = False
    value: str | None = None
    age: float = 0.0
    labelled: bool = True
    started: float = field(default_factory=time.time)

    def page(self) -> str:
        now = time.time()
        stamp = f" {int((now - self.age) * 1000)}" if self.age else ""
        done = self.rate * (now - self.started)
        busy = done * self.seconds * 1e6
        of = f'{{model="{self.model}",version="1"}}'
        series = {
            "nv_inference_count": self.value if self.value is not None else done,
            "nv_inference_request_success": done,
            "nv_inference_exec_count": done / self.batch,
            "nv_inference_compute_input_duration_us": 0,
            "nv_inference_compute_infer_duration_us": busy,
            "nv_inference_compute_output_duration_us": 0,
            "nv_inference_pending_request_count": self.queue,
        }
        kinds = {name: "gauge" if "pending" in name else "counter" for name in series}
        return "".join(f"# TYPE {name} {kinds[name]}\n{name}{of} {value}{stamp}\n" for name, value in series.items())

    @property
    def silent(self) -> bool:
        return self.dead or (self.flaps and time.time() % 4 < 2)

    @property
    def labels(self) -> dict[str, str]:
        whose = {SERVICE_LABEL: self.service} if self.labelled else {}
        return {"namespace": self.namespace, "pod": self.name, **whose}


class Exporter:
    """Serves the page of every pod under its own path."""

    def __init__(self) -> None:
        self.pods: dict[str, Pod] = {}
        self._server = Server(self._answer)

    def add(self, *pods: Pod) -> None:
        self.pods |= {f"/{pod.namespace}/{pod.name}": pod for pod in pods}

    def targets(self) -> list[dict[str, Any]]:
        """Groups for file_sd."""
        return [
            {"targets": [self._server.address], "labels": {**pod.labels, "__metrics_path__": path}}
            for path, pod in self.pods.items()
        ]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        pod = self.pods.get(handler.path)
        if pod is None or pod.silent:
            respond(handler, 503, b"")
        else:
            respond(handler, 200, pod.page().encode(), "text/plain; version=0.0.4")

    def stop(self) -> None:
        self._server.stop()


class Targets(Protocol):
    """What is scraped."""

    def targets(self) -> list[dict[str, Any]]:
        """Groups as in `static_configs`."""
        ...


@dataclass
class Prometheus:
    """The process. Store, port and configuration stay the same over `kill` and `start`."""

    folder: Path
    exporter: Targets | None = None
    scrape_seconds: float = 1.0
    jobs: tuple[str, ...] = ("pods",)
    rule_files: tuple[Path, ...] = ()
    web: Mapping[str, Any] = field(default_factory=dict)
    retention: str = "90d"
    alertmanager: str = ""
    """HOST:PORT of one, if alerts shall be sent."""
    arguments: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{'https' if 'tls_server_config' in self.web else 'http'}://127.0.0.1:{self.port}"

    @property
    def store(self) -> Path:
        return self.folder / "data"

    def __enter__(self) -> Prometheus:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Prometheus:
        """Returns when it answers queries."""
        self.folder.mkdir(parents=True, exist_ok=True)
        scrape = f"{round(self.scrape_seconds * 1000)}ms"
        targets = self.exporter.targets() if self.exporter else []
        jobs = [{"job_name": name, "static_configs": targets} for name in self.jobs]
        config = {
            "global": {"scrape_interval": scrape, "scrape_timeout": scrape, "evaluation_interval": scrape},
            "scrape_configs": jobs,
            "rule_files": [str(file) for file in self.rule_files],
            **self._alerting(),
        }
        (self.folder / "prometheus.yml").write_text(json.dumps(config))
        (self.folder / "web.yml").write_text(json.dumps(self.web))
        command = [
            *(str(find_tool("prometheus")), f"--config.file={self.folder / 'prometheus.yml'}"),
            *(f"--storage.tsdb.path={self.store}", f"--storage.tsdb.retention.time={self.retention}"),
            *(f"--web.listen-address=127.0.0.1:{self.port}", "--web.enable-lifecycle", "--log.level=warn"),
            *self.arguments,
        ]
        if self.web:
            command.append(f"--web.config.file={self.folder / 'web.yml'}")
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self._wait_ready()
        return self

    def _alerting(self) -> dict[str, Any]:
        if not self.alertmanager:
            return {}
        return {"alerting": {"alertmanagers": [{"static_configs": [{"targets": [self.alertmanager]}]}]}}

    def kill(self) -> None:
        """At once, without a last word."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def answered(self, handler: str = "/api/v1/query") -> float:
        """Requests answered since the start, by the server's own count."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        family = "prometheus_http_requests_total"
        counted = [line for line in lines if line.startswith(family) and f'handler="{handler}"' in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in counted)

    def _end(self, how: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(30)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                break
            try:
                if "tls_server_config" in self.web:
                    socket.create_connection(("127.0.0.1", self.port), 2).close()
                else:
                    urllib.request.urlopen(f"{self.url}/-/ready", timeout=2).close()
                return
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 401:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        log = (self.folder / "log").read_text(errors="replace")[-2000:]
        raise AssertionError(f"Prometheus does not answer; its last lines:\n{log}")


def back_fill(store: Path, series: Mapping[str, Sequence[tuple[float, float]]], *, family: str) -> None:
    """Writes the past of a counter into a store that no server has open (or one that looks for new blocks, as it does
    each minute). `series` are samples (seconds since the epoch, value), by labels as `a="b",c="d"`."""
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        text = Path(scratch, "past.om")
        with text.open("w") as file:
            # Called a gauge, because OpenMetrics wants _total behind the name of a counter and Triton's have none.
            file.write(f"# TYPE {family} gauge\n")
            for labels, samples in series.items():
                file.writelines(f"{family}{{{labels}}} {value:.3f} {at:.3f}\n" for at, value in samples)
            file.write("# EOF\n")
        command = [str(find_tool("promtool")), "tsdb", "create-blocks-from", "openmetrics", str(text), scratch]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for block in Path(scratch).iterdir():
            if block.is_dir():
                shutil.move(block, store / block.name)


class Gate:
    """A proxy in front of a Prometheus. `delay` seconds before an answer, `drip` one byte at a time, `token` wanted."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.delay = 0.0
        self.drip = False
        self.token = ""
        self.page: tuple[int, bytes] | None = None
        self.seen: list[Mapping[str, str]] = []
        self._server = Server(self._answer)
        self.url = f"http://{self._server.address}"

    def stop(self) -> None:
        self._server.stop()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.seen.append(dict(handler.headers))
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0)) or None
        if self.token and handler.headers.get("Authorization") != f"Bearer {self.token}":
            respond(handler, 401, b"Unauthorized")
            return
        time.sleep(self.delay)
        if self.page is not None:
            respond(handler, self.page[0], self.page[1], "text/html")
            return
        kind = {"Content-Type": handler.headers["Content-Type"]} if body else {}
        request = urllib.request.Request(f"{self.target}{handler.path}", data=body, headers=kind)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, said = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, said = error.code, error.read()
        except OSError:
            handler.close_connection = True
            return
        if not self.drip:
            respond(handler, status, said, "application/json")
            return
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(said)))
        handler.end_headers()
        for at in range(len(said)):
            handler.wfile.write(said[at : at + 1])
            time.sleep(0.1)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    folder.mkdir(parents=True, exist_ok=True)
    cert, key = folder / "server.crt", folder / "server.key"
    subprocess.run(
        [
            *(
                str(shutil.which("openssl")),
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
            ),
            *("-nodes", "-days", "2", "-subj", "/CN=prometheus", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key
