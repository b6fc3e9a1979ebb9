"""Makes what Triton serves equal to what the keeper prepared. Level-triggered: each turn looks at everything anew.

A turn puts changed publications on disk, asks Triton what it holds, and starts the loads and unloads that are missing.
So a Triton that crashed, a sidecar that restarted and a plan that changed are one case. Triton itself loads a changed
model behind the one that serves and swaps only when that worked; a change that fails therefore leaves the old model
serving. When the server restarts after such a failure, the publication that worked last is put back until the change
can be loaded.

Models are loaded in the order that the plan gives them. A load that takes longer than its plan allows is told as a
failure and holds up nothing any more; Triton cannot stop it, so how it ends counts whenever that is.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from nereus.api.protocol import ModelState
from nereus.sidecar import logs, rejection
from nereus.sidecar.drift import Drifts
from nereus.sidecar.fetch.base import describe_os_error
from nereus.sidecar.keeper import Keeper
from nereus.sidecar.repository import Remembered, Repository
from nereus.sidecar.state import Board, Publication, Record, shorten
from nereus.sidecar.triton_client import Index, TritonClient, TritonRefusedError, TritonUnavailableError, explain

PARALLEL_LOADS = 4
"""Triton's own --model-load-thread-count."""
PARALLEL_LOADS_SERVING = 1
"""While clients are served, each load takes memory and time away from them."""
BUSY_SECONDS = 0.5
IDLE_SECONDS = 2.0
RETRY_SECONDS = (2.0, 60.0)
RETRY_SERVING_SECONDS = 300.0
"""The longest pause while the old model serves: each attempt takes memory and time away from it."""


