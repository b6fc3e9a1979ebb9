"""Nodes without machines, for tests with thousands of pods: their objects, and keeping the wanted number of them."""

from __future__ import annotations

from typing import Any

from localcluster.config import Cluster, Profile
from localcluster.kube import Kubectl

LABEL = {"type": "kwok"}
CAPACITY = {"cpu": "64", "memory": "256Gi", "pods": "500"}


def node_name(index: int) -> str:
    """The name of the n-th node."""
    return f"kwok-{index:04d}"


def node(cluster: Cluster, index: int) -> dict[str, Any]:
    """One node. Beside a real node it is tainted, so that a pod lands there only when it asks for it."""
    name = node_name(index)
    metadata = {
        "name": name,
        "annotations": {"kwok.x-k8s.io/node": "fake"},
        "labels": {**LABEL, "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
    }
    beside_real = cluster.options.profile is Profile.NODE
    taints = [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}] if beside_real else []
    status = {"allocatable": CAPACITY, "capacity": CAPACITY}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": taints}, "status": status}


def ensure_nodes(cluster: Cluster, kubectl: Kubectl) -> None:
    """Make the missing nodes and delete the surplus ones."""
    wanted = {node_name(index): index for index in range(cluster.options.kwok_nodes)}
    listed = kubectl.get("nodes", "-l", "type=kwok") or {"items": []}
    present = {item["metadata"]["name"] for item in listed["items"]}
    if missing := [node(cluster, index) for name, index in wanted.items() if name not in present]:
        kubectl.apply(missing)
    if surplus := sorted(present - set(wanted)):
        kubectl.run("delete", "nodes", "--wait=false", *surplus)
