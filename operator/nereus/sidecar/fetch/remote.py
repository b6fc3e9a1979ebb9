"""Sources in object stores (s3://, gs://, hf://): fetched by a process of their own, which this starts and listens to.

What that process does is told in nereus.sidecar.transfer. Here is only what the sidecar needs of it: progress, the last
word, and that it ends with the task that wanted it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import nereus
from nereus.api.protocol import ModelPlan
from nereus.sidecar import logs
from nereus.sidecar.fetch.base import FetchContext, FetchError, Progress
from nereus.sidecar.logs import redact
from nereus.sidecar.transfer.job import Event, Job

_LAST_WORDS_BYTES = 2000


class RemoteSource:
    """One source in an object store. What it holds is taken as fixed once it was fetched."""

    changes = False
    resumes = True

    def __init__(self, model: ModelPlan, context: FetchContext) -> None:
        self._model = model
        self._context = context
        self._shown = redact(model.source)

    def fingerprint(self) -> str:
        return ""

    async def fetch(self, tree: Path, progress: Progress) -> Path:
        limits = self._context.limits
        job = Job(
            uri=self._model.source,
            work=str(tree.parent),
            revision=self._model.revision,
            checksum=self._model.checksum,
            credentials=self._model.credentials,
            max_bytes=limits.max_bytes,
            max_files=limits.max_files,
            free_reserve_bytes=limits.free_reserve_bytes,
            connect_seconds=limits.connect_seconds,
            silence_seconds=limits.silence_seconds,
            retry_seconds=limits.retry_seconds,
            asks=progress.place is not None,
            known=progress.known,
        )
        progress.step = "waiting for other fetches"
        async with self._context.processes:
            return await self._run(job, progress) / "tree"

    async def _run(self, job: Job, progress: Progress) -> Path:
        """Where it was fetched to: the job's directory, or the one that was asked for."""
        work = Path(job.work)
        package = str(Path(nereus.__file__).parents[1])
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH", ""))))
        process = await asyncio.create_subprocess_exec(
            *(self._context.python, "-m", "nereus.sidecar.transfer"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        errors = asyncio.create_task(_tail(process.stderr))
        last = Event()
        try:
            with contextlib.suppress(ConnectionError):  # it died at once: its last words are on stderr
                process.stdin.write(f"{job.to_json()}\n".encode())
                await process.stdin.drain()
            async for line in process.stdout:
                last = Event.from_json(line.decode())
                progress.step, progress.done_bytes, progress.total_bytes = last.step, last.done, last.total
                if last.asks and progress.place is not None:
                    work = await progress.place(last.total or 0, last.content)
                    process.stdin.write(f"{work}\n".encode())
                    await process.stdin.drain()
            code = await process.wait()
            said = await errors
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            errors.cancel()
        self._judge(last, code, said)
        progress.found = last.content if last.found else ""
        return work

    def _judge(self, last: Event, code: int, said: str) -> None:
        if last.finished:
            if last.kept or last.version:
                logs.info("fetched from a store", source=self._shown, kept_bytes=last.kept, version=last.version)
            return
        if said:
            logs.warning("the process that fetches spoke", source=self._shown, words=said)
        if last.error:
            raise FetchError(last.error)
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        hint = "; perhaps the sidecar's memory limit was reached" if code == -9 else ""
        words = f": {said.splitlines()[-1]}" if said else ""
        raise FetchError(
            f"{self._shown}: the process that fetches {how}{hint}{words}; the next attempt goes on from there"
        )


async def _tail(stream: asyncio.StreamReader) -> str:
    """The end of what a process says, once it is silent for good."""
    kept = b""
    while chunk := await stream.read(4096):
        kept = (kept + chunk)[-_LAST_WORDS_BYTES:]
    return kept.decode(errors="replace").strip()
