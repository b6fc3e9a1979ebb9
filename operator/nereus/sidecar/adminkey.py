"""The key that opens Triton's repository API: made in the pod, for this pod, and known to nobody else."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

MODE = 0o440
"""Triton may run as another user and reads it through the group of the volume (fsGroup)."""


def ensure(path: Path) -> str:
    """The key in the file, written now unless a former life of this container did: Triton still has that one.
    Raises OSError."""
    try:
        key = path.read_text().strip()
        if key:
            return key
    except FileNotFoundError:
        pass
    key = secrets.token_hex(24)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    with os.fdopen(descriptor, "w") as file:
        file.write(key)
    temporary.chmod(MODE)  # whatever the umask is
    temporary.replace(path)
    return key
