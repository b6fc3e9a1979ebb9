"""Ending a cluster completely, and looking afterwards whether anything is left.

Works from what the machine shows (cgroup, interface, directory), not from what `up` remembers, so it also clears a
start that was killed half way. It touches nothing that is not recognisably this cluster's.
"""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

from localcluster import cgroups, network, processes, sandbox
from localcluster.config import CGROUP_PREFIX, Addresses, cgroup_name, cluster_of_cgroup, known_names, load, state_root
from localcluster.report import Progress

# Those that would start others again must end first.
STARTERS = ("kubelet", "kwok", "controller-manager", "scheduler")


def clusters_on_this_machine() -> list[str]:
    """The names of all clusters of this state root of which there is a directory or a cgroup."""
    groups = cgroups.names(CGROUP_PREFIX)
    found = {name for group in groups if (name := cluster_of_cgroup(group, root=state_root()))}
    return sorted(found | set(known_names()))


def end_processes(name: str) -> list[str]:
    """End every process of a cluster, containers included; returns those that could not be ended."""
    run = state_root() / name / "run"
    starters = [process for starter in STARTERS if (process := processes.recorded(run / starter))]
    processes.end(starters, grace_seconds=2.0)
    group = cgroup_name(name, root=state_root())
    kept: list[processes.Process] = []
    # Containers are in the cgroup too; a second and third look catch what was being started meanwhile.
    for grace_seconds in (3.0, 0.0, 0.0):
        kept = processes.end(processes.by_ids(cgroups.members(group)), grace_seconds=grace_seconds)
    return [f"process {process.pid} ({' '.join(process.command)[:80]})" for process in kept]


def remove(name: str, *, progress: Progress) -> list[str]:
    """End a cluster and remove everything of it; returns what is left in spite of that."""
    cluster = load(name)
    progress.say(f"ending cluster {name}: processes and containers")
    left = end_processes(name)
    if cluster is not None:
        network.remove_link(cluster.addresses)
    cgroups.remove(cgroup_name(name, root=state_root()))
    if not left:
        # A directory is removed only when no process can write into it any more.
        _remove_directory(state_root() / name, progress=progress)
    left += remains(name, addresses=cluster.addresses if cluster else None)
    return left


def remove_shared() -> list[str]:
    """Remove what clusters share, once the last one of any state root is gone; returns what is left of it."""
    if not known_names():
        _remove_if_empty(state_root())
    return [] if cgroups.names(CGROUP_PREFIX) else sandbox.remove_mount_points()


def _remove_directory(directory: Path, *, progress: Progress) -> None:
    """Remove a directory tree; device-like files of images and read-only directories included."""
    if not directory.exists():
        return
    progress.tick(f"removing {directory}")
    # cluster.json goes last: a removal that is killed can then be taken up again.
    for path in sorted(directory.iterdir(), key=lambda entry: entry.name == "cluster.json"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)


def _remove_if_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        return


def remains(name: str, *, addresses: Addresses | None, timeout_seconds: float = 5.0) -> list[str]:
    """What of a cluster can still be seen on the machine. The kernel gets a moment to finish."""
    deadline = time.monotonic() + timeout_seconds
    while (found := _look(name, addresses)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _look(name: str, addresses: Addresses | None) -> list[str]:
    group = cgroup_name(name, root=state_root())
    directory = state_root() / name
    found = [f"process {pid}" for pid in cgroups.members(group)]
    found += [f"cgroup {path}" for path in cgroups.existing(group)]
    if addresses is not None:
        found += network.remains(addresses)
    below = re.compile(rf" {re.escape(str(directory))}[/ ]")
    found += [f"mount {line.split()[4]}" for line in _lines("/proc/self/mountinfo") if below.search(line)]
    found += [f"socket {line.split()[-1]}" for line in _lines("/proc/net/unix") if below.search(line)]
    if directory.exists():
        found.append(f"directory {directory}")
    return found


def _lines(path: str) -> list[str]:
    return Path(path).read_text(errors="replace").splitlines()
