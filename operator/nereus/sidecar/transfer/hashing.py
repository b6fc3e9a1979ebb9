"""Digests of files, computed while the rest of them arrives.

Here because a file arrives in parallel ranges and a digest wants its bytes in order: each file is followed from its
beginning, as far as it is there without a gap, in a thread beside the download. What is read was just written, so it
comes from memory; when the last range arrives, a few are left to do instead of all.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nereus.sidecar.transfer.base import Item
from nereus.sidecar.transfer.journal import item_name, part_count, part_range

_READ_BYTES = 1 << 20


def begin(kind: str, size: int) -> Any:
    """A digest to be updated: md5, sha256 or git (SHA-1 over a header and the content, see digests)."""
    if kind == "git":
        return hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    return hashlib.new(kind, usedforsecurity=False)


def kinds_of(item: Item, *, checksum: bool) -> tuple[str, ...]:
    """What is asked of a file: what its store says of it, and SHA-256 where the user named a checksum."""
    named = (item.digest.partition(":")[0],) if item.digest else ()
    return tuple(dict.fromkeys((*named, *(("sha256",) if checksum else ()))))


@dataclass
class Hashing:
    """The digests of the files in `folder`; `run` beside the download, `note` each range that is there."""

    folder: Path
    _there: dict[str, set[int]] = field(default_factory=dict)
    _bell: asyncio.Event = field(default_factory=asyncio.Event)
    _found: dict[tuple[str, str], str] = field(default_factory=dict)

    def note(self, item: Item, numbers: Iterable[int]) -> None:
        """These ranges of a file are on the disk."""
        self._there.setdefault(item_name(item), set()).update(numbers)
        self._bell.set()

    def digest(self, item: Item, kind: str) -> str:
        """What was found, in hex; after `run` has ended."""
        return self._found[item_name(item), kind]

    async def run(self, items: Sequence[Item], *, checksum: bool) -> None:
        """Follows every file to its end, in the order in which they are fetched. Raises OSError."""
        for item in items:
            kinds = kinds_of(item, checksum=checksum)
            if kinds:
                await self._follow(item, kinds)

    async def _follow(self, item: Item, kinds: Collection[str]) -> None:
        name = item_name(item)
        states = {kind: begin(kind, item.size) for kind in kinds}
        for number in range(part_count(item)):
            while number not in self._there.get(name, ()):
                self._bell.clear()
                await self._bell.wait()
            await asyncio.to_thread(_update, tuple(states.values()), self.folder / name, *part_range(item, number))
        self._found.update({(name, kind): state.hexdigest() for kind, state in states.items()})


def _update(states: Sequence[Any], path: Path, start: int, size: int) -> None:
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while size > 0 and (chunk := file.read(min(size, _READ_BYTES))):
            for state in states:
                state.update(chunk)
            size -= len(chunk)
