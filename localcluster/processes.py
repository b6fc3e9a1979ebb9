"""Starting, finding and ending processes, always by id and start time, so that a reused id is never hit.

A process writes its own record before it becomes what it shall be; so a tool killed at any moment leaves no process
unknown. It does not restart what ended: `up` does when it is called again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster.packages import SYSTEM_PATH
from localcluster.report import Refusal, last_words

# Field 22 of /proc/PID/stat is the start time; the command name of the shell has no space, so counting words is safe.
LAUNCHER = """
set -e
record=$1; procs=$2; shift 2
echo $$ > "$procs"
echo "$$ $(cut -d ' ' -f 22 "/proc/$$/stat")" > "$record.new"
mv "$record.new" "$record"
exec "$@"
"""


@dataclass(frozen=True)
class Process:
    """A process at a time: the id alone may be somebody else's later."""

    pid: int
    start_ticks: int

    @property
    def alive(self) -> bool:
        """Whether exactly this process still runs."""
        return start_ticks(self.pid) == self.start_ticks

    @property
    def command(self) -> tuple[str, ...]:
        """What it runs now; empty when it ended."""
        try:
            return tuple(Path(f"/proc/{self.pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0"))
        except OSError:
            return ()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal if it still runs."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when it does not run or only waits to be collected."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def recorded(record: Path) -> Process | None:
    """The process of a record, when it still runs."""
    try:
        pid, ticks = record.read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    process = Process(int(pid), int(ticks))
    return process if process.alive else None


def launch(command: Sequence[str], *, record: Path, log: Path, cgroup: Path, timeout_seconds: float = 10.0) -> Process:
    """Start a process that outlives this tool, in a cgroup, with its output in a log."""
    for path in (record, log):
        path.parent.mkdir(parents=True, exist_ok=True)
    record.unlink(missing_ok=True)
    if log.exists():
        log.rename(log.with_suffix(".previous.log"))
    shell = ("sh", "-c", LAUNCHER, "launch", str(record), str(cgroup / "cgroup.procs"))
    with log.open("ab") as output:
        subprocess.run(
            ["setsid", "--fork", *shell, *command],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment(),
            cwd="/",
        )
    deadline = time.monotonic() + timeout_seconds
    while not record.exists():
        if time.monotonic() > deadline:
            raise Refusal(f"{record.name} could not be started: {last_words(log)}")
        time.sleep(0.005)
    pid, ticks = record.read_text().split()
    return Process(int(pid), int(ticks))


def _environment() -> dict[str, str]:
    """The caller's environment without what would send our local requests to a proxy.

    Go's collector runs less often than by default (100): a small cluster's heaps are small against a machine's memory,
    and marking them took a fifth of the API server's processor time.
    """
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {"GOGC": "200", **kept, "PATH": f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"}


def by_ids(pids: Iterable[int]) -> list[Process]:
    """The processes of these ids that still run."""
    return [Process(pid, ticks) for pid in pids if (ticks := start_ticks(pid)) is not None]


def end(processes: Sequence[Process], *, grace_seconds: float) -> list[Process]:
    """Ask, wait, insist; returns those that even then did not end."""
    for process in processes:
        process.signal(signal.SIGTERM)
    remaining = wait_for_end(processes, timeout_seconds=grace_seconds)
    for process in remaining:
        process.signal(signal.SIGKILL)
    return wait_for_end(remaining, timeout_seconds=10.0)


def wait_for_end(processes: Sequence[Process], *, timeout_seconds: float) -> list[Process]:
    """Wait until these ended; returns those that did not."""
    deadline = time.monotonic() + timeout_seconds
    remaining = [process for process in processes if process.alive]
    while remaining and time.monotonic() < deadline:
        time.sleep(0.02)
        remaining = [process for process in remaining if process.alive]
    return remaining
