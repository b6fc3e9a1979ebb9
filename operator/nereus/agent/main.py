"""`nereus agent`: looks once a second and answers /v1/usage, /metrics and /live, until it is told to stop.

Standard library for HTTP: a scrape and a question every few seconds need no framework, and the image stays small.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from nereus.agent.containers import DIRECTORY, Containers
from nereus.agent.exposition import Exposition
from nereus.agent.nvml import Driver, Nvml
from nereus.agent.sampler import PROC, Sampler
from nereus.agent.simulation import Simulation
from nereus.gpu.usage import AGENT_PORT, PATH_LIVE, PATH_METRICS, PATH_USAGE

TROUBLE_SECONDS = 30.0
"""Between two tries while the driver does not answer: initialising the library is dear."""
STUCK_SECONDS = 120.0
"""A call into a broken driver may hang for ever; then the kubelet shall end this process."""


def main(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> int:
    """The command; returns the exit code."""
    given = _parser(environment).parse_args(argv)
    driver: Driver = Simulation(Path(given.simulation)) if given.simulation else Nvml()
    sampler = Sampler(
        driver, node=given.node, clock=time.time, containers=Containers(Path(given.containers)), proc=Path(given.proc)
    )
    stop, looked = threading.Event(), [time.monotonic()]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        server = _Server((given.host, given.port), sampler, lambda: time.monotonic() - looked[0] < STUCK_SECONDS)
    except OSError as error:
        _say(f"cannot listen on port {given.port}: {error.strerror}")
        return 1
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    said = None
    while not stop.is_set():
        usage = sampler.look()
        looked[0] = time.monotonic()
        state = usage.trouble or f"driver {usage.driver}, {len(usage.devices)} devices"
        if state != said:
            _say(f"{'SIMULATED: ' if usage.simulated else ''}{state}")
            said = state
        stop.wait(min(TROUBLE_SECONDS, 10 * given.every) if usage.trouble else given.every)
    server.shutdown()
    driver.close()
    return 0


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nereus agent", description="Report GPU memory per pod.", allow_abbrev=False)
    add = parser.add_argument
    add("--node", default=environment.get("NEREUS_NODE") or socket.gethostname(), help="name of the node")
    add("--host", default=environment.get("NEREUS_HTTP_HOST", ""), help="address to listen on; empty: all")
    add("--port", type=int, default=int(environment.get("NEREUS_HTTP_PORT", AGENT_PORT)))
    add("--every", type=float, default=1.0, help="seconds between two looks")
    add("--proc", default=environment.get("NEREUS_PROC", str(PROC)), help="the host's /proc")
    add("--containers", default=str(DIRECTORY), help="the kubelet's directory of container logs")
    add(
        "--simulation",
        default=environment.get("NEREUS_GPU_SIMULATION", ""),
        help="SIMULATION: a file that stands for the driver, for tests without a GPU",
    )
    return parser


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], sampler: Sampler, alive: Callable[[], bool]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)
        self.sampler = sampler
        self.alive = alive
        self.registry = CollectorRegistry()
        self.registry.register(
            Exposition(lambda: sampler.usage, lambda namespace, pod: sampler.services.get((namespace, pod), ""))
        )


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == PATH_USAGE:
            self._answer(200, "application/json", self.server.sampler.usage.to_json().encode())
        elif path == PATH_METRICS:
            self._answer(200, CONTENT_TYPE_LATEST, generate_latest(self.server.registry))
        elif path == PATH_LIVE:
            alive = self.server.alive()
            self._answer(200 if alive else 503, "text/plain", b"alive\n" if alive else b"the driver hangs\n")
        else:
            self._answer(404, "text/plain", b"not found\n")

    def _answer(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
        """Requests are not logged."""


def _say(line: str) -> None:
    sys.stderr.write(f"nereus agent: {line}\n")
    sys.stderr.flush()
