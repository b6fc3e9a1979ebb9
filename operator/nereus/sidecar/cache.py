"""Fetched models on a volume that many pods share: who fetches, what is complete, what may go. Knows no source.

    ROOT/entries/<source>@<content>/   a complete source: entry.json (each file's size and SHA-256) and tree/
    ROOT/partial/<source>.<holder>/    one that is being fetched, by the holder of the turn, who alone writes there
    ROOT/locks/<source>.<number>       the turns; the largest number counts, its holder rewrites it while it lives
    ROOT/uses/<entry>.<pod>            renewed by each pod that serves from an entry
    ROOT/trash/                        what was moved out of the way, to be removed

Made for network file systems, so nothing rests on fcntl locks or on clocks of nodes that agree. Atomic are only a
rename, and creating a file that must not exist. A turn saves work and protects nothing: whoever holds one writes to a
directory of his own and renames it when it is whole, and what is found is compared with its SHA-256 before it is
served. So two holders, one of which was thought dead, cost a download and never a mixture. A holder is dead when its
lock did not change for STALE_SECONDS of the observer's own monotonic clock; ages of marks are measured with the times
that the file system itself gives. Client caches of NFS (up to 60 s for directories) are answered by opening files anew
and, before marks are counted, by making a file beside them, which brings their directory up to date. Blocking.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nereus.sidecar.transfer import digests

FORMAT = "nereus-models-1"
STALE_SECONDS = 60.0
"""A dead holder's turn is over after that; it must be longer than a node may stand still, and than NFS caches."""
BEAT_SECONDS = 5.0
USE_SECONDS = 900.0
"""A pod that did not renew its marks for that long is gone."""
RESERVE_BYTES = 16 << 20
PINNED = "pinned"
"""The content of a source that a checksum or revision pins."""


class NoRoomError(Exception):
    """The cache cannot hold it: too large, or everything else in it is in use."""


class DamagedError(Exception):
    """What lies in the cache is not what was put there."""


@dataclass(frozen=True)
class About:
    """What entry.json says: all bytes, and of each file its size and SHA-256."""

    size: int
    files: dict[str, tuple[int, str]]


@dataclass
class Turn:
    """The right to fetch one source, until somebody else thinks that its holder is dead."""

    source: str
    number: int
    holder: str
    work: Path
    beats: int = 0


