"""A Python program in a process of its own that finds its packages imported already: born in a hundredth of a second.

A fork server (multiprocessing's) imports them once and gives birth to each. Importing them is most of what a short life
of the operator costs, and tests that kill it again and again are not about that; the tests of a module that share an
operator start it by its command.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_PACKAGES = ["nereus.cli", "nereus.controller.main"]


class Forked:
    """`python -m MODULE ARGUMENTS`, as far as tests use subprocess.Popen. It ends with the process that made it."""

    def __init__(
        self, module: str, *arguments: str, environment: Mapping[str, str], directory: Path, log: Path
    ) -> None:
        log.touch()
        _start_server()
        told = (module, arguments, dict(environment), str(directory), str(log))
        self._process = _CONTEXT.Process(target=_live, args=told, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _start_server() -> None:
    """It looks for the packages where PYTHONPATH says, not where this process does (CPython gh-126631)."""
    _CONTEXT.set_forkserver_preload(_PACKAGES)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _live(module: str, arguments: Sequence[str], environment: Mapping[str, str], directory: str, log: str) -> None:
    """The life of the new process, from what a shell would set up to the end of the module."""
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    time.tzset()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
