"""From the control group of a process to its pod and container: the path forms of every kubelet and runtime.

NVML gives process ids of the host; /proc/PID/cgroup says where a process is. The forms, with either cgroup version:

    /kubepods/burstable/podUID/CID                                     cgroupfs driver
    /kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_WITH_UNDERSCORES.slice/cri-containerd-CID.scope
    .../crio-CID.scope, .../docker-CID.scope, .../crio-CID             systemd driver, by runtime
    /system.slice/containerd.service/kubepods-podUID.slice:cri-containerd:CID

A reader in another control group namespace sees `/../..` in front, and a kubelet may have a root of its own; so the
pod is looked for anywhere in the path. QoS class Guaranteed has no class in it. A static pod has a digest of its
manifest (32 hex digits) where others have their uid. Pure: text in, value out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_UID = r"[0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32}"
_POD = re.compile(rf"pod(?P<uid>{_UID})(?:\.slice)?[/:](?P<rest>[^\s]*)")
_CONTAINER = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


@dataclass(frozen=True)
class Container:
    """A container of a pod; `container_id` is empty for a process that is in the pod's group but in no container's.
    `path` is the control group of the container as the file has it."""

    pod_uid: str
    container_id: str
    path: str


def container_of(text: str) -> Container | None:
    """From the content of /proc/PID/cgroup; None for a process that is in no pod."""
    for line in text.splitlines():
        path = line.split(":", 2)[-1] if line.count(":") >= 2 else line
        found = _POD.search(path)
        if found:
            ids = _CONTAINER.findall(found["rest"])
            # Of nested groups (a container in a container) the outermost is the pod's own.
            return Container(found["uid"].replace("_", "-"), ids[0] if ids else "", path)
    return None
