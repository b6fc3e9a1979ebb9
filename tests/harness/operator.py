"""The operator as a process of its own, as in a pod: started, asked, ended with SIGTERM or SIGKILL."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from urllib.error import HTTPError

from tests.harness.apiserver import eventually
from tests.harness.forked import Forked

ROOT = Path(__file__).resolve().parents[2]
SIDECAR_IMAGE = "nereus/sidecar:test"
TRITON_IMAGE = "triton:test"


class Operator:
    """`nereus run` against a kubeconfig; `lease_namespace` is where its replicas elect one. `profile` is a file for
    what cProfile saw, written when it is terminated. With `forked` it finds its packages imported."""

    def __init__(
        self,
        kubeconfig: Path,
        *,
        lease_namespace: str,
        identity: str,
        log: Path,
        watch: tuple[str, ...] = (),
        sidecar_image: str = SIDECAR_IMAGE,
        profile: Path | None = None,
        variables: Mapping[str, str] | None = None,
        forked: bool = False,
    ) -> None:
        self.identity = identity
        self._log = log
        self._port = _free_port()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("NEREUS_")}
        environment |= {
            "KUBECONFIG": str(kubeconfig),
            "PYTHONPATH": str(ROOT / "operator"),
            "NEREUS_SIDECAR_IMAGE": sidecar_image,
            "NEREUS_TRITON_IMAGE": TRITON_IMAGE,
            "NEREUS_NAMESPACE": lease_namespace,
            "NEREUS_POD_NAME": identity,
            "NEREUS_WATCH_NAMESPACES": ",".join(watch),
            "NEREUS_HTTP_HOST": "127.0.0.1",
            "NEREUS_HTTP_PORT": str(self._port),
            "NEREUS_LOG_FORMAT": "text",
            **(variables or {}),
        }
        hurried = "NEREUS_HURRY" in environment
        environment["PYTHONPATH"] += f":{ROOT}" if hurried else ""
        program = "tests.harness.hurried" if hurried else "nereus"
        self._process: Forked | subprocess.Popen[bytes]
        if forked:
            self._process = Forked(program, "run", environment=environment, directory=ROOT, log=log)
            return
        measured = ["-m", "cProfile", "-o", str(profile)] if profile else []
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, *measured, "-m", program, "run"], cwd=ROOT, env=environment, stdout=out, stderr=out
            )

    def __enter__(self) -> Operator:
        try:
            self.until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if error is not None:
            print(f"--- log of operator {self.identity}\n{self.log()[-6000:]}")

    def until_ready(self) -> None:
        """A busy machine takes half a minute to import it all."""
        eventually(
            lambda: None if self.probe("readyz")[0] == 200 else f"{self.probe('readyz')}\n{self.log()[-2000:]}",
            seconds=120,
        )

    def probe(self, path: str) -> tuple[int, str]:
        """Status and text of one of the operator's own pages; status 0 while it does not listen."""
        assert self._process.poll() is None, (
            f"the operator ended with {self._process.returncode}:\n{self.log()[-3000:]}"
        )
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()
        except (OSError, HTTPException) as error:  # also one that is killed while it answers
            return 0, str(error)

    def metric(self, series: str) -> float:
        """The value of one series, e.g. `nereus_operator_leader`; 0 when it does not exist."""
        for line in self.probe("metrics")[1].splitlines():
            name, _, value = line.rpartition(" ")
            if name == series:
                return float(value)
        return 0.0

    def series(self) -> dict[str, float]:
        """Every series of its metrics."""
        status, page = self.probe("metrics")
        lines = (line.rpartition(" ") for line in page.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines} if status == 200 else {}

    @property
    def pid(self) -> int:
        return self._process.pid

    def children(self) -> list[int]:
        """Processes that it started and that run."""
        pid = self._process.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def writes(self) -> dict[str, float]:
        """How many objects of each kind and verb it has written, the Lease left out."""
        prefix = "nereus_operator_writes_total{"
        found = {}
        for line in self.probe("metrics")[1].splitlines():
            name, _, value = line.rpartition(" ")
            if name.startswith(prefix) and 'kind="Lease"' not in name:
                found[name.removeprefix(prefix).rstrip("}")] = float(value)
        return found

    @property
    def leads(self) -> bool:
        return self.metric("nereus_operator_leader") == 1

    def terminate(self) -> float:
        """SIGTERM; returns the seconds that it took to end, and asserts that it ended well."""
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout=60)
        assert code == 0, f"exit code {code}:\n{self.log()[-3000:]}"
        return time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL, as by the kernel; nothing is given back."""
        self._process.kill()
        self._process.wait(timeout=20)

    def exit_code(self, *, within: float) -> int:
        """Waits until it ends by itself."""
        return self._process.wait(timeout=within)

    @property
    def looked(self) -> float:
        """How many looks at a service it has finished."""
        found = 0.0
        for line in self.probe("metrics")[1].splitlines():
            if line.startswith('nereus_operator_reconcile_seconds_count{outcome="done"}'):
                found = float(line.rpartition(" ")[2])
        return found

    def pause(self) -> None:
        """SIGSTOP: the process stands still, as on a node that hangs."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        return self._log.read_text(errors="replace")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
