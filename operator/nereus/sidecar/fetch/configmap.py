"""Small models in a ConfigMap: `configmap://NAME` or `configmap://NAME/PREFIX`, mounted in this pod.

A ConfigMap has no directories, so the keys say where a file belongs: `config.pbtxt` is the configuration, `v2.model.py`
is `model.py` of version 2, any other key is a file of version 1. With a prefix only the keys `PREFIX.<rest>` count.
The files are copied, so that a later update of the volume cannot change a served model halfway.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from nereus.api.protocol import ModelPlan
from nereus.sidecar.fetch.base import FetchContext, FetchError, Progress

_VERSION_KEY = re.compile(r"v([1-9][0-9]{0,17})\.(.+)")


class ConfigMapSource:
    """The keys of one ConfigMap as a Triton model directory."""

    changes = True
    resumes = False

    def __init__(self, model: ModelPlan, context: FetchContext) -> None:
        self._context = context
        self._uri = model.source
        self._name, _, self._prefix = model.source.removeprefix("configmap://").partition("/")
        if not model.directory:
            raise FetchError(f"{model.source}: the plan names no directory for it; it is not mounted in this pod")
        self._root = Path(model.directory)
        if self._prefix and self._root.name == self._prefix and not self._root.is_dir():
            self._root = self._root.parent  # a prefix is part of the keys, never a directory

    def fingerprint(self) -> str:
        """Of the contents, not the times: the kubelet writes every file anew when any key changes."""
        state = hashlib.sha256()
        for key, path in sorted(self._files().items()):
            state.update(f"{key}\0{path.stat().st_size}\0".encode())
            state.update(path.read_bytes())
        return state.hexdigest()[:16]

    async def fetch(self, tree: Path, progress: Progress) -> Path:
        for key, path in self._files().items():
            target = _place(tree, key)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
            progress.advance(target.stat().st_size)
        return tree

    def _files(self) -> dict[str, Path]:
        try:
            keys = {path.name: path for path in self._root.iterdir() if not path.name.startswith("..")}
        except FileNotFoundError:
            keys = {}
        if not keys:
            raise FetchError(f"{self._uri}: ConfigMap {self._name} does not exist in this namespace, or has no keys")
        if not self._prefix:
            return keys
        start = f"{self._prefix}."
        chosen = {key.removeprefix(start): path for key, path in keys.items() if key.startswith(start) and key != start}
        if not chosen:
            have = ", ".join(sorted(keys)[:10])
            raise FetchError(f"{self._uri}: ConfigMap {self._name} has no key {start}*; its keys are {have}")
        return chosen


def _place(tree: Path, key: str) -> Path:
    if key == "config.pbtxt":
        return tree / key
    if match := _VERSION_KEY.fullmatch(key):
        return tree / match[1] / match[2]
    return tree / "1" / key
