"""Checksums of what was fetched: of one file, as its store names it, and of a whole directory, as its user can."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

_READ_BYTES = 1 << 20


def of_file(path: Path) -> str:
    """SHA-256 of a file, in hex. Blocking."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            state.update(chunk)
    return state.hexdigest()


def of_list(files: Mapping[str, str]) -> str:
    """SHA-256 of the list of files (path to SHA-256): what this prints in the directory that was uploaded.

    find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum
    """
    whole = hashlib.sha256()
    for name in sorted(files, key=str.encode):
        whole.update(f"{files[name]}  {name}\n".encode())
    return whole.hexdigest()
