"""What the engine asks of a store, and the errors by which a store answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from nereus.sidecar.fetch.base import FetchError

PARALLEL = 8
"""Ranges under way at a time. One connection of an object store gives some tens of MB/s, and eight fill most links."""
CHUNK_BYTES = 256 << 10


class TemporaryError(FetchError):
    """Worth another try soon: a broken connection, a server that is busy."""


class ChangedError(FetchError):
    """The object is no longer the one that was listed."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One file of a source. `path` is relative to the source, with "/"; `version` changes whenever the content does.

    `digest` is what the store says of the content: md5:HEX, sha256:HEX or git:HEX (SHA-1 as git takes it), or empty.
    With `digest_may_lie` it is only a hint: the ETag of S3 is an MD5 for most objects and something else for others.
    """

    path: str
    size: int
    version: str
    key: str
    digest: str = ""
    digest_may_lie: bool = False


@dataclass(frozen=True, kw_only=True)
class Listing:
    """All files of a source. `single`: the URI names one file, and `items` is that one. `version` is what the revision
    was resolved to, for the log."""

    items: tuple[Item, ...]
    single: bool = False
    version: str = ""


class Remote(Protocol):
    """One source in one store. Both questions may be asked again; they raise FetchError or one of its kinds above."""

    async def list(self) -> Listing: ...

    def read(self, item: Item, start: int, size: int) -> AsyncIterator[bytes]:
        """The bytes of a range, in pieces. Fewer than `size` bytes mean that the connection broke."""
        ...

    async def close(self) -> None: ...
