"""Keeps every model of the plan ready to be loaded: one small task per model, from source to publication.

A task fetches, finds the layout, merges the configuration, and then either is done or keeps an eye on a source that may
change (a mounted volume). It never gives up; after each failure it says why and waits longer, up to a minute. It writes
only the keeper's part of a record; loading is the loader's.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import time
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nereus.api.protocol import SCHEME_MEMBER, ModelPlan, ModelState
from nereus.sidecar import configure, layout, logs
from nereus.sidecar.configure import InvalidConfigError
from nereus.sidecar.fetch import FetchContext, FetchError, Progress, Source, cached, source_of
from nereus.sidecar.fetch.base import describe_os_error
from nereus.sidecar.fetch.cached import SharedCache
from nereus.sidecar.members import Members
from nereus.sidecar.plan import AcceptedPlan
from nereus.sidecar.repository import Repository
from nereus.sidecar.state import Board, Record

PARALLEL_FETCHES = 4
PROGRESS_SECONDS = 0.5
PROGRESS_LOG_SECONDS = 10.0
_MARKER = "source.json"


class Fingerprinted(Protocol):
    """What is looked at for changes."""

    def fingerprint(self) -> str: ...


@dataclass
class Keeper:
    """Follows the plan. `shared` is the cache that it shares with other pods; `look_seconds` is how often a mounted
    source is looked at, `retry_seconds` the first and the longest pause after a failure."""

    board: Board
    repository: Repository
    context: FetchContext
    look_seconds: float = 5.0
    retry_seconds: tuple[float, float] = (1.0, 60.0)
    shared: SharedCache | None = None
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PARALLEL_FETCHES))
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    _preparing: int = 0

    def follow(self, plan: AcceptedPlan) -> None:
        """Makes the tasks equal to the plan. A model whose document did not change is left alone."""
        board = self.board
        for model in plan.models:
            record = self._record(model.name)
            if record.plan == model:
                continue
            record.plan, record.source_state, record.source_message = model, ModelState.PENDING, ""
            record.tried = False
            self._start(record, model)
        for name, problem in plan.refused:
            record = self._record(name)
            self._stop(name)
            record.plan, record.tried = None, True
            record.source_state, record.source_message = ModelState.CONFIG_INVALID, problem
            logs.warning("a model of the plan is refused", model=name, why=problem)
        named = {model.name for model in plan.models} | {name for name, _ in plan.refused}
        whole = next((board.records[model.name] for model in plan.models if model.repository), None)
        members = () if whole is None else whole.members
        if members is not None:  # until then nobody knows which models are to go
            self._remove_all_but(named.union(members))
        if plan.tried and (plan.revision != board.revision or not board.tried):
            board.tried_since = time.monotonic()
        board.revision, board.tried = plan.revision, plan.tried
        board.ring()

    def _remove_all_but(self, named: Collection[str]) -> None:
        for name in (set(self.board.records) | self.repository.models()).difference(named):
            self._stop(name)
            record = self._record(name)
            if not record.removing:
                logs.info("a model left the plan", model=name)
            record.removing, record.plan = True, None

    def _adopt(self, whole: Record, model: ModelPlan, found: Mapping[str, Path], *, watched: bool) -> None:
        """Makes the models of a repository models of the plan, each under its own name."""
        logs.info("the repository holds models", source=logs.redact(model.source), models=sorted(found))
        for name, directory in found.items():
            source = f"{model.source.rstrip('/')}/{name}" if watched else f"{SCHEME_MEMBER}://{name}"
            plan = ModelPlan(name=name, source=source, directory=str(directory))
            record = self._record(name)
            if record.plan == plan:
                continue
            record.plan, record.source_state, record.source_message = plan, ModelState.PENDING, ""
            record.tried = False
            self._start(record, plan)
        whole.members = tuple(sorted(found))
        whole.source_state, whole.source_message, whole.tried = ModelState.FETCHED, "", True
        self._remove_all_but({whole.name, *found})
        self.board.ring()

    async def close(self) -> None:
        """Ends all tasks."""
        tasks = list(self._tasks.values())
        for name in list(self._tasks):
            self._stop(name)
        await asyncio.gather(*tasks, return_exceptions=True)

    def in_use(self) -> frozenset[str] | None:
        """The fetched sources that are needed; None while that is not known, because a fetch is under way."""
        if self._preparing or not all(record.tried for record in self.board.planned):
            return None
        publications = [p for record in self.board.records.values() for p in (record.wanted, record.good) if p]
        begun = {record.identity for record in self.board.planned if record.identity}
        paths = [path for publication in publications for path in publication.entries.values()]
        root = self.repository.sources
        return frozenset(path.relative_to(root).parts[0] for path in paths if path.is_relative_to(root)) | begun

    def again(self, identity: str) -> None:
        """A fetched source is gone: whatever is made of it is prepared anew. What is loaded stays."""
        for record in self.board.planned:
            if record.identity == identity and record.plan is not None:
                logs.warning("its files are gone and are fetched again", model=record.name)
                self._start(record, record.plan)

    def _record(self, name: str) -> Record:
        record = self.board.records.get(name)
        if record is None:
            known = self.repository.recall(name)
            record = Record(name, on_disk=known.on_disk, loaded=known.loaded, served=known.served)
            self.board.records[name] = record
        elif record.removing:
            record.removing, record.plan = False, None
        return record

    def _start(self, record: Record, model: ModelPlan) -> None:
        self._stop(record.name)
        task = asyncio.create_task(self._keep(record, model), name=f"keep {record.name}")
        task.add_done_callback(_complain)
        self._tasks[record.name] = task

    def _stop(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()

    async def _keep(self, record: Record, model: ModelPlan) -> None:
        failures = 0
        while True:
            self._preparing += 1
            try:
                seen = await self._prepare(record, model)
                failures = 0
            except (FetchError, InvalidConfigError, OSError) as error:
                failures += 1
                pause = self._failed(record, model, error, failures)
            else:
                pause = 0.0
            finally:
                self._preparing -= 1
            if pause:
                await asyncio.sleep(pause)
                continue
            if seen is None:
                return
            await self._until_changed(*seen)

    async def _prepare(self, record: Record, model: ModelPlan) -> tuple[Fingerprinted, str] | None:
        """Source to publication, once. Returns what to watch, or None for a source that never changes."""
        source = source_of(model, self.context)
        fingerprint = await asyncio.to_thread(source.fingerprint)
        pins = [pin for pin in (model.revision, model.checksum) if pin]
        parts = (model.source, model.directory, fingerprint, *pins)
        record.identity = identity = f"{model.source.partition('://')[0]}-{_digest(*parts)}"
        root, kept = await self._fetched(record, model, source, identity)
        shown = logs.redact(model.source)
        descend = not source.changes
        if model.repository:
            members = Members(root, shown, descend)
            models = await asyncio.to_thread(members.find)
            self._adopt(record, model, models, watched=source.changes)
            return (members, "\0".join(sorted(models))) if source.changes else None
        found = await asyncio.to_thread(layout.read, root, shown=shown, descend=descend)
        layout.check_versions(found, model.versions, shown=shown)
        publication = await asyncio.to_thread(
            configure.publication,
            model,
            found,
            identity=identity,
            source=identity if kept else "",
            empty=self.repository.empty,
        )
        before = record.wanted.digest if record.wanted else record.on_disk
        record.wanted, record.source_state, record.source_message = publication, ModelState.FETCHED, ""
        record.tried = True
        if publication.digest != before:
            logs.info("prepared", model=model.name, source=shown, conflicts=list(publication.conflicts))
        self.board.settle()
        self.board.ring()
        return (source, fingerprint) if source.changes else None

    async def _fetched(self, record: Record, model: ModelPlan, source: Source, identity: str) -> tuple[Path, bool]:
        """Where the source lies, and whether it is a copy of ours; fetched now unless it is there already."""
        folder = self.repository.sources / identity
        async with self._locks.setdefault(identity, asyncio.Lock()), self._slots:
            if (marker := _complete(folder)) is not None:
                record.fetched_bytes = int(marker.get("bytes", 0))
                record.fetch_seconds = float(marker.get("seconds", 0.0))
                return folder / "tree", True
            if record.source_state not in (ModelState.FETCH_FAILED, ModelState.CONFIG_INVALID):
                record.source_state = ModelState.FETCHING
            staging = (self.repository.partial if source.resumes else self.repository.staging) / identity
            started = time.monotonic()
            progress = Progress()
            try:
                if not source.resumes:
                    await asyncio.to_thread(self.repository.discard, staging)
                tree = staging / "tree"
                tree.mkdir(parents=True, exist_ok=source.resumes)
                async with _narrated(record, model, progress, started):
                    shared = self.shared if cached.is_shared(model) else None
                    entry = await shared.fetch(model, source, identity, tree, progress) if shared else ""
                    root = tree if entry else await source.fetch(tree, progress)
                if shared and entry:
                    await asyncio.to_thread(self.repository.refer, tree, shared.tree(entry))
                seconds = time.monotonic() - started
                record.fetch_seconds, record.fetched_bytes = round(seconds, 3), progress.done_bytes
                record.total_bytes = progress.total_bytes
                if root != tree:
                    return root, False
                about = {"uri": logs.redact(model.source), "bytes": progress.done_bytes, "seconds": round(seconds, 3)}
                (staging / _MARKER).write_text(json.dumps(about))
                self.repository.discard(folder)
                staging.rename(folder)
                logs.info("fetched", model=model.name, **about)
                return folder / "tree", True
            finally:
                progress.cancelled.set()
                if not source.resumes:
                    with contextlib.suppress(OSError):
                        self.repository.discard(staging)

    def _failed(self, record: Record, model: ModelPlan, error: Exception, failures: int) -> float:
        """Notes why, and says how long to wait before the next attempt."""
        state = ModelState.CONFIG_INVALID if isinstance(error, InvalidConfigError) else ModelState.FETCH_FAILED
        shown = logs.redact(model.source)
        message = describe_os_error(error, shown) if isinstance(error, OSError) else str(error)
        first, longest = self.retry_seconds
        if model.directory:  # mounted: looking again costs nothing
            longest = min(longest, self.look_seconds)
        pause = min(longest, first * 2.0 ** min(failures - 1, 16)) * random.uniform(0.8, 1.2)  # noqa: S311 (jitter)
        if (record.source_state, record.source_message) != (state, message):
            logs.warning("not prepared", model=model.name, state=str(state), why=message, retry_seconds=round(pause, 1))
        record.source_state, record.source_message, record.tried = state, message, True
        self.board.ring()
        return pause

    async def _until_changed(self, source: Fingerprinted, before: str) -> None:
        """Returns when the content is not what it was, and has come to rest: two looks in a row see the same."""
        last = before
        pause = self.look_seconds
        while True:
            await asyncio.sleep(pause)
            started = time.monotonic()
            try:
                now = await asyncio.to_thread(source.fingerprint)
            except (FetchError, OSError):
                return  # the next preparation meets the same error and reports it
            if now == last and now != before:
                return
            last = now
            # a slow file system is looked at less often, so that looking costs at most 2 % of a core
            pause = max(self.look_seconds, 50 * (time.monotonic() - started))


@contextlib.asynccontextmanager
async def _narrated(record: Record, model: ModelPlan, progress: Progress, started: float) -> AsyncIterator[None]:
    async def narrate() -> None:
        told = started
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            record.fetched_bytes, record.total_bytes = progress.done_bytes, progress.total_bytes
            if time.monotonic() - told < PROGRESS_LOG_SECONDS:
                continue
            told = time.monotonic()
            logs.info(
                "fetching",
                model=model.name,
                step=progress.step,
                bytes=progress.done_bytes,
                of=progress.total_bytes,
                seconds=round(time.monotonic() - started),
            )

    task = asyncio.create_task(narrate())
    try:
        yield
    finally:
        task.cancel()


def _complete(folder: Path) -> dict[str, float] | None:
    try:
        about = json.loads((folder / _MARKER).read_text())
    except (OSError, ValueError):
        return None
    return about if isinstance(about, dict) and (folder / "tree").is_dir() else None


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _complain(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logs.warning("a task ended by an error that no code expected", task=task.get_name(), error=repr(error))
