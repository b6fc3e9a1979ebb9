"""KWOK nodes that offer GPUs, tainted and labelled as real ones are."""

from __future__ import annotations

from collections.abc import Callable

from tests.harness.apiserver import Json
from tests.unit.gpu.nodes import manifest

AddNode = Callable[[str, Json], None]
SHARES: Json = {
    "allocatable": {"nvidia.com/gpu": 2},
    "product": "Tesla-T4-SHARED",
    "memory": "15360",
    "sharing": "time-slicing",
    "replicas": "2",
}
"""A node with one GPU that two pods may share."""


def gpu_node(name: str, described: Json) -> Json:
    """A Node as the API server takes it; `described` as for tests.unit.gpu.nodes.manifest."""
    node = manifest(name, **described)
    metadata, amounts = node["metadata"], {**node["status"]["allocatable"], "pods": "50"}
    metadata["labels"] |= {"type": "kwok", "kubernetes.io/hostname": name}
    metadata["annotations"] = {"kwok.x-k8s.io/node": "fake"}
    return {
        **{"apiVersion": "v1", "kind": "Node", "metadata": metadata},
        "spec": {"taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]},
        "status": {"allocatable": amounts, "capacity": amounts},
    }
