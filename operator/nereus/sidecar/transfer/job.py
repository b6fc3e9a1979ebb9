"""What goes into a transfer and what comes out, as JSON: one object on stdin, then one line per event on stdout."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Job:
    """One source to bring into `work`/tree. `credentials` is the directory of a mounted Secret, empty for none;
    `checksum` is empty or sha256:HEX. Sizes are bytes, times seconds. `asks`: what the source holds is told before
    anything is written, and the answer, one line, is the directory to work in. `known` are contents of which none is
    fetched again."""

    uri: str
    work: str
    revision: str = ""
    checksum: str = ""
    credentials: str = ""
    max_bytes: int
    max_files: int
    free_reserve_bytes: int
    connect_seconds: float
    silence_seconds: float
    retry_seconds: float = 0.5
    asks: bool = False
    known: tuple[str, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError, TypeError or KeyError for anything else."""
        data: dict[str, Any] = json.loads(text)
        given = {field.name: data[field.name] for field in fields(cls)}
        return cls(**{**given, "known": tuple(given["known"])})


@dataclass(frozen=True, kw_only=True)
class Event:
    """Where the transfer stands. The last one has `finished` true, or the sentence of an `error`.

    `kept` are bytes that an earlier attempt left and that were found whole; they count in `done`, too. `content` names
    what the source holds; `asks` asks where to fetch it to; `found`: it is one of the known ones, nothing was fetched.
    """

    step: str = ""
    done: int = 0
    total: int | None = None
    kept: int = 0
    version: str = ""
    finished: bool = False
    error: str = ""
    content: str = ""
    asks: bool = False
    found: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError or TypeError for a line that is no event."""
        return cls(**json.loads(text))
