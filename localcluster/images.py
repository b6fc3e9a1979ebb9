"""Builds the container images of the project into the cache, also where no Docker engine exists.

Every image is named by what it is made of: the key is a hash of its Dockerfile, of the files that the Dockerfile
copies, and of the base below it. What has that key in the cache is not built again, and a changed image is a
changed reference, so that a cluster never runs an old one by accident. Where a Docker engine answers it builds;
elsewhere buildah does, on a Debian root file system that debootstrap makes from this machine's own package mirror.

Deliberately not here: how an engine builds (builders.py), pushing to a registry, loading into a cluster.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from localcluster.builders import PROGRESS_SECONDS, Buildah, Docker, ImageError, new_log, say
from localcluster.config import cache_dir

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("operator", "sidecar", "triton-cpu", "agent")
STABLE_TAGS: Mapping[str, str] = {"triton-cpu": "24.10"}  # examples name it; the others are named by content
KEPT_ARCHIVES = 3
NEEDED_BYTES = 3 * 1024**3  # base, layers and archives of all three took 1.6 GB


@dataclass(frozen=True, kw_only=True)
class Image:
    """A built image: `reference` is what a pod names, `archive` an OCI (or docker-save) archive of it."""

    name: str
    reference: str
    archive: Path


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What one image is made of. `files` are the build context's regular files, relative to the repository."""

    name: str
    files: tuple[Path, ...]
    key: str

    @property
    def dockerfile(self) -> Path:
        return dockerfile_of(self.name)

    def reference(self, *, suffix: str = "") -> str:
        return f"localhost/nereus-{self.name}:{STABLE_TAGS.get(self.name, self.key)}{suffix}"

    def archive(self, directory: Path, *, suffix: str = "") -> Path:
        return directory / f"{self.name}-{self.key}{suffix}.oci.tar"


def dockerfile_of(name: str) -> Path:
    return Path("images") / name / "Dockerfile"


def copied_sources(dockerfile: str) -> tuple[str, ...]:
    """The context paths named by the COPY instructions of a Dockerfile; copies between stages do not count."""
    sources: list[str] = []
    for line in re.sub(r"\\\n", " ", dockerfile).splitlines():
        words = shlex.split(line, comments=True) if line.startswith("COPY ") else []
        if any(word.startswith("--from=") for word in words):
            continue
        sources += [word for word in words[1:-1] if not word.startswith("--")]
    return tuple(sources)


def context_files(root: Path, *, name: str) -> tuple[Path, ...]:
    """The files that a build of this image can see, sorted, relative to `root`."""
    files = {dockerfile_of(name)}
    for source in copied_sources((root / dockerfile_of(name)).read_text()):
        path = root / source
        if not path.exists():
            raise ImageError(f"{dockerfile_of(name)}: COPY {source}: no such file in {root}")
        found = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
        files |= {p.relative_to(root) for p in found if "__pycache__" not in p.parts and p.suffix != ".pyc"}
    return tuple(sorted(files))


def recipe(root: Path, *, name: str, base_key: str) -> Recipe:
    """The recipe of an image; its key changes exactly when a byte that goes into the image does."""
    files = context_files(root, name=name)
    digest = hashlib.sha256(base_key.encode())
    for path in files:
        executable = os.access(root / path, os.X_OK)
        digest.update(f"\0{path}\0{executable}\0".encode() + hashlib.sha256((root / path).read_bytes()).digest())
    return Recipe(name=name, files=files, key=digest.hexdigest()[:12])


def package_version(root: Path) -> str:
    found = re.search(r'__version__ = "([^"]+)"', (root / "operator/nereus/__init__.py").read_text())
    return found[1] if found else "dev"


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """One build at a time per cache; what a killed build left half-written goes first."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        waited = 0
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if waited % PROGRESS_SECONDS == 0:
                    say(f"another build holds {directory}; waited {waited} s")
                time.sleep(1)
                waited += 1
        for leftover in directory.glob(".tmp-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


def stage(root: Path, files: Iterable[Path], *, context: Path) -> None:
    """Copies exactly these files, so that no build can depend on one that is not in its key. Times are fixed:
    layers are cached by them too."""
    for file in files:
        target = context / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / file, target)
        target.chmod(0o755 if os.access(root / file, os.X_OK) else 0o644)
        os.utime(target, (0, 0))


def build_all(*, only: Sequence[str] = (), tag_suffix: str = "", root: Path = ROOT) -> list[Image]:
    """Builds what the cache lacks and returns every image asked for. Raises ImageError."""
    directory = cache_dir() / "images"
    with locked(directory):
        if shutil.disk_usage(directory).free < NEEDED_BYTES:
            needed = f"less than {NEEDED_BYTES // 1024**3} GiB free"
            raise ImageError(f"{directory} has {needed}: make room or set NEREUS_CACHE")
        engine = Docker() if Docker.answers() else Buildah(directory)
        images = [build_one(engine, root, name=name, suffix=tag_suffix, directory=directory) for name in only or NAMES]
        record(directory, images)
        prune(directory, keep=[image.archive for image in images])
    return images


def build_one(engine: Docker | Buildah, root: Path, *, name: str, suffix: str, directory: Path) -> Image:
    made = recipe(root, name=name, base_key=engine.base_key)
    archive, reference = made.archive(directory, suffix=suffix), made.reference(suffix=suffix)
    if archive.exists():
        os.utime(archive)
        return Image(name=name, reference=reference, archive=archive)
    start = time.monotonic()
    say(f"{name}: building {reference}")
    with tempfile.TemporaryDirectory(dir=directory, prefix=".tmp-build-") as scratch:
        context, target = Path(scratch) / "context", Path(scratch) / "image.tar"
        stage(root, made.files, context=context)
        log = new_log(directory, name)
        engine.build(
            name,
            context=context,
            dockerfile=made.dockerfile,
            reference=reference,
            version=package_version(root),
            target=target,
            log=log,
        )
        target.rename(archive)
    say(f"{name}: done in {time.monotonic() - start:.0f} s, {archive.stat().st_size / 1e6:.0f} MB")
    return Image(name=name, reference=reference, archive=archive)


def record(directory: Path, images: Iterable[Image]) -> None:
    """Writes images.json, the newest build of each name, for whoever installs the chart or loads a node."""
    path = directory / "images.json"
    newest = json.loads(path.read_text()) if path.exists() else {}
    newest |= {image.name: {"reference": image.reference, "archive": str(image.archive)} for image in images}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(newest, indent=2, sort_keys=True) + "\n")
    partial.rename(path)


def prune(directory: Path, *, keep: Iterable[Path]) -> None:
    """Removes all but the newest few archives of each name."""
    kept = set(keep)
    for name in NAMES:
        archives = sorted(directory.glob(f"{name}-*.oci.tar"), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in set(archives[KEPT_ARCHIVES:]) - kept:
            old.unlink()


def main(argv: Sequence[str]) -> int:
    purpose = "Build the container images into the cache."
    parser = argparse.ArgumentParser(prog="localcluster images", description=purpose)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=[], metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--tag-suffix", default="", help="appended to every tag")
    options = parser.parse_args(argv)
    try:
        images = build_all(only=options.only, tag_suffix=options.tag_suffix)
    except ImageError as error:
        say(f"error: {error}")
        return 1
    for image in images:
        print(image.name, image.reference, image.archive)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
