"""The sidecar as a process on loopback, with the directories that a pod would give it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import nereus
from nereus.api.protocol import PATH_STATE, PLAN_KEY, ModelPlan, Plan, PodReport, digest, model_key
from tests.harness.tritonserver import free_ports

LOOK_SECONDS = 0.1
"""Between two looks: fifty a second took more processor time than what was looked at."""
_PROGRAM = "import sys; from nereus.sidecar.main import main; sys.exit(main(sys.argv[1:]))"


@dataclass
class SidecarProcess:
    """`root` holds models/, plan/, run/ and the log; `triton_ports` are HTTP, gRPC and metrics."""

    root: Path
    triton_ports: tuple[int, int, int]
    arguments: tuple[str, ...] = ()
    python: str = sys.executable
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        for folder in (self.repository, self.plan, self.admin_key.parent):
            folder.mkdir(exist_ok=True)

    @property
    def repository(self) -> Path:
        return self.root / "models"

    @property
    def plan(self) -> Path:
        return self.root / "plan"

    @property
    def admin_key(self) -> Path:
        return self.root / "run" / "admin-key"

    @property
    def log(self) -> Path:
        return self.root / "sidecar.log"

    def start(self) -> None:
        """Starts the process and returns when it answers."""
        http, grpc, metrics = self.triton_ports
        command = [
            *(
                self.python,
                "-c",
                _PROGRAM,
                f"--http-port={http}",
                f"--grpc-port={grpc}",
                f"--metrics-port={metrics}",
            ),
            *(f"--port={self.port}", "--address=127.0.0.1", f"--repository={self.repository}", f"--plan={self.plan}"),
            *(f"--admin-key={self.admin_key}", "--look-seconds=0.3", *self.arguments),
        ]
        # another interpreter brings packages of its own: it gets the code only
        code = [str(Path(nereus.__file__).parents[1])]
        paths = code if self.python != sys.executable else [path for path in sys.path if path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        self.until(lambda: self.get("/live")[0] == 200)

    def write_plan(self, *models: ModelPlan) -> None:
        """Writes a whole plan, the list last."""
        documents = {model.name: model.to_json() for model in models}
        for name, document in documents.items():
            (self.plan / model_key(name)).write_text(document)
        temporary = self.plan / "temporary"
        temporary.write_text(Plan(models={name: digest(text) for name, text in documents.items()}).to_json())
        temporary.replace(self.plan / PLAN_KEY)

    def get(self, path: str, *, seconds: float = 60.0) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=seconds) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def report(self) -> PodReport:
        return PodReport.from_json(self.get(PATH_STATE)[1])

    def until(self, condition: Callable[[], object], *, seconds: float = 30.0) -> None:
        """Waits until the condition holds; fails with the end of the log when it does not in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if condition():
                    return
            assert self.process is None or self.process.poll() is None, f"the sidecar ended:\n{self.tail()}"
            time.sleep(LOOK_SECONDS)
        state = ""
        with contextlib.suppress(OSError):
            state = self.get(PATH_STATE, seconds=5)[1]
        raise AssertionError(f"not within {seconds} s; the state is {state}\nthe log ends:\n{self.tail()}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends the signal; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text().splitlines()[-lines:]) if self.log.exists() else ""

    def __enter__(self) -> SidecarProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(20)