@dataclass
class Cache:
    """One shared directory, as one pod (`owner`) sees it. `limit_bytes` bounds entries and what is being fetched."""

    volume: Path
    limit_bytes: int
    owner: str
    stale_seconds: float = STALE_SECONDS
    use_seconds: float = USE_SECONDS
    _seen: dict[str, tuple[int, str, float]] = field(default_factory=dict)
    _mine: set[str] = field(default_factory=set)

    @property
    def root(self) -> Path:
        return self.volume / FORMAT

    def prepare(self) -> None:
        """Makes the directories, and removes what others moved out of the way. Raises OSError."""
        for name in ("entries", "partial", "locks", "uses", "trash"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self._empty_trash()

    # --- entries

    def path(self, entry: str) -> Path:
        return self.root / "entries" / entry

    def contents(self, source: str) -> tuple[str, ...]:
        """The contents of a source that are there, complete."""
        start = f"{source}@"
        found = (path.name for path in _children(self.root / "entries") if path.name.startswith(start))
        return tuple(sorted(name.removeprefix(start) for name in found if self._about(name) is not None))

    def open(self, entry: str) -> Path:
        """The tree of a complete entry, marked as used by this pod. Raises DamagedError, or FileNotFoundError."""
        self.renew([entry])
        about = self._about(entry)
        if about is None:
            raise FileNotFoundError(entry)
        tree = self.path(entry) / "tree"
        if manifest(tree) != about.files:
            raise DamagedError(f"{entry} is not what was put into the cache")
        return tree

    def renew(self, entries: Collection[str]) -> tuple[str, ...]:
        """Says that this pod uses these entries and no others; those that are gone."""
        wanted = {f"{entry}.{self.owner}": entry for entry in entries}
        gone = []
        for name, entry in wanted.items():
            _touch(self.root / "uses" / name)
            try:
                os.utime(self.path(entry) / "entry.json")
            except FileNotFoundError:
                gone.append(entry)
        return tuple(gone)

    def release(self, entries: Collection[str] | None = None) -> None:
        """Takes back the marks of this pod: of these entries, or all."""
        end = f".{self.owner}"
        for path in _children(self.root / "uses"):
            entry = path.name.removesuffix(end)
            if path.name.endswith(end) and (entries is None or entry in entries):
                path.unlink(missing_ok=True)

    def discard(self, entry: str) -> None:
        """Takes an entry out of the cache, whoever uses it: it is damaged."""
        self._discard(self.path(entry))

    # --- turns

    def take(self, source: str) -> Turn | None:
        """The turn to fetch a source; None while another lives who has it."""
        number, said = self._newest(source)
        if number and not self._is_dead(source, number, said):
            return None
        holder = uuid.uuid4().hex
        turn = Turn(source, number + 1, holder, self.root / "partial" / f"{source}.{holder}")
        try:
            handle = os.open(self._lock(turn), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o664)
        except FileExistsError:
            return None
        with os.fdopen(handle, "w") as file:
            file.write(self._words(turn))
        self._mine.add(holder)
        self._seen.pop(source, None)
        self._adopt(turn)
        return turn

    def beat(self, turn: Turn) -> bool:
        """Says that the holder lives; False when another has the turn."""
        lock = self._lock(turn)
        number, said = self._newest(turn.source)
        if number != turn.number or turn.holder not in said:
            return False
        turn.beats += 1
        with contextlib.suppress(FileNotFoundError), lock.open("r+") as file:
            file.write(self._words(turn))
        _touch(turn.work / "reserved", create=False)
        return True

    def give_back(self, turn: Turn) -> None:
        """Ends a turn. What was fetched stays for the next holder, who goes on with it."""
        self._mine.discard(turn.holder)
        number, said = self._newest(turn.source)
        if number == turn.number and turn.holder in said:
            for found, path in self._locks(turn.source):
                if found <= turn.number:
                    path.unlink(missing_ok=True)

    def publish(self, turn: Turn, content: str, uri: str) -> str:
        """Makes the fetched tree an entry; its name. Raises NoRoomError, or OSError when the turn was lost."""
        entry = f"{turn.source}@{content}"
        files = manifest(turn.work / "tree")
        size = sum(size for size, _ in files.values())
        self.reserve(turn, size)
        for path in _children(turn.work):
            if path.name not in ("tree", "reserved"):
                _remove(path)
        about = {"uri": uri, "bytes": size, "files": files}
        (turn.work / "entry.json").write_text(json.dumps(about))
        _touch(self.root / "uses" / f"{entry}.{self.owner}")
        try:
            turn.work.rename(self.path(entry))
        except OSError:
            if self._about(entry) is None:
                raise
            _remove(turn.work)  # somebody else was there first, with the same
        (self.path(entry) / "reserved").unlink(missing_ok=True)
        return entry

    # --- room

    def reserve(self, turn: Turn, size: int) -> None:
        """Makes room for `size` bytes of the holder of a turn, by removing what was used least recently and is not
        in use. Raises NoRoomError and gives up the reservation when that is not enough."""
        note = turn.work / "reserved"
        note.write_text(str(size))
        if size > self.limit_bytes:
            note.write_text("0")
            raise NoRoomError(f"needs {size} bytes and the cache may have {self.limit_bytes}")
        for _ in range(len([*_children(self.root / "entries"), *_children(self.root / "partial")]) + 1):
            used, free = self._used(), shutil.disk_usage(self.root).free - RESERVE_BYTES
            if used <= self.limit_bytes and free >= size - _size(turn.work):
                return
            if not self._remove_one():
                break
        note.write_text("0")
        raise NoRoomError(f"needs {size} bytes, the cache may have {self.limit_bytes}, and what is in it is in use")

    def is_full(self) -> bool:
        """Whether the volume has no room at all."""
        return shutil.disk_usage(self.root).free < RESERVE_BYTES

    def _used(self) -> int:
        abouts = (self._about(path.name) for path in _children(self.root / "entries"))
        return sum(about.size for about in abouts if about) + sum(
            _number(path / "reserved") for path in _children(self.root / "partial")
        )

    def _remove_one(self) -> bool:
        """Removes the entry (or what a dead holder left) that was used least recently; False when there is none."""
        now = self._now()
        for path in _children(self.root / "partial"):
            if now - _mtime(path / "reserved", path) > self.use_seconds:
                self._discard(path)
                return True
        entries = sorted(_children(self.root / "entries"), key=lambda path: _mtime(path / "entry.json", path))
        for path in entries:
            if self._in_use(path.name, now):
                continue
            with contextlib.suppress(OSError):
                gone = self._trash(path)
                if self._in_use(path.name, self._now()):
                    gone.rename(path)  # somebody began to use it in this moment
                    continue
                self._empty_trash()
                return True
        return False

    def _in_use(self, entry: str, now: float) -> bool:
        for path in _children(self.root / "uses"):
            if path.name.startswith(f"{entry}."):
                if now - _mtime(path) <= self.use_seconds:
                    return True
                path.unlink(missing_ok=True)
        return False

    def _now(self) -> float:
        """The present by the clock of the file system."""
        probe = self.root / "uses" / f".{uuid.uuid4().hex}"
        _touch(probe)
        now = _mtime(probe)
        probe.unlink(missing_ok=True)
        return now

    # --- inner

    def _about(self, entry: str) -> About | None:
        try:
            about = json.loads((self.path(entry) / "entry.json").read_text())
            files = {str(name): (int(size), str(digest)) for name, (size, digest) in about["files"].items()}
            return About(int(about["bytes"]), files)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _lock(self, turn: Turn) -> Path:
        return self.root / "locks" / f"{turn.source}.{turn.number}"

    def _locks(self, source: str) -> Iterator[tuple[int, Path]]:
        for path in _children(self.root / "locks"):
            name, _, number = path.name.rpartition(".")
            if name == source and number.isdecimal():
                yield int(number), path

    def _newest(self, source: str) -> tuple[int, str]:
        number, path = max(self._locks(source), default=(0, None))
        if path is None:
            return 0, ""
        try:
            return number, path.read_text()
        except OSError:
            return number, ""

    def _words(self, turn: Turn) -> str:
        return f"{turn.beats:012} {turn.holder} {self.owner}\n"

    def _is_dead(self, source: str, number: int, said: str) -> bool:
        _, holder, owner = [*said.split(), "", "", ""][:3]
        if owner == self.owner and holder not in self._mine:
            return True  # of a former life of this container
        seen = self._seen.get(source)
        if seen is None or seen[:2] != (number, said):
            self._seen[source] = (number, said, time.monotonic())
            return False
        return time.monotonic() - seen[2] > self.stale_seconds

    def _adopt(self, turn: Turn) -> None:
        """Goes on with what a former holder left; the first of several, the others are of no use."""
        for path in _children(self.root / "partial"):
            if path.name.rpartition(".")[0] != turn.source:
                continue
            with contextlib.suppress(OSError):
                if turn.work.exists():
                    self._trash(path)
                else:
                    path.rename(turn.work)
        turn.work.mkdir(exist_ok=True)
        self._empty_trash()

    def _discard(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            self._trash(path)
        self._empty_trash()

    def _trash(self, path: Path) -> Path:
        gone = self.root / "trash" / uuid.uuid4().hex
        path.rename(gone)
        return gone

    def _empty_trash(self) -> None:
        for path in _children(self.root / "trash"):
            _remove(path)


def manifest(tree: Path) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of every file below a directory by its path; of a link where it leads. Raises OSError."""
    found = {}
    for folder, folders, files in os.walk(tree):
        folders.sort()
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in sorted([*files, *links]):
            path = Path(folder, name)
            shown = str(path.relative_to(tree))
            if path.is_symlink():
                found[shown] = (0, f"link:{path.readlink()}")
            else:
                found[shown] = (path.stat().st_size, digests.of_file(path))
    return found


def _children(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        return []


def _touch(path: Path, *, create: bool = True) -> None:
    """Gives a file the present time of the file system."""
    with contextlib.suppress(FileNotFoundError):
        if create:
            path.touch()
        os.utime(path)


def _mtime(*paths: Path) -> float:
    """The first time that can be read; the distant past when none can."""
    for path in paths:
        with contextlib.suppress(OSError):
            return path.stat().st_mtime
    return 0.0


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _size(folder: Path) -> int:
    """Bytes on the disk below a directory: a file that is being filled is long from the start."""
    total = 0
    for inner, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(Path(inner, name)).st_blocks * 512
    return total


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
