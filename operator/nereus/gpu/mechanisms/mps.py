"""MPS: NVIDIA's server between several processes and one GPU, with a limit of pinned device memory for each client.

The device plug-in starts the server and gives each of R replicas 1/R of the memory; a client can lower its own part.
"""

from __future__ import annotations

from nereus.api.spec.gpu import Isolation
from nereus.gpu import nodes
from nereus.gpu.ask import MIB, Ask
from nereus.gpu.nodes import LABEL_REPLICAS, NodeGpus
from nereus.gpu.offer import Facts, Offer, Strength, shares_fit

VARIABLE = "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"
SHARED_MEMORY = "/dev/shm is the MPS server's, 64Mi for all pods of the node"  # noqa: S108 - words, not a path
"""The device plug-in mounts one tmpfs of this size, for every MPS resource of the node, into every container (NVIDIA's
k8s-device-plugin: cmd/mps-control-daemon/mount/mount-shm.go, mps/root.go, internal/plugin/mps.go)."""


class Mps(Facts):
    """One replica of a GPU that the device plug-in shares by MPS."""

    def offer(self, node: NodeGpus, ask: Ask) -> Offer | str:
        if ask.count != 1:
            return "the device plug-in gives one MPS share to a pod"
        if node.sharing != nodes.MPS:
            return "its device plug-in does not share by MPS"
        if refused := shares_fit(node, ask):
            return refused
        resource = node.share_resource
        return Offer(
            mechanism=self.name,
            resources=((resource, "1"),),
            effective_bytes=ask.memory_mib * MIB if ask.memory_bytes is not None else node.share_bytes,
            taken_bytes=node.share_bytes,
            labels=node.labels(LABEL_REPLICAS),
            env=self._env(ask),
            units=node.allocatable.get(resource, 0),
            detail=f"1 of {node.replicas} shares; {SHARED_MEMORY}",
        )

    def assumed(self, ask: Ask) -> Offer | str:
        return Offer(
            mechanism=self.name,
            resources=((nodes.GPU, "1"),),
            effective_bytes=ask.memory_mib * MIB if ask.memory_bytes is not None else None,
            env=self._env(ask),
            detail=SHARED_MEMORY,
        )

    def _env(self, ask: Ask) -> tuple[tuple[str, str], ...]:
        # Device 0 only: an entry that names a GPU which the container does not see drops every limit.
        return ((VARIABLE, f"0={ask.memory_mib}M"),) if ask.memory_bytes is not None else ()


MPS = Mps(
    name=Isolation.MPS,
    strength=Strength.SOFT,
    isolates_faults=False,
    needs="NVIDIA's device plug-in with sharing.mps",
    escapes="a process without the MPS pipe directory gets the whole GPU; a client killed in the middle of its work"
    " breaks all clients of that GPU",
    proof="",
)
