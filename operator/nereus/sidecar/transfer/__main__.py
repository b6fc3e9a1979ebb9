"""Reads a job, carries it out, and says what became of it. Ends at once when the sidecar that started it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sys
import threading
import time
import traceback

from nereus.sidecar.fetch.base import FetchError, describe_os_error
from nereus.sidecar.fetch.credentials import read_credentials
from nereus.sidecar.logs import redact
from nereus.sidecar.transfer.engine import transfer
from nereus.sidecar.transfer.job import Event, Job
from nereus.sidecar.transfer.schemes import open_remote

SAY_SECONDS = 0.25


class Narrator:
    """Writes events as they come, but not more often than somebody could want them."""

    def __init__(self) -> None:
        self._said = 0.0
        self._step = ""

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        last = event.finished or event.asks or bool(event.error)
        if not last and event.step == self._step and now - self._said < SAY_SECONDS:
            return
        self._said, self._step = now, event.step
        os.write(sys.stdout.fileno(), f"{event.to_json()}\n".encode())


def main() -> int:
    """0 when the source is there; 1 when not, and the last line says why."""
    narrator = Narrator()
    try:
        job = Job.from_json(sys.stdin.readline())
    except (ValueError, TypeError, KeyError) as error:
        narrator(Event(error=f"the job cannot be read: {error!r}"))
        return 2
    answers: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(answers,), daemon=True).start()
    try:
        narrator(asyncio.run(_run(job, narrator, answers)))
    except FetchError as error:
        narrator(Event(error=str(error)))
    except OSError as error:
        narrator(Event(error=describe_os_error(error, redact(job.uri))))
    except Exception as error:
        traceback.print_exc()
        narrator(Event(error=f"{redact(job.uri)}: {type(error).__name__}: {error}"))
    else:
        return 0
    return 1


async def _run(job: Job, narrator: Narrator, answers: queue.Queue[str]) -> Event:
    narrator(Event(step="connecting"))
    remote = await open_remote(job, read_credentials(job.credentials))
    try:
        return await transfer(job, remote, narrator, answers.get)
    finally:
        with contextlib.suppress(Exception):
            await remote.close()


def _listen(answers: queue.Queue[str]) -> None:
    """Takes what the parent answers. Its end of stdin is closed when it dies, however it dies: then this ends too."""
    for line in sys.stdin:
        answers.put(line.rstrip("\n"))
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main())
