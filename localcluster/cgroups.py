"""The cgroup of a cluster: below it lives every process that the cluster ever started, so all can be found and ended.

Works with cgroup v2 and with the v1 and hybrid layouts. It sets no limits; the kubelet does that for pods, below.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from localcluster.report import Refusal

MOUNT = Path("/sys/fs/cgroup")
# The v1 controllers that the kubelet wants to find its root cgroup in.
V1_CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "pids", "hugetlb", "systemd")
COMPONENTS = "components"


def is_unified(mount: Path = MOUNT) -> bool:
    """Whether this machine has cgroup v2 alone."""
    return (mount / "cgroup.controllers").exists()


def tracking_root(mount: Path = MOUNT) -> Path:
    """The hierarchy in which our processes are counted."""
    return mount if is_unified(mount) else mount / "pids"


def create(name: str, *, mount: Path = MOUNT) -> Path:
    """Make the cgroup in every hierarchy that the kubelet looks at and return the one for our own processes."""
    try:
        if is_unified(mount):
            _delegate(mount)
            (mount / name).mkdir(exist_ok=True)
            _delegate(mount / name)
        else:
            for controller in V1_CONTROLLERS:
                if (mount / controller).is_dir():
                    _create_v1(mount / controller / name)
        components = tracking_root(mount) / name / COMPONENTS
        components.mkdir(exist_ok=True)
    except OSError as error:
        raise Refusal(
            f"cannot make cgroup {name} below {mount} ({error.strerror}): run as root with writable cgroups"
        ) from None
    return components


def _delegate(directory: Path) -> None:
    controllers = (directory / "cgroup.controllers").read_text().split()
    for controller in controllers:
        # A controller that the parent cannot hand down is missing for pods too; the kubelet says so when it matters.
        with contextlib.suppress(OSError):
            (directory / "cgroup.subtree_control").write_text(f"+{controller}")


def _create_v1(directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    for file in ("cpuset.cpus", "cpuset.mems"):
        # A v1 cpuset starts empty and refuses processes until it has some of its parent's.
        if (directory / file).exists() and not (directory / file).read_text().strip():
            (directory / file).write_text((directory.parent / file).read_text())


def members(name: str, *, mount: Path = MOUNT) -> list[int]:
    """The ids of all processes of the cgroup and everything below it."""
    pids: set[int] = set()
    for directory in _tree(tracking_root(mount) / name):
        with contextlib.suppress(OSError):
            pids.update(int(line) for line in (directory / "cgroup.procs").read_text().split())
    return sorted(pids - {0})


def existing(name: str, *, mount: Path = MOUNT) -> list[Path]:
    """Where the cgroup exists, in any hierarchy (the container runtime makes some of its own)."""
    candidates = [mount / name, *(child / name for child in mount.iterdir() if child.is_dir())]
    return sorted({path.resolve() for path in candidates if path.is_dir()})


def names(prefix: str, *, mount: Path = MOUNT) -> set[str]:
    """The cgroups at the top of the tracking hierarchy whose name begins like this."""
    root = tracking_root(mount)
    return {path.name for path in root.glob(f"{prefix}*") if path.is_dir()} if root.is_dir() else set()


def remove(name: str, *, mount: Path = MOUNT, timeout_seconds: float = 10.0) -> None:
    """Remove the empty cgroup everywhere; the kernel may need a moment after the last process ended."""
    deadline = time.monotonic() + timeout_seconds
    while roots := existing(name, mount=mount):
        for root in roots:
            for directory in _tree(root):
                with contextlib.suppress(OSError):
                    directory.rmdir()
        if existing(name, mount=mount) and time.monotonic() > deadline:
            return
        time.sleep(0.05)


def _tree(root: Path) -> Iterator[Path]:
    """The directories from the leaves up to `root`."""
    for directory, _, _ in os.walk(root, topdown=False):
        yield Path(directory)
