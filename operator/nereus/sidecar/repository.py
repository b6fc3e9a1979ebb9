"""The model repository on disk, shared with Triton, and the fetched sources behind it.

    /models/<model>/config.pbtxt       replaced atomically and only when it changed: Triton goes by its time
    /models/<model>/<version>          a link to where the files really lie
    /models/.nereus/sources/<id>/      one fetched source: source.json (written last: it is complete) and tree/
    /models/.nereus/partial/<id>/      one that is still being fetched, in a form from which the next attempt goes on
    /models/.nereus/state/<model>.json what was put here and what Triton has loaded, for the next life of this container
    /models/.nereus/{staging,trash}/   on the same file system, so that a rename is all that makes something visible

Triton in explicit mode looks only at names it is told to load, so the dot directory is invisible to it. Blocking code;
everything here is small but the removal of old trees.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from nereus.sidecar.layout import CONFIG
from nereus.sidecar.state import Publication

_INNER = ".nereus"


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """What is known of a model from before this container started."""

    on_disk: str = ""
    loaded: str = ""
    served: bool = False


class Repository:
    """The directory that Triton serves from."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._inner = root / _INNER
        self.sources = self._inner / "sources"
        self.staging = self._inner / "staging"
        self.partial = self._inner / "partial"
        self.empty = self._inner / "empty"
        self._state = self._inner / "state"
        self._trash = self._inner / "trash"

    def prepare(self) -> None:
        """Makes the inner directories and removes what a killed container left half done. Raises OSError."""
        for folder in (self.staging, self._trash):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (self.sources, self.staging, self.partial, self._state, self._trash, self.empty):
            folder.mkdir(parents=True, exist_ok=True)

    def models(self) -> frozenset[str]:
        """The models that were ever put here and not removed."""
        return frozenset(path.stem for path in self._state.glob("*.json"))

    def publish(self, name: str, publication: Publication) -> None:
        """Makes the model's directory equal to the publication; the configuration is written last. Raises OSError."""
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            if path.name != CONFIG and path.name not in publication.entries:
                self.discard(path)
        for entry, target in publication.entries.items():
            self._link(folder / entry, target)
        temporary = self._temporary()
        temporary.write_text(publication.config_text)
        temporary.replace(folder / CONFIG)

    def remove(self, name: str) -> None:
        """Takes a model out of the repository."""
        self.discard(self.root / name)
        (self._state / f"{name}.json").unlink(missing_ok=True)

    def remember(self, name: str, remembered: Remembered) -> None:
        """Keeps what is known of a model for the next life of this container."""
        temporary = self._temporary()
        temporary.write_text(json.dumps(asdict(remembered)))
        temporary.replace(self._state / f"{name}.json")

    def recall(self, name: str) -> Remembered:
        """What the last life of this container knew of a model; nothing when it cannot be read."""
        try:
            known = json.loads((self._state / f"{name}.json").read_text())
            remembered = Remembered(
                on_disk=str(known["on_disk"]), loaded=str(known["loaded"]), served=bool(known["served"])
            )
        except (OSError, ValueError, KeyError, TypeError):
            return Remembered()
        return remembered if (self.root / name / CONFIG).is_file() else Remembered(served=remembered.served)

    def drop_sources(self, in_use: Collection[str]) -> list[str]:
        """Removes the sources, fetched and half fetched, that nothing refers to any more; their names."""
        folders = (self.sources, self.partial)
        dropped = [path for folder in folders for path in folder.iterdir() if path.name not in in_use]
        for path in dropped:
            self.discard(path)
        return [path.name for path in dropped]

    def refer(self, tree: Path, to: Path) -> None:
        """Makes a directory of this repository a link to one that many pods share."""
        self.discard(tree)
        tree.symlink_to(to)

    def discard(self, path: Path) -> None:
        """Removes a file or a tree at once from where it is, also when Triton, as another user, wrote into it."""
        if not path.is_dir() or path.is_symlink():
            path.unlink(missing_ok=True)
            return
        gone = self._trash / uuid.uuid4().hex
        path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _link(self, link: Path, target: Path) -> None:
        inside = target.is_relative_to(self.root)
        to = os.path.relpath(target, link.parent) if inside else str(target)
        if link.is_symlink() and str(link.readlink()) == to:
            return
        if link.is_dir() and not link.is_symlink():
            self.discard(link)
        temporary = self._temporary()
        temporary.symlink_to(to)
        temporary.replace(link)

    def _temporary(self) -> Path:
        return self.staging / uuid.uuid4().hex
