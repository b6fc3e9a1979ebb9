"""Images in the node's container runtime: import an archive, unless the node has exactly that image."""

from __future__ import annotations

import subprocess
from pathlib import Path

from localcluster.config import Cluster, Profile
from localcluster.oci import archive_images
from localcluster.packages import find_tool
from localcluster.report import Refusal
from localcluster.sandbox import enter, require_holder


def ctr(cluster: Cluster, *arguments: str) -> str:
    """Run containerd's own client in the kubelet's image namespace and return what it prints."""
    command = enter(require_holder(cluster), find_tool("ctr") or "ctr", "-n", "k8s.io", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines() or ["no reason given"]
        raise Refusal(f"ctr {' '.join(arguments[:2])} failed: {words[-1]}")
    return done.stdout


def node_images(cluster: Cluster) -> dict[str, str]:
    """The images that the node has, and their digests."""
    rows = [line.split() for line in ctr(cluster, "images", "ls").splitlines()[1:]]
    return {row[0]: row[2] for row in rows if len(row) > 2}


def load_image(cluster: Cluster, archive: Path) -> list[str]:
    """Import an OCI archive into the node; returns the names of its images. Skips what the node already has."""
    if cluster.options.profile is not Profile.NODE:
        raise Refusal(f"cluster {cluster.name} has no container runtime: start it with --profile node")
    if not archive.is_file():
        raise Refusal(f"no archive {archive}: `python3 -m localcluster images` builds the project's own")
    images = archive_images(archive)
    present = node_images(cluster)
    if any(present.get(name) != digest for name, digest in images.items()) or not images:
        # The private /run hides archives that lie there; nothing else of the machine's files is hidden.
        ctr(cluster, "images", "import", str(archive.resolve()))
    return sorted(images)
