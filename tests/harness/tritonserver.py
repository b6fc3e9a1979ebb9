"""A real NVIDIA Triton on this machine, without a container and without a GPU, for tests.

The server comes out of the wheel that `images/triton-cpu` is made of, installed once into the cache. It runs in
explicit mode on loopback ports, with one process per test where a test needs to kill it. `installation()` raises
UnavailableError with one line when this machine cannot run it; tests turn that into a skip that says why.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

REQUIREMENTS = Path(__file__).parents[2] / "images" / "triton-cpu" / "requirements.txt"
START_SECONDS = 60.0
STOP_SECONDS = 60.0


class UnavailableError(Exception):
    """This machine cannot run the server; the message is one line that says why."""


@dataclass(frozen=True)
class Installation:
    """Where the server and its parts lie."""

    venv: Path
    server: Path
    backends: Path
    caches: Path
    libraries: tuple[Path, ...]


@functools.cache
def installation() -> Installation:
    """The server, installed into the cache on first use. Raises UnavailableError."""
    if not (3, 10) <= sys.version_info[:2] <= (3, 12):
        raise UnavailableError(f"the Triton wheel runs with Python 3.10 to 3.12, this is {sys.version.split()[0]}")
    library_dir = _shared_libpython()
    cache = Path(
        os.environ.get("NEREUS_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nereus"
    )
    venv = cache / "triton-wheel-2.51"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "triton-wheel-2.51.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (venv / ".complete").exists():
            _install(venv)
    packages = venv / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    parts = packages / "pytriton" / "tritonserver"
    return Installation(
        venv=venv,
        server=parts / "bin" / "tritonserver",
        backends=venv / "backends",
        caches=parts / "caches",
        libraries=(packages / "nvidia_pytriton.libs", library_dir),
    )


def _shared_libpython() -> Path:
    """The stub of the python backend is linked to it; without it a load hangs instead of failing."""
    name = f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"
    folders = [sysconfig.get_config_var("LIBDIR") or "", sysconfig.get_config_var("LIBPL") or "", "/usr/lib"]
    folders += [str(folder) for folder in Path("/usr/lib").glob("*-linux-gnu")]
    for folder in folders:
        if (Path(folder) / name).exists():
            return Path(folder)
    raise UnavailableError(f"the Triton wheel needs the shared library {name} (Debian: libpython3.x)")


def _install(venv: Path) -> None:
    print(f"installing the Triton wheel into {venv} (once)", file=sys.stderr, flush=True)
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*pip, "--only-binary=:all:", "--require-hashes", "-r", str(REQUIREMENTS)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UnavailableError(f"the Triton wheel cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    [parts] = (venv / "lib").glob("python3.*/site-packages/pytriton/tritonserver")
    shutil.copytree(parts / "backends", venv / "backends")
    stub = parts / "python_backend_stubs" / f"{sys.version_info[0]}.{sys.version_info[1]}"
    shutil.copy2(stub / "triton_python_backend_stub", venv / "backends" / "python")
    (venv / ".complete").touch()


def free_ports(count: int) -> list[int]:
    """Loopback ports that nothing listens on right now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@dataclass
class TritonServer:
    """One tritonserver process in explicit mode. Ports and repository stay the same over `kill` and `start`."""

    repository: Path
    log: Path
    admin_key: str = ""
    arguments: Sequence[str] = ()
    ports: list[int] = field(default_factory=lambda: free_ports(3))
    process: subprocess.Popen[bytes] | None = None
    _group: int | None = None

    @property
    def http_port(self) -> int:
        return self.ports[0]

    @property
    def grpc_port(self) -> int:
        return self.ports[1]

    @property
    def metrics_port(self) -> int:
        return self.ports[2]

    def start(self, *, wait: bool = True) -> TritonServer:
        """Starts the process; with `wait`, returns when its HTTP server answers."""
        parts = installation()
        command = [
            *(str(parts.server), f"--model-repository={self.repository}", "--model-control-mode=explicit"),
            *(f"--backend-directory={parts.backends}", f"--cache-directory={parts.caches}"),
            *("--http-address=127.0.0.1", "--grpc-address=127.0.0.1", "--metrics-address=127.0.0.1"),
            *(f"--http-port={self.http_port}", f"--grpc-port={self.grpc_port}", f"--metrics-port={self.metrics_port}"),
            *("--allow-gpu-metrics=false", "--exit-timeout-secs=5"),
        ]
        if self.admin_key:
            command += [
                f"--http-restricted-api=model-repository:admin-key={self.admin_key}",
                f"--grpc-restricted-protocol=model-repository:admin-key={self.admin_key}",
            ]
        libraries = ":".join(str(folder) for folder in parts.libraries)
        environment = {
            **os.environ,
            "PATH": f"{parts.venv / 'bin'}:{os.environ.get('PATH', '')}",
            "LD_LIBRARY_PATH": libraries,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        for name in ("PYTHONPATH", "PYTHONWARNINGS", "VIRTUAL_ENV"):
            environment.pop(name, None)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        self._group = self.process.pid
        if wait:
            self.wait_live()
        return self

    def wait_live(self, seconds: float = START_SECONDS) -> None:
        """Until the HTTP server answers; fails with the end of the log when the process ends or time is up."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                urllib.request.urlopen(self.url("/v2/health/live"), timeout=2).close()
                return
            time.sleep(0.05)
        raise AssertionError(f"tritonserver is not live; its last lines:\n{self.tail()}")

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http_port}{path}"

    def request(self, path: str, body: object = None, *, key: str | None = None) -> tuple[int, object]:
        """One request, POST when there is a body; the status and the decoded answer (text when it is no JSON)."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"admin-key": self.admin_key if key is None else key} if self.admin_key else {}
        request = urllib.request.Request(self.url(path), data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, _decoded(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _decoded(error.read())

    def infer(self, model: str, values: list[float], *, name: str = "x") -> list[float]:
        """One inference of a FP32 vector over HTTP; raises AssertionError with Triton's words."""
        tensor = {"name": name, "shape": [1, len(values)], "datatype": "FP32", "data": values}
        status, answer = self.request(f"/v2/models/{model}/infer", {"inputs": [tensor]})
        assert status == 200, f"{status}: {answer}"
        assert isinstance(answer, dict), answer
        result: list[float] = answer["outputs"][0]["data"]
        return result

    def terminate(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOP_SECONDS)
        self._end_stubs()
        return code

    def kill(self) -> None:
        """SIGKILL: what a crashed container looks like, where the python backend's stubs end with it."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(STOP_SECONDS)
        self._end_stubs()

    def _end_stubs(self) -> None:
        """A stub that was starting when its parent died waits for it for ever; all are in the session of the parent."""
        group, self._group = self._group, None
        if group is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def __enter__(self) -> TritonServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def _decoded(body: bytes) -> object:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body.decode(errors="replace")


@contextlib.contextmanager
def tritonserver(repository: Path, log: Path, **options: object) -> Iterator[TritonServer]:
    """A started server for the length of a `with` block."""
    with TritonServer(repository, log, **options) as server:  # type: ignore[arg-type]
        yield server.start()
