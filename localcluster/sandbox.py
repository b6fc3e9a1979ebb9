"""The namespaces of a cluster: a network of its own, and a view of the file system with a private `/run`.

A small process holds both; whatever runs inside keeps them alive, and with the last process they vanish, together with
every mount, interface, route and firewall rule made inside. That is why nothing has to be tidied up one by one.
Nothing is hidden for security: the processes run as root on this machine's file system.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

from localcluster.config import Cluster
from localcluster.packages import find_tool
from localcluster.processes import Process, launch, recorded
from localcluster.report import Refusal, last_words

HOLDER = "sandbox"
# Paths that Kubernetes parts have compiled in. Inside, each is a directory of the cluster: clusters do not meet.
PRIVATE_DIRECTORIES = {
    "/var/lib/kubelet": "kubelet",
    "/var/lib/cni": "cni",
    "/var/log/containers": "container-logs",
}
# The kubelet sets these for the whole machine unless it finds its values; inside, it finds them.
KERNEL_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
HOLDER_SECONDS = 10.0
# Of the whole machine, like the directories themselves; clusters of all state roots share them.
MADE_BY_US = Path("/run/nereus-localcluster-made.json")
HOLD = """
set -e
state=$1; pause=$2; shift 2
mount --make-rprivate /
mount -t tmpfs -o mode=0755 nereus-run /run
mkdir -p /run/netns /run/containerd /run/lock
while [ "$1" != -- ]; do mount --bind "$state/$1" "$2"; shift 2; done
mount --make-rshared /
exec "$pause"
"""


def hold_command(cluster: Cluster, *, pause: Path) -> list[str]:
    """The command that makes the namespaces and stays in them."""
    binds: list[str] = []
    for path, directory in PRIVATE_DIRECTORIES.items():
        binds += [directory, path]
    for setting in KERNEL_SETTINGS:
        binds += [f"kernel-settings/{setting}", f"/proc/sys/{setting}"]
    script = ["sh", "-c", HOLD, "hold", str(cluster.dir), str(pause), *binds, "--"]
    return ["unshare", "--net", "--mount", "--propagation", "private", *script]


def enter(holder: Process, *command: str) -> list[str]:
    """The command line that runs a command inside."""
    namespaces = f"/proc/{holder.pid}/ns"
    return ["nsenter", f"--net={namespaces}/net", f"--mount={namespaces}/mnt", "--", *command]


def holder_of(cluster: Cluster) -> Process | None:
    """The process that holds the namespaces, when it is ready."""
    holder = recorded(cluster.record(HOLDER))
    return holder if holder is not None and Path(holder.command[0]).name == "pause" else None


def require_holder(cluster: Cluster) -> Process:
    """The holder, or a Refusal when the cluster does not run."""
    holder = holder_of(cluster)
    if holder is None:
        raise Refusal(f"cluster {cluster.name} does not run: `python3 -m localcluster up --name {cluster.name}`")
    return holder


def start_holder(cluster: Cluster, *, pause: Path, cgroup: Path) -> Process:
    """Make the namespaces."""
    _make_mount_points()
    for directory in PRIVATE_DIRECTORIES.values():
        cluster.data(directory).mkdir(parents=True, exist_ok=True)
    for setting, value in KERNEL_SETTINGS.items():
        file = cluster.data("kernel-settings") / setting
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
    command = hold_command(cluster, pause=pause)
    holder = launch(command, record=cluster.record(HOLDER), log=cluster.log(HOLDER), cgroup=cgroup)
    deadline = time.monotonic() + HOLDER_SECONDS
    while holder.alive and holder.command[:1] != (str(pause),) and time.monotonic() < deadline:
        time.sleep(0.01)
    if holder_of(cluster) is None:
        reason = last_words(cluster.log(HOLDER))
        raise Refusal(
            f"cannot make a network and mount namespace ({reason}): run as root, outside an unprivileged container"
        )
    return holder


def _make_mount_points() -> None:
    """Make the directories that must exist on the machine, remembering which did not."""
    missing = [path for path in PRIVATE_DIRECTORIES if not Path(path).is_dir()]
    if not missing:
        return
    known = json.loads(MADE_BY_US.read_text()) if MADE_BY_US.exists() else []
    MADE_BY_US.write_text(json.dumps(sorted({*known, *missing})))
    for path in missing:
        Path(path).mkdir(parents=True, exist_ok=True)


def remove_mount_points() -> list[str]:
    """Remove the directories that we made, when the last cluster is gone; returns those that could not be removed."""
    if not MADE_BY_US.exists():
        return []
    left: list[str] = []
    for path in map(Path, json.loads(MADE_BY_US.read_text())):
        try:
            path.rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            left.append(f"directory {path} ({error.strerror})")
    MADE_BY_US.unlink()
    return left


def overlay_works(cluster: Cluster) -> bool:
    """Whether containers can use overlayfs on the file system of the state directory; they copy files otherwise."""
    base = cluster.data("overlay-probe")
    for name in ("lower", "upper", "work", "merged"):
        (base / name).mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work"
    script = 'mount -t overlay overlay -o "$1" "$2"'
    inside = ["sh", "-c", script, "probe", options, f"{base}/merged"]
    unshare = [find_tool("unshare") or "unshare", "--mount", "--propagation", "private"]
    probe = subprocess.run([*unshare, *inside], check=False, capture_output=True)
    shutil.rmtree(base)
    return probe.returncode == 0
