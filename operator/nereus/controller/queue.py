"""The work queue: which ModelService to look at next.

A key waits at most once, is never worked on twice at the same time, and comes back later after a failure, each time
later (with jitter). What a user did goes before what merely comes round again. Knows nothing about the keys.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 120.0


class Priority(IntEnum):
    """What goes first."""

    CHANGE = 0
    PROGRESS = 1
    ROUTINE = 2


@dataclass
class _Waiting:
    priority: Priority
    since: float
    number: int


class Queue(Generic[K]):
    """Keys to work on; used from one event loop. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._numbers = itertools.count()
        self._ready: list[tuple[Priority, int, K]] = []
        self._waiting: dict[K, _Waiting] = {}
        self._later: dict[K, tuple[float, Priority]] = {}
        self._timers: list[tuple[float, int, K]] = []
        self._working: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._news = asyncio.Event()
        self._closed = False

    def add(self, key: K, priority: Priority = Priority.CHANGE, *, after: float = 0.0) -> None:
        """Work on a key now, or `after` seconds; an earlier wish stands."""
        if after > 0:
            due = self._clock() + after
            if key not in self._later or due < self._later[key][0]:
                self._later[key] = (due, priority)
                heapq.heappush(self._timers, (due, next(self._numbers), key))
                self._news.set()
            return
        waiting = self._waiting.get(key)
        if waiting is None or priority < waiting.priority:
            since = waiting.since if waiting else self._clock()
            number = next(self._numbers)
            self._waiting[key] = _Waiting(priority, since, number)
            heapq.heappush(self._ready, (priority, number, key))
            self._news.set()

    def close(self) -> None:
        """Nothing is handed out any more."""
        self._closed = True
        self._news.set()

    async def take(self) -> K | None:
        """The next key; the caller says `done` when it has worked on it. None once the queue is closed."""
        # Work that waits for nothing would never let go of the event loop while keys keep coming, and with it of the
        # lease, the probes and SIGTERM.
        await asyncio.sleep(0)
        while not self._closed:
            self._ripen()
            key = self._pop()
            if key is not None:
                self._working[key] = self._clock()
                if self._ready:
                    self._news.set()  # another worker may find something too
                return key
            self._news.clear()
            try:
                async with asyncio.timeout(self._until_next_timer()):
                    await self._news.wait()
            except TimeoutError:
                continue
        self._news.set()  # the other workers are to see it too
        return None

    def done(self, key: K, *, failed: bool = False) -> None:
        """A key was worked on; a failure brings it back after a pause that doubles each time."""
        del self._working[key]
        if failed:
            count = self._failures[key] = self._failures.get(key, 0) + 1
            pause = min(FIRST_RETRY_SECONDS * 2 ** min(count - 1, 20), LONGEST_RETRY_SECONDS)
            jitter = random.uniform(0.75, 1.25)  # noqa: S311 - spreads work, guards nothing
            self.add(key, Priority.PROGRESS, after=pause * jitter)
        else:
            self._failures.pop(key, None)
        self._news.set()  # it may have been added meanwhile

    def forget(self, key: K) -> None:
        """A key that is gone: no retries, no timers. A wish of this moment stands: it may be there again."""
        self._failures.pop(key, None)
        self._later.pop(key, None)

    def failures(self, key: K) -> int:
        """How often in a row a key has failed."""
        return self._failures.get(key, 0)

    @property
    def depth(self) -> int:
        return len(self._waiting)

    def oldest_waiting_seconds(self) -> float:
        """How long the key that waits longest has waited."""
        now = self._clock()
        return now - min((item.since for item in self._waiting.values()), default=now)

    def longest_working_seconds(self) -> float:
        """How long the work that takes longest has taken so far."""
        now = self._clock()
        return now - min(self._working.values(), default=now)

    def _pop(self) -> K | None:
        held_back = []
        found = None
        while self._ready:
            priority, number, key = heapq.heappop(self._ready)
            waiting = self._waiting.get(key)
            if waiting is None or waiting.number != number:
                continue  # asked for again with a higher priority
            if key in self._working:
                held_back.append((priority, number, key))
                continue
            del self._waiting[key]
            found = key
            break
        for item in held_back:
            heapq.heappush(self._ready, item)
        return found

    def _ripen(self) -> None:
        now = self._clock()
        while self._timers and self._timers[0][0] <= now:
            due, _, key = heapq.heappop(self._timers)
            wish = self._later.get(key)
            if wish is not None and wish[0] == due:
                del self._later[key]
                self.add(key, wish[1])

    def _until_next_timer(self) -> float | None:
        if not self._timers:
            return None
        return max(self._timers[0][0] - self._clock(), 0.0)
