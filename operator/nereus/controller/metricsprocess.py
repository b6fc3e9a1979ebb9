"""Keeps the process that answers the External Metrics API: started, told what is new, replaced when it dies or hangs.

Once a second, and whenever there is news, it is told; each time it says whether it serves. Nothing here ever waits for
it: what it does not take is told later, and a process that says nothing any more is killed. What hinders it is logged
once. The liveness probe asks `silent_seconds`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence

from nereus.controller.metricsapi import encoded
from nereus.controller.metricsfeed import Feed

MODULE = "nereus.controller.metricsserver"
BEAT_SECONDS = 1.0
HANGS_SECONDS = 10.0
"""A process that does not answer a beat for this long is replaced."""
START_SECONDS = 20.0
"""What a new one may take more, where the machine is busy."""
END_SECONDS = 1.0
"""How long it may take to end by itself, once its input has ended."""
PAUSES_SECONDS = (0.1, 1.0, 10.0)
"""Before the next one is started, when one after the other dies young."""
YOUNG_SECONDS = 30.0
UNTAKEN_BYTES = 2**20

log = logging.getLogger(__name__)


class MetricsProcess:
    """Runs until cancelled. `leads_until` and `decided_until` are moments on the monotonic clock, as in `Numbers`."""

    def __init__(
        self,
        feed: Feed,
        *,
        port: int,
        leads_until: Callable[[], float],
        decided_until: Callable[[], float],
        command: Sequence[str] = (sys.executable, "-m", MODULE),
        hangs_seconds: float = HANGS_SECONDS,
    ) -> None:
        self._feed = feed
        self._port = port
        self._leads_until = leads_until
        self._decided_until = decided_until
        self._hangs_seconds = hangs_seconds
        self._command = (*command, str(port))
        self._served_at = time.monotonic()
        self._serves = False
        self._told = ""
        self._answers = 0
        self.pid = 0

    def silent_seconds(self) -> float:
        """For how long it has not served although it could; 0 while it does or cannot be expected to."""
        return time.monotonic() - self._served_at if self._feed.complete else 0.0

    async def run(self) -> None:
        """One process after the other."""
        died_young = 0
        while True:
            began = time.monotonic()
            try:
                await self._live()
            except OSError as error:
                log.error("external metrics: no process could be started: %s", error)
            died_young = died_young + 1 if time.monotonic() - began < YOUNG_SECONDS else 0
            await asyncio.sleep(PAUSES_SECONDS[min(died_young, len(PAUSES_SECONDS) - 1)])

    async def _live(self) -> None:
        """The life of one process. Raises OSError when it cannot begin."""
        process = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, stdout=PIPE)
        self.pid, self._answers = process.pid, 0
        self._feed.everything_anew()
        working = {asyncio.create_task(self._hear(process)), asyncio.create_task(self._tell(process))}
        try:
            await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._serves = False
            for task in working:
                task.cancel()
            ended = await asyncio.gather(*working, return_exceptions=True)
            code = await _end(process)
        for error in ended:
            if isinstance(error, Exception):
                raise error
        log.warning("external metrics: the process that serves them ended with %s, another one is started", code)

    async def _tell(self, process: Process) -> None:
        """Until it does not answer any more. Only time in which we listened counts: we may have been held up, too."""
        assert process.stdin is not None
        silent, looked, answers = -START_SECONDS, time.monotonic(), 0
        while silent < self._hangs_seconds:
            self._feed.news.clear()
            if process.stdin.transport.get_write_buffer_size() < UNTAKEN_BYTES:
                for message in self._feed.messages():
                    process.stdin.write(encoded(message))
                process.stdin.write(encoded({"beat": [self._leads_until(), self._decided_until()]}))
            if not self._feed.complete:
                self._served_at = time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_SECONDS):
                    await self._feed.news.wait()
            now = time.monotonic()
            silent = 0.0 if self._answers != answers else silent + min(now - looked, BEAT_SECONDS)
            looked, answers = now, self._answers
        log.error("external metrics: the process that serves them hangs")

    async def _hear(self, process: Process) -> None:
        """Until its output ends."""
        assert process.stdout is not None
        while line := await process.stdout.readline():
            said = json.loads(line)
            self._answers += 1
            if said["serves"]:
                self._served_at = time.monotonic()
            if said["serves"] and not self._serves:
                log.info("external metrics: serving on port %d", self._port)
            self._serves = said["serves"]
            if said["problem"] not in ("", self._told):
                log.warning("external metrics: %s; trying again", said["problem"])
            self._told = said["problem"]


async def _end(process: Process) -> int | None:
    """Lets it end by itself, and does not wait for long; its exit code. Its pipes are closed, too."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(END_SECONDS):
            await process.communicate()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
    return process.returncode