@dataclass
class Loader:
    """The task beside the keeper."""

    board: Board
    repository: Repository
    triton: TritonClient
    keeper: Keeper
    drifts: Drifts
    parallel: int = PARALLEL_LOADS
    _loads: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _overdue: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _was_ready: bool = False

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self.board.bell.clear()
                busy = await self.turn()
                try:
                    async with asyncio.timeout(BUSY_SECONDS if busy else IDLE_SECONDS):
                        await self.board.bell.wait()
                except TimeoutError:
                    pass
        finally:
            under_way = [*self._loads.values(), *self._overdue.values()]
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def turn(self) -> bool:
        """One look at everything. True while there is something left to do soon."""
        records = list(self.board.records.values())
        for record in records:
            self._publish_wanted(record)
        asked = time.monotonic()
        index = await self._look()
        if index is None:
            return True
        known = [record for record in records if record.loaded_at < asked]  # of the others the answer may be outdated
        for record in known:
            self._observe(record, index)
        for record in known:
            if record.removing:
                if not self._needed_still(records):
                    await self._remove(record, index)
            else:
                await self._note_kinds(record)
                self._load_if_needed(record)
        await self._mend(known)
        self._tell_readiness()
        self._tidy()
        unfinished = (r.removing or r.state is not ModelState.READY for r in self.board.records.values())
        return self.board.draining or any(unfinished)

    def _needed_still(self, records: list[Record]) -> bool:
        """Whether nothing may go yet: a plan that is tried may fail, and what it lacks is served until it works."""
        return self.board.tried and any(not r.removing and r.state is not ModelState.READY for r in records)

    async def _mend(self, records: list[Record]) -> None:
        """Loads a model again that somebody changed. Its configuration is written anew: Triton reads it only then."""
        found = await self.drifts.look(records)
        if found is not None and found[0].wanted is not None:
            self._drifted(*found)
            found[0].loaded = found[0].on_disk = ""

    def _drifted(self, record: Record, words: str) -> None:
        logs.warning("put right what somebody changed in Triton", model=record.name, what=words)
        record.note_drift(words)

    async def _look(self) -> Index | None:
        board = self.board
        try:
            index = await self.triton.index()
        except TritonUnavailableError:
            if board.server_live and await self.triton.runs():
                return None  # slow, not gone
            if board.server_live:
                logs.warning("Triton is gone; every model is loaded again when it is back")
            board.server_live = False
            self._reject()
            for record in board.records.values():
                record.versions, record.loaded = (), ""
            self._tell_readiness()
            return None
        except TritonRefusedError as error:
            board.problems["triton"] = f"the repository API of Triton: {error}"
            return None
        board.problems.pop("triton", None)
        if not board.server_live:
            logs.info("Triton is live")
            if board.draining and board.drained:
                # a container that was stopped by its liveness probe drained too, and is back: the pod does not stop
                logs.warning("Triton is back after a drain: this pod takes requests again")
                board.draining = board.drained = False
        board.server_live = True
        return index

    def _reject(self) -> None:
        """Gives up a tried plan that Triton did not survive; the former one is followed from now on."""
        rejected = rejection.of_crash(self.board)
        if rejected is not None:
            self.board.rejected = rejected
            logs.warning("goes back to the former models and settings", why=rejected[1], tried=rejected[0])

    def _observe(self, record: Record, index: Index) -> None:
        record.versions = index.ready.get(record.name, ())
        if not record.versions:
            if not record.loading:
                if record.loaded and not record.removing:
                    self._drifted(record, "the model was unloaded, not by the plan")
                record.loaded = ""
        elif not record.served:
            record.served = True
            self._remember(record)
        if record.wanted and record.loaded == record.wanted.digest:
            record.good = record.wanted

    async def _note_kinds(self, record: Record) -> None:
        """Where the model runs, once after each load: what was declared is not always what Triton settled on."""
        if record.serving and not record.loading and record.kinds_of != record.loaded:
            record.kinds_of, record.kinds = record.loaded, await self.triton.kinds(record.name)

    def _publish_wanted(self, record: Record) -> None:
        wanted = record.wanted
        if wanted is None or record.removing or record.loading or wanted.digest in (record.on_disk, record.failed):
            return
        self._publish(record, wanted)

    def _publish(self, record: Record, publication: Publication) -> bool:
        if record.on_disk == publication.digest:
            return True
        try:
            self.repository.publish(record.name, publication)
        except OSError as error:
            self._failed(record, publication, describe_os_error(error, "the model repository cannot be written"))
            return False
        record.on_disk = publication.digest
        self._remember(record)
        return True

    def _load_if_needed(self, record: Record) -> None:
        wanted = record.wanted
        if wanted is None or record.loading:
            return
        if record.serving and record.loaded == wanted.digest:
            record.failed, record.load_message, record.failures = "", "", 0
            return
        now = time.monotonic()
        if record.failed == wanted.digest and now < record.retry_at:
            good = record.good
            if not record.serving and good is not None and good.digest != wanted.digest and now >= record.fallback_at:
                record.fallback_at = record.retry_at
                self._start_load(record, good)
            return
        limit = PARALLEL_LOADS_SERVING if self._was_ready else self.parallel
        if len(self._loads) < limit and self._is_next(record):
            self._start_load(record, wanted)

    def _is_next(self, record: Record) -> bool:
        """Whether everything that the plan wants loaded before is loaded, or cannot be for now."""
        if record.plan is None:
            return True
        first = [other for other in self.board.planned if other.plan and other.plan.load_order < record.plan.load_order]
        return all(other.settled for other in first)

    def _start_load(self, record: Record, publication: Publication) -> None:
        if not self._publish(record, publication):
            return
        record.loading = True
        task = asyncio.create_task(self._load(record, publication), name=f"load {record.name}")
        self._loads[record.name] = task

    async def _load(self, record: Record, publication: Publication) -> None:
        started = time.monotonic()
        name = record.name
        try:
            limit_seconds = record.plan.load_seconds if record.plan else 0.0
            beside = [asyncio.create_task(_narrate(name, started))]
            if limit_seconds:
                beside.append(asyncio.create_task(self._deadline(record, publication, limit_seconds)))
            try:
                await self.triton.load(name)
            finally:
                for task in beside:
                    task.cancel()
            seconds = time.monotonic() - started
            record.loaded, record.good, record.loaded_at = publication.digest, publication, time.monotonic()
            record.load_seconds = round(seconds, 3)
            record.loads += 1
            await self.drifts.learn(name)
            if publication is record.wanted:
                record.failed = record.load_message = ""
            for other in self.board.planned:
                if other.wanted is not None and other.failed and "ensemble_scheduling" in other.wanted.config_text:
                    other.retry_at = 0.0  # it may have waited for this model
            logs.info("loaded", model=name, seconds=record.load_seconds, again=record.served)
        except TritonRefusedError as error:
            record.loads += 1
            record.load_failures += 1
            self._failed(record, publication, explain(name, str(error)))
        except TritonUnavailableError as error:
            record.interrupted_at = time.monotonic()
            logs.warning("a load was not finished", model=name, why=str(error))
        finally:
            record.loading = False
            self._loads.pop(name, None)
            self._overdue.pop(name, None)
            self._remember(record)
            self.board.ring()

    async def _deadline(self, record: Record, publication: Publication, seconds: float) -> None:
        """Calls a load that is not done in time a failure, and lets the next ones begin."""
        await asyncio.sleep(seconds)
        if record.name in self._loads:
            self._overdue[record.name] = self._loads.pop(record.name)
        record.load_failures += 1
        self._failed(record, publication, _overdue_words(seconds))
        self.board.ring()

    def _failed(self, record: Record, publication: Publication, message: str) -> None:
        first, longest = RETRY_SECONDS
        record.failures += 1
        pause = min(RETRY_SERVING_SECONDS if record.serving else longest, first * 2 ** min(record.failures - 1, 16))
        if publication is not record.wanted:
            record.fallback_at = time.monotonic() + pause
            logs.warning("the last good model does not load either", model=record.name, why=shorten(message))
            return
        if (record.failed, record.load_message) != (publication.digest, message):
            logs.warning(
                "not loaded", model=record.name, why=shorten(message), serving=record.serving, retry_seconds=pause
            )
        record.failed, record.load_message = publication.digest, message
        record.retry_at = time.monotonic() + pause

    async def _remove(self, record: Record, index: Index) -> None:
        if record.loading or record.name in index.unloading:
            return
        try:
            if record.serving:
                await self.triton.unload(record.name)
                logs.info("unloading", model=record.name)
                return
            await asyncio.to_thread(self.repository.remove, record.name)
        except (TritonUnavailableError, TritonRefusedError, OSError) as error:
            logs.warning("not removed", model=record.name, why=str(error))
            return
        if record.removing:
            self.board.records.pop(record.name, None)
            logs.info("removed", model=record.name)

    def _remember(self, record: Record) -> None:
        known = Remembered(on_disk=record.on_disk, loaded=record.loaded, served=record.served)
        try:
            self.repository.remember(record.name, known)
        except OSError as error:
            logs.warning("the state of a model cannot be written", model=record.name, why=str(error))

    def _tell_readiness(self) -> None:
        ready = self.board.settle()
        if ready != self._was_ready:
            self._was_ready = ready
            names = frozenset(record.name for record in self.board.planned if record.serving)
            logs.info("ready" if ready else "not ready", why="; ".join(self.board.unready(names)))

    def _tidy(self) -> None:
        in_use = self.keeper.in_use()
        if in_use is None or self._loads or self._overdue:
            return
        try:
            for name in self.repository.drop_sources(in_use):
                logs.info("removed a source that is no longer used", source=name)
        except OSError as error:
            logs.warning("an old source cannot be removed", why=str(error))


def _overdue_words(seconds: float) -> str:
    return (
        f"not loaded within load.timeout ({seconds:g} s): Triton cannot stop a load that has begun, and serves the"
        " model when it ends well; if it hangs, correct the model and delete the pod"
    )


async def _narrate(name: str, started: float) -> None:
    while True:
        await asyncio.sleep(10)
        logs.info("loading", model=name, seconds=round(time.monotonic() - started))
