"""Every path form that a kubelet and a runtime make, and what must not be taken for one."""

from __future__ import annotations

import pytest

from nereus.agent.cgroups import container_of

UID = "a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d"
LOW = UID.replace("-", "_")
CID = "0f" * 32
STATIC = "9d" * 16

FORMS = {
    "v1, cgroupfs, burstable": f"4:memory:/kubepods/burstable/pod{UID}/{CID}",
    "v1, cgroupfs, guaranteed": f"4:memory:/kubepods/pod{UID}/{CID}",
    "v1, cgroupfs, best effort, many controllers": f"12:pids:/\n11:cpu,cpuacct:/kubepods/besteffort/pod{UID}/{CID}",
    "v1, systemd, containerd": (
        "4:memory:/kubepods.slice/kubepods-burstable.slice/"
        f"kubepods-burstable-pod{LOW}.slice/cri-containerd-{CID}.scope"
    ),
    "v1, systemd, guaranteed, cri-o": f"4:memory:/kubepods.slice/kubepods-pod{LOW}.slice/crio-{CID}.scope",
    "v1, systemd, docker": (
        f"4:memory:/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{LOW}.slice/docker-{CID}.scope"
    ),
    "v2, cgroupfs": f"0::/kubepods/burstable/pod{UID}/{CID}",
    "v2, systemd, containerd": (
        f"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{LOW}.slice/cri-containerd-{CID}.scope"
    ),
    "v2, systemd, cri-o with a group of its own inside": (
        f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{LOW}.slice/crio-{CID}.scope/container"
    ),
    "containerd with the systemd driver misconfigured": (
        f"0::/system.slice/containerd.service/kubepods-burstable-pod{LOW}.slice:cri-containerd:{CID}"
    ),
    "a kubelet with a root of its own": f"0::/kubelet/kubepods/burstable/pod{UID}/{CID}",
    "a kubelet slice in kind": (
        f"0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{LOW}.slice/cri-containerd-{CID}.scope"
    ),
    "a reader in another control group namespace": (
        f"0::/../../kubepods-burstable-pod{LOW}.slice/cri-containerd-{CID}.scope"
    ),
    "a container in the container": f"0::/kubepods/pod{UID}/{CID}/docker/{'ee' * 32}",
    "a hybrid machine: the unified line says nothing": f"0::/\n4:memory:/kubepods/burstable/pod{UID}/{CID}",
}


@pytest.mark.parametrize("form", FORMS)
def test_the_pod_and_the_container_are_found(form: str) -> None:
    found = container_of(FORMS[form])
    assert found is not None
    assert (found.pod_uid, found.container_id) == (UID, CID)


def test_a_static_pod_is_known_by_the_digest_of_its_manifest() -> None:
    found = container_of(f"0::/kubepods/burstable/pod{STATIC}/{CID}")
    assert found is not None
    assert (found.pod_uid, found.container_id) == (STATIC, CID)


def test_a_process_in_the_pods_group_alone_has_no_container() -> None:
    found = container_of(f"0::/kubepods/burstable/pod{UID}/sandbox")
    assert found is not None
    assert found.container_id == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0::/",
        "0::/user.slice/user-1000.slice/session-3.scope",
        f"0::/docker/{CID}",
        f"0::/system.slice/docker-{CID}.scope",
        "0::/system.slice/podman-pod.slice",
        "0::/kubepods/podcast/episode",
        "\x00garbage\n:::\n::",
    ],
)
def test_what_is_no_pod_is_none(text: str) -> None:
    assert container_of(text) is None
