"""Checksums of what was fetched: of one file, as its store names it, and of a whole directory, as its user can."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

_READ_BYTES = 1 << 20


def of_file(path: Path, kind: str) -> str:
    """Hex digest of a file; `kind` is md5, sha256 or git (SHA-1 over a header and the content). Blocking.

    The header is git's: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects.
    """
    if kind == "git":
        state = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    else:
        state = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            state.update(chunk)
    return state.hexdigest()


def of_directory(files: Mapping[str, Path]) -> str:
    """SHA-256 of the list of files: what this prints in the directory that was uploaded (paths sorted by bytes).

    find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum
    """
    whole = hashlib.sha256()
    for name in sorted(files, key=str.encode):
        whole.update(f"{of_file(files[name], 'sha256')}  {name}\n".encode())
    return whole.hexdigest()
