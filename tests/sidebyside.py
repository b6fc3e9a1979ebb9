"""Several commands at once, for one screen: each line is shown as it comes, with the name of whose it is before it.

Most of what the tests on clusters do is waiting, so tiers beside each other take little longer than the longest. It
knows nothing about tiers: names and commands go in, exit codes come out. When this process is told to end, the
commands are told so first and have the time to take down what they started.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

END_SECONDS = 150.0
"""So long a command that was told to end may take: more than pytest has for the ends of its fixtures."""


@dataclass
class _Running:
    """A command, and what it wrote since the end of its last line."""

    name: str
    process: subprocess.Popen[bytes]
    rest: bytes = field(default=b"")

    @property
    def output(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout


def run(commands: Mapping[str, Sequence[str]], *, directory: Path) -> dict[str, int]:
    """Exit codes by name, once all commands have ended."""
    width = max(map(len, commands))
    # Away from the terminal's own ctrl-C, which would reach them twice.
    running = [
        _Running(
            f"{name:{width}} | ",
            subprocess.Popen(
                command,
                cwd=directory,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ),
        )
        for name, command in commands.items()
    ]
    try:
        _show(running, deadline=None)
    except BaseException:
        _tell(running, signal.SIGINT)
        with contextlib.suppress(KeyboardInterrupt):
            _show(running, deadline=time.monotonic() + END_SECONDS)
        _tell(running, signal.SIGKILL)
        raise
    return {name: one.process.wait() for name, one in zip(commands, running, strict=True)}


def _environment() -> dict[str, str]:
    """What they write goes through a pipe; colours are for whoever looks at ours."""
    colours = {"FORCE_COLOR": "1"} if sys.stdout.isatty() else {}
    return {**os.environ, **colours, "PYTHONUNBUFFERED": "1"}


def _tell(running: Sequence[_Running], number: signal.Signals) -> None:
    for one in running:
        if one.process.poll() is None:
            one.process.send_signal(number)


def _show(running: Sequence[_Running], *, deadline: float | None) -> None:
    """Shows what comes until every command has ended, or until the deadline."""
    with selectors.DefaultSelector() as selector:
        for one in running:
            if not one.output.closed:
                selector.register(one.output, selectors.EVENT_READ, one)
        while selector.get_map() and (deadline is None or time.monotonic() < deadline):
            readable = [key.data for key, _ in selector.select(timeout=1.0)]
            # A command that has ended may have left a process that holds its output open and says nothing.
            silent = [] if readable else [key.data for key in selector.get_map().values()]
            ended = [one for one in silent if one.process.poll() is not None]
            for one in (*readable, *ended):
                chunk = b"" if one in ended else os.read(one.output.fileno(), 65536)
                _print(one, chunk)
                if not chunk:
                    selector.unregister(one.output)
                    one.output.close()


def _print(one: _Running, chunk: bytes) -> None:
    """Whole lines only, also the last one that has no end."""
    *lines, one.rest = (one.rest + chunk).split(b"\n")
    if not chunk and one.rest:
        lines, one.rest = [*lines, one.rest], b""
    for line in lines:
        text = line.decode(errors="replace").rstrip()
        print(f"{one.name}{text}" if text else one.name.rstrip(), flush=True)
