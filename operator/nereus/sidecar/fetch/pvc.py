"""Models on a PersistentVolumeClaim: `pvc://CLAIM/PATH`, mounted in this pod and read in place.

Nothing is copied, because the claim may hold hundreds of gigabytes and Triton mounts the same path.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from nereus.api.protocol import ModelPlan
from nereus.sidecar.fetch.base import FetchContext, FetchError, Progress, describe_os_error


class ClaimSource:
    """A Triton model directory, a plain directory of weights, or one file, on a mounted claim."""

    changes = True
    resumes = False

    def __init__(self, model: ModelPlan, context: FetchContext) -> None:
        self._max_files = context.limits.max_files
        self._uri = model.source
        self._root = Path(model.directory)
        if not model.directory:
            raise FetchError(f"{self._uri}: the plan names no directory for it; the claim is not mounted in this pod")

    def fingerprint(self) -> str:
        """Of names, sizes and times of modification; the contents may be hundreds of gigabytes."""
        state = hashlib.sha256()
        try:
            for path, status in self._walk():
                state.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="replace"))
        except FileNotFoundError as error:
            gone = error.filename or self._root
            raise FetchError(
                f"{self._uri}: {gone} does not exist; check the path, also its upper and lower case"
            ) from None
        except OSError as error:
            raise FetchError(describe_os_error(error, self._uri)) from None
        return state.hexdigest()[:16]

    async def fetch(self, tree: Path, progress: Progress) -> Path:
        if not await asyncio.to_thread(self._root.is_file):
            return self._root
        size = self._root.stat().st_size
        if not size:
            raise FetchError(f"{self._uri} is an empty file")
        version = tree / "1"
        version.mkdir()
        (version / self._root.name).symlink_to(self._root)
        progress.advance(size)
        return tree

    def _walk(self) -> Iterator[tuple[str, os.stat_result]]:
        if not self._root.is_dir():
            yield str(self._root), self._root.stat()
            return
        pending, count = [str(self._root)], 0
        while pending:
            with os.scandir(pending.pop()) as found:
                entries = sorted(found, key=lambda entry: entry.name)
            for entry in entries:
                if entry.name.startswith(".") or entry.name in ("lost+found", "__pycache__"):
                    continue
                count += 1
                if count > self._max_files:
                    raise FetchError(
                        f"{self._uri} holds more than {self._max_files} files; name the model's own directory"
                    )
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)  # its own time changes when Triton leaves bytecode there
                else:
                    yield entry.path, entry.stat()
