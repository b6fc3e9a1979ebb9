"""What of a source is on disk already, so that an attempt goes on where the last one ended, however that ended.

    WORK/parts/<item>   a file under way, at full length from the start; <item> is a digest of path, size and version
    WORK/journal        one line per part that was written whole: item, number, CRC-32 of its bytes

A line is written after the bytes of its part. What is found is read again and compared before it is believed, because
a node that lost power may have kept the line and lost the bytes. An object that changed in the store has another
version, so another name here, and is fetched anew.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nereus.sidecar.transfer.base import Item

PART_BYTES = 8 << 20
_READ_BYTES = 1 << 20


def item_name(item: Item) -> str:
    """The name of an item's file while it is under way."""
    return hashlib.sha256(f"{item.path}\0{item.size}\0{item.version}".encode(errors="replace")).hexdigest()[:32]


def part_count(item: Item) -> int:
    return -(-item.size // PART_BYTES)


def part_range(item: Item, number: int) -> tuple[int, int]:
    """First byte and length of a part."""
    start = number * PART_BYTES
    return start, min(PART_BYTES, item.size - start)


@dataclass
class Journal:
    """Open for one attempt; `close` it."""

    work: Path
    kept: dict[str, set[int]] = field(default_factory=dict)
    _file: int = -1

    @property
    def parts(self) -> Path:
        return self.work / "parts"

    @property
    def path(self) -> Path:
        return self.work / "journal"

    def open(self, items: Sequence[Item]) -> int:
        """Finds what is there, removes what is of no use, and returns how many bytes need not be fetched. Blocking."""
        self.parts.mkdir(parents=True, exist_ok=True)
        wanted = {item_name(item): item for item in items}
        for path in self.parts.iterdir():
            if path.name not in wanted:
                path.unlink()
        kept_bytes = 0
        lines = []
        for name, number, check in sorted(set(self._lines())):
            item = wanted.get(name)
            if item is None or number >= part_count(item) or number in self.kept.get(name, ()):
                continue
            if _crc(self.parts / name, *part_range(item, number)) == check:
                self.kept.setdefault(name, set()).add(number)
                kept_bytes += part_range(item, number)[1]
                lines.append(f"{name} {number} {check}\n")
        temporary = self.path.with_suffix(".new")
        temporary.write_text("".join(lines))
        temporary.replace(self.path)
        for name, item in wanted.items():
            with (self.parts / name).open("ab") as file:
                file.truncate(item.size)
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        return kept_bytes

    def missing(self, items: Sequence[Item]) -> Iterator[tuple[Item, int]]:
        """The parts to fetch, file after file."""
        for item in items:
            kept = self.kept.get(item_name(item), set())
            yield from ((item, number) for number in range(part_count(item)) if number not in kept)

    def note(self, item: Item, number: int, check: int) -> None:
        """A part is on disk, all of it."""
        os.write(self._file, f"{item_name(item)} {number} {check}\n".encode())

    def forget(self, item: Item) -> None:
        """The file is not what it should be: the next attempt fetches it from its beginning."""
        (self.parts / item_name(item)).unlink(missing_ok=True)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _lines(self) -> Iterator[tuple[str, int, int]]:
        try:
            text = self.path.read_text(errors="replace")
        except OSError:
            return
        for line in text.splitlines():
            words = line.split(" ")
            if len(words) == 3 and words[1].isdecimal() and words[2].isdecimal():
                yield words[0], int(words[1]), int(words[2])


def _crc(path: Path, start: int, size: int) -> int:
    """CRC-32 of a range of a file; -1 when it is not all there."""
    check = 0
    try:
        with path.open("rb") as file:
            file.seek(start)
            while size:
                chunk = file.read(min(size, _READ_BYTES))
                if not chunk:
                    return -1
                check = zlib.crc32(chunk, check)
                size -= len(chunk)
    except OSError:
        return -1
    return check
