"""What every source scheme has in common: the shape of a source, its limits, and the error a user reads."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nereus.api.protocol import ModelPlan

PARALLEL_PROCESSES = 2


class FetchError(Exception):
    """A source that cannot be had right now; the message is a sentence for the user, without credentials."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a source may cost. `free_reserve_bytes` of the volume are left free, because Triton writes there too."""

    max_bytes: int = 512 << 30
    max_files: int = 100_000
    free_reserve_bytes: int = 16 << 20
    connect_seconds: float = 20.0
    silence_seconds: float = 60.0
    retry_seconds: float = 0.5


Place = Callable[[int, str], Awaitable[Path]]


@dataclass
class Progress:
    """How far one fetch is; written by the fetch (also from its thread), read by the log and the status.

    `place` is asked, when the size and the content of a source are known, for the directory to fetch it to; without it
    that is the parent of `tree`. `known` are contents that need not be fetched, `found` is which of them it is.
    """

    step: str = "connecting"
    done_bytes: int = 0
    total_bytes: int | None = None
    place: Place | None = None
    known: tuple[str, ...] = ()
    found: str = ""
    cancelled: threading.Event = field(default_factory=threading.Event)

    def advance(self, size: int) -> None:
        """Counts bytes; ends a thread whose task was cancelled."""
        self.done_bytes += size
        if self.cancelled.is_set():
            raise FetchError("the fetch was cancelled, because the plan changed")


@dataclass(frozen=True, kw_only=True)
class FetchContext:
    """What a source needs from the outside. `python` runs the processes that fetch from object stores; each takes up to
    150 MB, so only a few of them run at a time."""

    limits: Limits = field(default_factory=Limits)
    tls: ssl.SSLContext | None = None
    python: str = sys.executable
    processes: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PARALLEL_PROCESSES))


class Source(Protocol):
    """One model's source. `changes` says whether its content may change under the same URI (a mounted volume),
    `resumes` whether a fetch goes on from what an earlier one left in the parent of `tree`."""

    changes: bool
    resumes: bool

    def fingerprint(self) -> str:
        """Names the present content without reading it all; blocking. Raises FetchError."""
        ...

    async def fetch(self, tree: Path, progress: Progress) -> Path:
        """Brings the content below the empty directory `tree` and returns where it lies (`tree`, or a place that is
        mounted already). Raises FetchError or OSError."""
        ...


class SourceFactory(Protocol):
    """Makes the source of a model; registered under its scheme. Raises FetchError for a URI that makes no sense."""

    def __call__(self, model: ModelPlan, context: FetchContext) -> Source: ...


def describe_os_error(error: OSError, doing: str) -> str:
    """An error of the system as a sentence with the remedy where one is known."""
    words = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{doing}: {words}: the model volume is full; raise the pod's ephemeral storage or use smaller models"
    if error.errno in (errno.EACCES, errno.EPERM):
        what = error.filename or "the file"
        return f"{doing}: {words}: {what} may not be used by user {os.getuid()}; check its mode and the pod's fsGroup"
    return f"{doing}: {words}{f' ({error.filename})' if error.filename else ''}"
