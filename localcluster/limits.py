"""Limits of the kernel that a node runs into: said before the start, because what fails later does not name them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from localcluster.report import Refusal

INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
NEEDED_INSTANCES = 24
"""containerd and the kubelet of one node hold 14, its pods a few (counted on a running cluster)."""
ENOUGH = 512


def check(limit: Path = INSTANCES, processes: Path = Path("/proc")) -> None:
    """Raises Refusal when a further node would find no inotify instance: containerd would start without its service
    for the kubelet, and not say why."""
    try:
        allowed = int(limit.read_text())
    except (OSError, ValueError):
        return  # a kernel that does not tell has no such limit
    used = _used(processes)
    if allowed - used < NEEDED_INSTANCES:
        raise Refusal(
            f"{used} of {allowed} inotify instances are in use and a node needs {NEEDED_INSTANCES}: "
            f"`sysctl -w fs.inotify.max_user_instances={max(ENOUGH, 2 * allowed)}`, or end another cluster"
        )


def _used(processes: Path) -> int:
    """Inotify instances of all processes of this user; those that end meanwhile hold none."""
    count = 0
    for directory in processes.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if directory.stat().st_uid == os.geteuid():
                count += sum(entry.readlink().name == "anon_inode:inotify" for entry in (directory / "fd").iterdir())
    return count
