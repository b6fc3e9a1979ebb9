"""The previous release, out of the history of this repository: its chart, and its images built and put into the node.

Previous is the newest commit whose operator differs from the one at hand, so that an upgrade from it is the upgrade
that the change at hand will be. Its images get names of their own even where nothing in them changed: an upgrade
always names other images.
"""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from demo import install
from demo.kube import CommandError, Kube
from localcluster.images import Image, build_all
from tests.tiers import ROOT

CODE = ("operator/nereus", "charts/nereus")
TREES = (*CODE, "images", "requirements", "crds", "localcluster")


class NoHistoryError(Exception):
    """There is no earlier release to upgrade from; the message is one line that says why."""


@dataclass(frozen=True)
class Previous:
    """A release: which commit, where its chart lies, and what the chart must be told."""

    commit: str
    chart: Path
    helm_values: tuple[str, ...]


def commit(installs: Callable[[str], bool]) -> str:
    """The newest commit whose operator or chart is not the one of the working tree, and whose definition (its text)
    installs: a commit that cannot be installed was never a release. Raises NoHistoryError."""
    changed = _git("status", "--porcelain", "--", *CODE).strip()
    now = "" if changed else _trees("HEAD")
    for candidate in _git("rev-list", "HEAD", "--max-count=30", "--", *CODE).split():
        if _trees(candidate) != now and installs(_git("show", f"{candidate}:crds/modelservices.yaml")):
            return candidate
    raise NoHistoryError(
        "no earlier commit of the operator to upgrade from: this clone has none (git fetch --unshallow brings them)"
    )


def _trees(revision: str) -> str:
    return _git("rev-parse", *(f"{revision}:{path}" for path in CODE))


def prepare(kube: Kube, triton_image: str, directory: Path) -> Previous:
    """Unpacks the release into a directory, builds what the cache lacks, and loads it into the local cluster."""

    def installs(definition: str) -> bool:
        try:
            kube.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", stdin=definition)
        except CommandError as error:
            print(f"an earlier commit cannot be installed: {error}")
            return False
        return True

    revision = commit(installs)
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", "--format=tar", revision, "--", *TREES], capture_output=True, check=True
    )
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
        archive.extractall(directory, filter="data")
    built: dict[str, Image] = {
        image.name: image for image in build_all(only=("operator", "sidecar"), tag_suffix="-previous", root=directory)
    }
    install.load_into_local_cluster(built, print)
    values: list[str] = ["--set", f"triton.image={triton_image}"]
    for key, name in (("image", "operator"), ("sidecar", "sidecar")):
        repository, _, tag = built[name].reference.rpartition(":")
        values += ["--set", f"{key}.repository={repository}", "--set-string", f"{key}.tag={tag}"]
    return Previous(revision, directory / "charts" / "nereus", tuple(values))


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoHistoryError(f"no history to take the previous release from: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout
