"""Finding the models in a whole repository: which of its directories are models, and under which names.

A Triton repository has one directory per model, with numbered versions, a config.pbtxt, or both. Anything else beside
them is left alone, as Triton does. Looks, and changes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nereus.sidecar.fetch.base import FetchError
from nereus.sidecar.layout import MAX_NESTING, is_model, visible

_NAME = re.compile(r"[a-zA-Z0-9]([-._a-zA-Z0-9]{0,126}[a-zA-Z0-9])?")
_SHOWN = 5


@dataclass(frozen=True)
class Members:
    """The models below a directory. `fingerprint` changes when a model is added or removed, not when one changes: each
    model watches its own files."""

    root: Path
    shown: str
    descend: bool

    def fingerprint(self) -> str:
        return "\0".join(sorted(self.find()))

    def find(self) -> dict[str, Path]:
        """The directory of each model; blocking. With `descend`, a single directory that wraps the repository (as
        archives often have) is looked into. Raises FetchError when this is no repository."""
        folder = self.root
        for _ in range(MAX_NESTING):
            models = self._models(folder)
            children = visible(folder)
            if models or not self.descend or len(children) != 1 or not children[0].is_dir():
                break
            folder = children[0]
        if not models:
            found = ", ".join(path.name for path in children[:_SHOWN]) or "nothing"
            raise FetchError(
                f"{self.shown} holds no models: a repository has one directory per model with config.pbtxt or numbered"
                f" versions in it; here is {found}"
            )
        return models

    def _models(self, folder: Path) -> dict[str, Path]:
        if is_model(folder):
            raise FetchError(
                f"{self.shown} is one model and no repository of models: declare it in spec.models, or name the"
                " directory above it"
            )
        models = {path.name: path for path in visible(folder) if path.is_dir() and is_model(path)}
        wrong = [name for name in models if not _NAME.fullmatch(name)]
        if wrong:
            raise FetchError(
                f"{self.shown}: {wrong[0]!r} can be no name of a model: letters, digits and - . _ are allowed;"
                " rename it"
            )
        return models
