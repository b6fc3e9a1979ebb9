"""Reading Kubernetes objects that may hold anything: every function answers with its type, whatever it is given.

Why here: what the API server hands out is right by schema, but a status decides what people see when things are
wrong; it must not fall over a field that is missing or new. Deliberately holds no knowledge of any kind of object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any


def mapping(value: object) -> Mapping[str, Any]:
    """The value when it is a mapping, otherwise an empty one."""
    return value if isinstance(value, Mapping) else {}


def items(value: object) -> Sequence[Mapping[str, Any]]:
    """The mappings in a list; an empty sequence for anything else."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else ()


def text(value: object) -> str:
    """The value when it is text, otherwise the empty text."""
    return value if isinstance(value, str) else ""


def number(value: object, default: int = 0) -> int:
    """The value when it is a whole number (true and false are not), otherwise `default`."""
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def instant(value: object) -> datetime | None:
    """An RFC 3339 time with its zone, or None."""
    try:
        parsed = datetime.fromisoformat(text(value))
        return parsed.astimezone(UTC) if parsed.tzinfo else None
    except (ValueError, OverflowError):
        return None


def unix(seconds: object) -> datetime | None:
    """A time given in Unix seconds, or None."""
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def stamp(moment: datetime) -> str:
    """RFC 3339 with whole seconds, as Kubernetes writes times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
