"""One transfer: list the source, fetch what is missing in parallel ranges, verify, put it in place. Knows no scheme.

The order is what makes it safe. Nothing is in `WORK/tree` before everything was verified and listed a second time; so
what the keeper renames is complete, is of one time, and holds no file that a name could have put elsewhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import shutil
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from nereus.sidecar import archive
from nereus.sidecar.fetch.base import FetchError, Limits, Progress
from nereus.sidecar.logs import redact
from nereus.sidecar.transfer import digests
from nereus.sidecar.transfer.base import PARALLEL, ChangedError, Item, Listing, Remote, TemporaryError
from nereus.sidecar.transfer.hashing import Hashing
from nereus.sidecar.transfer.job import Event, Job
from nereus.sidecar.transfer.journal import Journal, item_name, part_range
from nereus.sidecar.transfer.names import problem_of

ATTEMPTS = 6
"""Per request, over about half a minute; then the keeper waits longer and the next attempt keeps what is there."""
LONGEST_PAUSE = 15.0

Report = Callable[[Event], None]
Answer = Callable[[], str]
T = TypeVar("T")


@dataclass
class _State:
    """Where the transfer stands."""

    report: Report
    step: str = "listing"
    done: int = 0
    total: int | None = None
    kept: int = 0
    version: str = ""
    content: str = ""

    def say(self, step: str = "", *, finished: bool = False) -> Event:
        self.step = step or self.step
        event = Event(
            step=self.step,
            done=self.done,
            total=self.total,
            kept=self.kept,
            version=self.version,
            content=self.content,
            finished=finished,
        )
        if not finished:
            self.report(event)
        return event


@dataclass
class _Transfer:
    job: Job
    remote: Remote
    state: _State
    shown: str = field(init=False)

    def __post_init__(self) -> None:
        self.shown = redact(self.job.uri)


async def transfer(job: Job, remote: Remote, report: Report, answer: Answer = str) -> Event:
    """Brings the source of a job into WORK/tree; the last event. `answer` waits for the directory that a job asks for.
    Raises FetchError or OSError."""
    it = _Transfer(job, remote, _State(report))
    it.state.say("listing")
    listing = await _again(it, remote.list)
    _check(it, listing)
    it.state.version = listing.version
    it.state.total = sum(item.size for item in listing.items)
    it.state.content = _content(listing)
    if it.state.content in job.known:
        return replace(it.state.say("known", finished=True), found=True)
    if job.asks:
        report(replace(it.state.say(finished=True), finished=False, asks=True))
        it.job = job = replace(job, work=await asyncio.to_thread(answer))
    journal = Journal(Path(job.work))
    try:
        it.state.say("checking what is there already")
        it.state.kept = it.state.done = await asyncio.to_thread(journal.open, listing.items)
        _check_room(it)
        it.state.say("downloading")
        hashing = Hashing(journal.parts)
        for item in listing.items:
            hashing.note(item, journal.kept.get(item_name(item), ()))
        beside = asyncio.create_task(hashing.run(listing.items, checksum=bool(job.checksum)))
        try:
            await _download(it, listing, journal, hashing)
            it.state.say("verifying")
            await beside
        finally:
            beside.cancel()
            await asyncio.gather(beside, return_exceptions=True)
        await _verify(it, listing, journal, hashing)
        if await _again(it, remote.list) != listing:
            raise FetchError(f"{it.shown} was changed while it was fetched; the new content is fetched next")
        await asyncio.to_thread(_place, it, listing, journal)
    finally:
        journal.close()
    return it.state.say("done", finished=True)


def _content(listing: Listing) -> str:
    """A name for what a source holds; another one whenever anything in it changes."""
    state = hashlib.sha256()
    for item in sorted(listing.items, key=lambda item: item.path):
        state.update(f"{item.path}\0{item.size}\0{item.version}\n".encode(errors="replace"))
    return state.hexdigest()[:24]


def _check(it: _Transfer, listing: Listing) -> None:
    job = it.job
    if not listing.items:
        raise FetchError(f"{it.shown} holds no files; check the path, also its upper and lower case")
    if len(listing.items) > job.max_files:
        raise FetchError(f"{it.shown} holds {len(listing.items)} files and at most {job.max_files} are allowed")
    problem = problem_of([item.path for item in listing.items])
    if problem:
        raise FetchError(f"{it.shown}: {problem}")
    total = sum(item.size for item in listing.items)
    if total > job.max_bytes:
        raise FetchError(f"{it.shown} has {total} bytes; at most {job.max_bytes} are allowed")
    if not total:
        raise FetchError(f"{it.shown} holds only empty files")


def _check_room(it: _Transfer) -> None:
    needed = (it.state.total or 0) - it.state.kept
    free = shutil.disk_usage(it.job.work).free - it.job.free_reserve_bytes
    if needed > free:
        raise FetchError(
            f"{it.shown} needs {needed} more bytes and the model volume has room for {max(free, 0)};"
            " raise the pod's ephemeral storage or use a smaller model"
        )


async def _download(it: _Transfer, listing: Listing, journal: Journal, hashing: Hashing) -> None:
    missing = journal.missing(listing.items)

    async def work() -> None:
        for item, number in missing:  # shared by the workers: each takes the next one
            await _again(it, partial(_part, it, journal, item, number))
            hashing.note(item, (number,))

    workers = [asyncio.create_task(work()) for _ in range(PARALLEL)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _part(it: _Transfer, journal: Journal, item: Item, number: int) -> None:
    """One range into its place in the file. What did not arrive whole is taken back from the count."""
    start, size = part_range(item, number)
    got = check = 0
    file = os.open(journal.parts / item_name(item), os.O_WRONLY)
    try:
        async for chunk in it.remote.read(item, start, size):
            if got + len(chunk) > size:
                raise FetchError(f"{it.shown}: {item.path}: the server sends more bytes than were asked for")
            os.pwrite(file, chunk, start + got)
            check = zlib.crc32(chunk, check)
            got += len(chunk)
            it.state.done += len(chunk)
            it.state.say()
        if got < size:
            raise TemporaryError(f"{it.shown}: {item.path}: the connection was closed before the file was complete")
        journal.note(item, number, check)
        got = 0
    finally:
        os.close(file)
        it.state.done -= got


async def _again(it: _Transfer, attempt: Callable[[], Awaitable[T]]) -> T:
    """Tries again what may work a moment later; raises the last error when it does not."""
    pause = it.job.retry_seconds
    for number in range(1, ATTEMPTS + 1):
        try:
            return await attempt()
        except TemporaryError as error:
            if number == ATTEMPTS:
                so_far = f" (after {it.state.done} of {it.state.total} bytes)" if it.state.total else ""
                raise FetchError(f"{error}{so_far}; tried {ATTEMPTS} times") from None
        except ChangedError as error:
            raise FetchError(f"{error}; the new content is fetched next") from None
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)
        pause = min(2 * pause, LONGEST_PAUSE)
    raise AssertionError("unreachable")


async def _verify(it: _Transfer, listing: Listing, journal: Journal, hashing: Hashing) -> None:
    damaged = ""
    for item in listing.items:
        if not item.digest:
            continue
        kind, _, expected = item.digest.partition(":")
        found = hashing.digest(item, kind)
        if found == expected:
            continue
        if item.digest_may_lie and _seen_before(it, item, found):
            continue  # the same bytes twice: what the store calls a digest is none
        journal.forget(item)
        damaged = damaged or (
            f"{it.shown}: {item.path} arrived damaged: its {kind} is {found} and the store says {expected};"
            " it is fetched again from its beginning"
        )
    if damaged:
        raise FetchError(damaged)
    if it.job.checksum:
        _verify_checksum(it, listing, hashing)


def _seen_before(it: _Transfer, item: Item, found: str) -> bool:
    """Whether an earlier attempt got the same bytes; notes them."""
    notes = Path(it.job.work, "doubts")
    line = f"{item_name(item)} {found}"
    known = notes.read_text().splitlines() if notes.exists() else []
    if line in known:
        return True
    notes.write_text("\n".join([*known, line]))
    return False


def _verify_checksum(it: _Transfer, listing: Listing, hashing: Hashing) -> None:
    expected = it.job.checksum.removeprefix("sha256:")
    files = {item.path: hashing.digest(item, "sha256") for item in listing.items}
    if listing.single:
        [found], what = files.values(), "the file"
    else:
        found, what = digests.of_list(files), f"the list of its {len(files)} files"
    if found != expected:
        raise FetchError(
            f"{it.shown}: the SHA-256 of {what} is {found} and source.checksum says {it.job.checksum}: the content is"
            " not the one that was meant, or the checksum is that of another one"
        )


def _place(it: _Transfer, listing: Listing, journal: Journal) -> None:
    """Moves the verified files to where their names say, or unpacks the one archive. Blocking."""
    tree = Path(it.job.work, "tree")
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    if listing.single:
        [item] = listing.items
        source, name = journal.parts / item_name(item), item.path
        if archive.is_archive(name):
            it.state.say("unpacking")
            limits = Limits(max_bytes=it.job.max_bytes, max_files=it.job.max_files)
            archive.unpack(source, tree, name=name, limits=limits, progress=Progress())
        else:
            (tree / "1").mkdir()
            source.rename(tree / "1" / name)
    else:
        for item in listing.items:
            target = tree / item.path
            target.parent.mkdir(parents=True, exist_ok=True)
            (journal.parts / item_name(item)).rename(target)
    shutil.rmtree(journal.parts)
    journal.path.unlink()
    Path(it.job.work, "doubts").unlink(missing_ok=True)
