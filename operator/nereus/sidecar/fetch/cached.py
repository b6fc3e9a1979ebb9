"""Sources that are fetched into the shared cache, once for all pods, and served from there.

Here because two things meet: a cache that knows no sources (nereus.sidecar.cache), and sources that know no cache.
Which content a source has is known before it is fetched: a checksum or revision pins it, or the store's list of files
names it. Anything that is wrong with the cache is told, and the source is fetched into the pod as if there were none.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nereus.api.protocol import ModelPlan
from nereus.sidecar import logs
from nereus.sidecar.cache import BEAT_SECONDS, PINNED, Cache, DamagedError, NoRoomError, Turn
from nereus.sidecar.fetch.base import FetchError, Progress, Source, describe_os_error

WAIT_SECONDS = 0.5
RENEW_SECONDS = 60.0
ATTEMPTS = 5
_LISTED = ("s3", "gs", "hf")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class FoundError(Exception):
    """What was about to be fetched is in the cache by now."""


def is_pinned(model: ModelPlan) -> bool:
    """Whether the plan itself says which content the source has."""
    scheme = model.source.partition("://")[0]
    if scheme == "hf":
        return bool(model.checksum or _COMMIT.fullmatch(model.revision))
    return bool(model.checksum or (scheme in _LISTED and model.revision))


def is_shared(model: ModelPlan) -> bool:
    """Whether a source can be in the cache: nothing says of an unpinned https address what is there now."""
    scheme = model.source.partition("://")[0]
    return scheme in _LISTED or (scheme == "https" and is_pinned(model))


class LostError(Exception):
    """Another pod has the turn: it took this one for dead."""


@dataclass
class SharedCache:
    """The cache as the keeper uses it."""

    cache: Cache
    beat_seconds: float = BEAT_SECONDS
    renew_seconds: float = RENEW_SECONDS
    _is_prepared: bool = False
    _renewed: set[str] = field(default_factory=set)

    async def fetch(self, model: ModelPlan, source: Source, identity: str, local: Path, progress: Progress) -> str:
        """Brings a source into the cache, or finds it there; the name of its entry, whose files were compared with
        their checksums and which is marked as used. Empty: the cache cannot be used for it. `local` is a directory of
        this pod for what must not be shared. Raises FetchError or OSError for what is wrong with the source."""
        try:
            if not self._is_prepared:
                await asyncio.to_thread(self.cache.prepare)
                self._is_prepared = True
            return await self._fetch(model, source, identity, local, progress)
        except NoRoomError as error:
            logs.warning("fetched without the cache", model=model.name, why=f"the cache has no room: it {error}")
        except OSError as error:
            logs.warning("fetched without the cache", model=model.name, why=describe_os_error(error, "the cache"))
        except FetchError:
            if not await asyncio.to_thread(self.cache.is_full):
                raise
            logs.warning("fetched without the cache", model=model.name, why="its volume is full")
        return ""

    async def _fetch(self, model: ModelPlan, source: Source, identity: str, local: Path, progress: Progress) -> str:
        for _ in range(ATTEMPTS):
            one = _One(self, identity, is_pinned(model), progress)
            try:
                entry = await one.bring(source, local)
            except LostError:
                logs.warning("another pod took over the fetch", model=model.name)
                continue
            progress.step = "verifying"
            try:
                await asyncio.to_thread(self.cache.open, entry)
            except (DamagedError, FileNotFoundError) as error:
                logs.warning("not taken from the cache", model=model.name, why=str(error))
                await asyncio.to_thread(self.cache.discard, entry)
                continue
            logs.info("served from the cache", model=model.name, entry=entry, fetched=one.fetched)
            return entry
        raise OSError(f"it lost {identity} {ATTEMPTS} times")

    def tree(self, entry: str) -> Path:
        return self.cache.path(entry) / "tree"

    def entry_of(self, tree: Path) -> str:
        """The entry that a link to a tree leads to; empty for anything else."""
        with contextlib.suppress(OSError, ValueError):
            return tree.readlink().relative_to(self.cache.root / "entries").parts[0]
        return ""

    async def run(self, sources: Path, gone: Callable[[str], None]) -> None:
        """Says again and again which entries the fetched sources in a directory lead to, until cancelled; `gone` is
        told the name of a source whose entry is no longer there."""
        while True:
            try:
                for name in await asyncio.to_thread(self._renew, sources):
                    gone(name)
            except OSError as error:
                logs.warning("the cache does not answer", why=describe_os_error(error, "the cache"))
            await asyncio.sleep(self.renew_seconds)

    def _renew(self, sources: Path) -> list[str]:
        names = {entry: path.name for path in sources.iterdir() if (entry := self.entry_of(path / "tree"))}
        missing = self.cache.renew(names)
        before, self._renewed = self._renewed, set(names)
        self.cache.release(before - self._renewed)
        return [names[entry] for entry in missing]

    async def close(self, *, for_good: bool) -> None:
        """Takes back the marks of a pod that ends; another life of this container goes on with them."""
        if for_good:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self.cache.release)


@dataclass
class _One:
    """One source on its way into the cache."""

    shared: SharedCache
    identity: str
    pinned: bool
    progress: Progress
    fetched: bool = False
    _turn: Turn | None = None
    _content: str = PINNED
    _beating: asyncio.Task[None] | None = field(default=None)

    async def bring(self, source: Source, local: Path) -> str:
        """Finds or fetches it; the name of the entry."""
        cache, progress = self.shared.cache, self.progress
        try:
            if self.pinned:
                work = await self.place(0, PINNED)
                progress.place = self.place
                tree = work / "tree"
            else:
                progress.known = await asyncio.to_thread(cache.contents, self.identity)
                progress.place = self.place
                tree = local
            await asyncio.to_thread(tree.mkdir, parents=True, exist_ok=True)
            await source.fetch(tree, progress)
            if progress.found:
                return f"{self.identity}@{progress.found}"
            assert self._turn is not None
            progress.step = "checking"
            entry = await asyncio.to_thread(cache.publish, self._turn, self._content, self.identity)
            self.fetched = True
            return entry
        except FoundError:
            return f"{self.identity}@{self._content}"
        except (FetchError, OSError):
            if self._turn is not None and not await asyncio.to_thread(cache.beat, self._turn):
                raise LostError from None
            raise
        finally:
            progress.place, progress.known = None, ()
            await self._end()

    async def place(self, size: int, content: str) -> Path:
        """Where to fetch `size` bytes to; waits for the turn. Raises FoundError or NoRoomError."""
        cache = self.shared.cache
        if not self.pinned:
            self._content = content
        while self._turn is None:
            if self._content in await asyncio.to_thread(cache.contents, self.identity):
                raise FoundError
            self._turn = await asyncio.to_thread(cache.take, self.identity)
            if self._turn is None:
                self.progress.step = "waiting for another pod that fetches it"
                await asyncio.sleep(WAIT_SECONDS)
                continue
            self._beating = asyncio.create_task(self._beat(self._turn))
            if self._content in await asyncio.to_thread(cache.contents, self.identity):
                raise FoundError
        if size:
            await asyncio.to_thread(cache.reserve, self._turn, size)
        return self._turn.work

    async def _beat(self, turn: Turn) -> None:
        while True:
            await asyncio.sleep(self.shared.beat_seconds)
            with contextlib.suppress(OSError):
                if not await asyncio.to_thread(self.shared.cache.beat, turn):
                    return  # another goes on with it; what is done here without a turn is harmless

    async def _end(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
        if self._turn is not None:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self.shared.cache.give_back, self._turn)
