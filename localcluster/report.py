"""What the tool says: progress lines with elapsed seconds, and refusals of one line.

Every other module speaks through here, so that nothing is silent for long and no failure is a traceback.
It does not log to files; components write their own logs.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

# How Go programs, klog and structured logs mark what made them end.
FAILURE = re.compile(r"^(Error|error|panic|fatal|F\d{4} )|level=(error|fatal)|\"level\":\"(error|fatal|panic)")
SILENCE_SECONDS = 5.0


class Refusal(Exception):  # noqa: N818 (it is an answer to the user, not a fault of the tool)
    """The tool cannot go on; the message is one line that names the remedy."""


class Progress:
    """Prints lines such as `[  12.3s] kube-apiserver is ready`."""

    def __init__(self, *, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out or sys.stderr
        self._clock = clock
        self._start = clock()
        self._last_line = self._start

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since this report began."""
        return self._clock() - self._start

    def say(self, text: str) -> None:
        """Print one line now."""
        print(f"[{self.elapsed_seconds:6.1f}s] {text}", file=self._out, flush=True)
        self._last_line = self._clock()

    def tick(self, text: str) -> None:
        """Print one line unless another was printed in the last few seconds."""
        if self._clock() - self._last_line >= SILENCE_SECONDS:
            self.say(text)


def last_words(log: Path) -> str:
    """The line of a component's log that most likely says why it ended."""
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return "(no log)"
    failures = [line for line in lines if FAILURE.search(line)]
    return (failures or lines or ["(empty log)"])[-1][:400]


def wait_until(
    missing: Callable[[], str | None],
    *,
    what: str,
    timeout_seconds: float,
    progress: Progress,
    pause_seconds: float = 0.2,
) -> None:
    """Wait until `missing` returns None; it returns in words what is still missing otherwise.

    Raises Refusal with those words when the time is over. A Refusal from `missing` ends the wait at once.
    """
    deadline = time.monotonic() + timeout_seconds
    while (lack := missing()) is not None:
        if time.monotonic() > deadline:
            raise Refusal(f"{what} did not come up in {timeout_seconds:.0f} s: {lack}")
        progress.tick(f"waiting for {what}: {lack}")
        time.sleep(pause_seconds)
