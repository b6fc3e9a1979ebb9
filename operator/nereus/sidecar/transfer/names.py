"""Which names of a store can be files here. A store takes any key, a file system does not."""

from __future__ import annotations

from collections.abc import Sequence

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 2048


def problem_of(paths: Sequence[str]) -> str:
    """Why these paths cannot all be files below one directory, as a sentence; empty when they can."""
    files = set(paths)
    for path in paths:
        why = _problem(path)
        if why:
            return f"the key {path[:200]!r} {why}; not fetched"
        folder = path
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            if folder in files:
                return (
                    f"{folder!r} is a file and a directory ({path[:200]!r}), which no file system can hold; rename one"
                )
    return ""


def _problem(path: str) -> str:
    parts = path.split("/")
    if ".." in parts or "." in parts or path.startswith("/") or "\0" in path:
        return "would be written outside of the model's directory"
    if "" in parts:
        return "has an empty part, which no file system can hold; rename it"
    if len(path.encode(errors="replace")) > MAX_PATH_BYTES or any(
        len(part.encode(errors="replace")) > MAX_NAME_BYTES for part in parts
    ):
        return "is longer than a file system can hold; shorten it"
    return ""
