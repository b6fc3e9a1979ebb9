"""One cluster, seen through kubectl and helm: which one it is, where its tools are, and how a step waits.

kubectl is used rather than a client library because the demo shows what a person would type.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Say = Callable[[str], None]
SIGN_SECONDS = 8.0
"""Who sees nothing for ten seconds thinks that it hangs."""


class StepError(RuntimeError):
    """A step that cannot go on; the message is for the person who watches."""


class CommandError(StepError):
    """A command that failed; holds what it printed."""


@dataclass(frozen=True, kw_only=True)
class Kube:
    """A cluster: its kubeconfig, and the directory of kubectl and helm (None: those on PATH).

    `routed` says whether service addresses answer from this machine; otherwise ports are forwarded.
    """

    kubeconfig: Path
    tools: Path | None = None
    routed: bool = False

    def tool(self, name: str) -> str:
        if self.tools is not None and (self.tools / name).exists():
            return str(self.tools / name)
        found = shutil.which(name)
        if found is None:
            raise StepError(f"{name} is not on PATH: install it, or use the local cluster, which builds it")
        return found

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    def run(
        self, name: str, *arguments: str, stdin: str | None = None, timeout: float = 120, say: Say | None = None
    ) -> str:
        """What the tool prints; `say` gets signs of life. Raises CommandError with its words when it fails."""
        command = [self.tool(name), *arguments]
        code, out, errors = finished(command, stdin=stdin, seconds=timeout, env=self.environment, say=say, quiet=True)
        if code != 0:
            raise CommandError(f"{name} {' '.join(arguments[:6])}: {errors.strip() or out.strip()}")
        return out

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        return self.run("kubectl", *arguments, stdin=stdin, timeout=timeout)

    def apply(self, manifest: str | Json, *, namespace: str) -> str:
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        return self.kubectl("-n", namespace, "apply", "-f", "-", stdin=text)

    def get(self, kind: str, name: str, *, namespace: str) -> Json | None:
        """The object, or None when there is none."""
        text = self.kubectl("-n", namespace, "get", kind, name, "--ignore-not-found", "-o", "json")
        return json.loads(text) if text.strip() else None

    def items(self, kind: str, *, namespace: str, selector: str = "") -> list[Json]:
        text = self.kubectl("-n", namespace, "get", kind, "-l", selector, "-o", "json")
        found: list[Json] = json.loads(text)["items"]
        return found

    @contextmanager
    def address(self, service: str, port: int, *, namespace: str) -> Iterator[str]:
        """`host:port` at which a port of a Service answers from this machine, while the context lasts."""
        if self.routed:
            manifest = self.get("service", service, namespace=namespace)
            if manifest is None:
                raise StepError(f"service {namespace}/{service} does not exist")
            yield f"{manifest['spec']['clusterIP']}:{port}"
            return
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            local = probe.getsockname()[1]
        forward = subprocess.Popen(
            [self.tool("kubectl"), "-n", namespace, "port-forward", f"service/{service}", f"{local}:{port}"],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait(lambda: _answers(local), f"port-forward of {service}:{port}", seconds=20)
            yield f"127.0.0.1:{local}"
        finally:
            forward.terminate()
            forward.wait(timeout=10)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait(
    condition: Callable[[], object],
    what: str,
    *,
    seconds: float,
    interval: float = 0.5,
    state: Callable[[], str] | None = None,
    say: Say | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Until the condition holds; `say` gets signs of life. Raises StepError with the state when the time is over."""
    began = told = clock()
    while not condition():
        now = clock()
        if now - began > seconds:
            seen = f"; last seen: {state()}" if state else ""
            raise StepError(f"gave up after {seconds:.0f} s waiting for {what}{seen}")
        if say is not None and now + interval - told >= SIGN_SECONDS:
            say(f"waiting for {what}, {now - began:.0f} s")
            told = now
        sleep(interval)


def finished(
    command: Sequence[str],
    *,
    seconds: float,
    say: Say | None = None,
    every: float = SIGN_SECONDS,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> tuple[int, str, str]:
    """Exit code and, when `quiet`, both outputs of a command, which otherwise go to the screen.

    `say` gets a sign of life after each `every` seconds. Raises StepError when it runs longer than `seconds`; then it
    is ended.
    """
    what = " ".join((Path(command[0]).name, *command[1:3]))
    into = subprocess.PIPE if quiet else None
    fed = subprocess.DEVNULL if stdin is None else subprocess.PIPE
    began = time.monotonic()
    with subprocess.Popen(command, stdin=fed, stdout=into, stderr=into, text=True, env=env) as process:
        try:
            while (left := began + seconds - time.monotonic()) > 0:
                try:
                    out, errors = process.communicate(stdin, timeout=min(every, left))
                    return process.returncode, out or "", errors or ""
                except subprocess.TimeoutExpired:
                    stdin = None  # it is on its way already
                    if say is not None:
                        say(f"{what} goes on, {time.monotonic() - began:.0f} s")
        except BaseException:
            process.kill()
            raise
        process.kill()
    raise StepError(f"{what} did not end within {seconds:.0f} s")


def condition_of(resource: Mapping[str, Any] | None, kind: str) -> Json:
    """One condition of a resource's status; empty when it is not there."""
    conditions = ((resource or {}).get("status") or {}).get("conditions") or []
    return next((item for item in conditions if item.get("type") == kind), {})
