"""Finding the model in a tree of files: which directory is the model's, which are its versions.

Here because people lay out models in several ways, and each must end as what Triton expects: version directories with
numbers as names, beside an optional config.pbtxt. Looks, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nereus.sidecar.fetch.base import FetchError

CONFIG = "config.pbtxt"
_NOISE = frozenset({"__MACOSX", "__pycache__", "lost+found"})
MAX_NESTING = 3
"""How many directories that hold nothing but another one are looked through."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A model as Triton wants it. `entries` maps a name in the model's directory to where it really lies."""

    config: Path | None
    entries: Mapping[str, Path]
    versions: tuple[int, ...]


def read(root: Path, *, shown: str, descend: bool) -> Layout:
    """The layout of what lies in `root`; blocking.

    A directory with numbered subdirectories is a Triton model directory; anything else is the content of version 1.
    With `descend`, a single directory that wraps everything (as archives often have) is looked into. A tree with only a
    configuration has no versions: that is right for an ensemble, which the caller knows. Raises FetchError when there
    is nothing to serve.
    """
    folder = _unwrapped(root) if descend else root
    children = visible(folder)
    if not children:
        raise FetchError(f"{shown} holds no files")
    config = folder / CONFIG if (folder / CONFIG).is_file() else None
    rest = {path.name: path for path in children if path.name != CONFIG}
    versions = tuple(sorted(int(name) for name, path in rest.items() if is_version(path)))
    if versions:
        if not any(visible(folder / str(version)) for version in versions):
            raise FetchError(f"{shown}: every version directory ({_list(versions)}) is empty")
        return Layout(config=config, entries=rest, versions=versions)
    if not rest:
        return Layout(config=config, entries={}, versions=())
    beside = rest if config else {}  # a flat directory with a configuration may name other files in it
    return Layout(config=config, entries={**beside, "1": folder}, versions=(1,))


def check_versions(layout: Layout, wanted: tuple[int, ...], *, shown: str) -> None:
    """Raises FetchError when a version that the plan asks for is not there."""
    missing = sorted(set(wanted) - set(layout.versions))
    if missing:
        raise FetchError(f"{shown} has no version {_list(missing)}; it has {_list(layout.versions) or 'none'}")


def _unwrapped(root: Path) -> Path:
    folder = root
    for _ in range(MAX_NESTING):
        children = visible(folder)
        if len(children) != 1 or not children[0].is_dir() or is_version(children[0]):
            break
        inner = children[0]
        # model.savedmodel and its like are one model file that happens to be a directory
        if "." in inner.name and not is_model(inner):
            break
        folder = inner
    return folder


def visible(folder: Path) -> list[Path]:
    """What lies in a directory, sorted, without hidden names and leftovers of other programs."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in _NOISE)


def is_model(folder: Path) -> bool:
    """Whether Triton takes this for the directory of a model."""
    return (folder / CONFIG).is_file() or any(map(is_version, visible(folder)))


def is_version(path: Path) -> bool:
    """Whether Triton takes this for the directory of a version."""
    return path.name.isascii() and path.name.isdigit() and not path.name.startswith("0") and path.is_dir()


def _list(versions: tuple[int, ...] | list[int]) -> str:
    return ", ".join(str(version) for version in versions)
