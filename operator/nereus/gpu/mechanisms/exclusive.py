"""A whole GPU: what is not shared needs no limit."""

from __future__ import annotations

from nereus.api.spec.gpu import Isolation
from nereus.gpu.ask import Ask
from nereus.gpu.nodes import GPU, LABEL_MIG_STRATEGY, NodeGpus
from nereus.gpu.offer import Facts, Offer, Strength, gib


class Exclusive(Facts):
    """`nvidia.com/gpu` on a node that neither shares nor slices its GPUs."""

    def offer(self, node: NodeGpus, ask: Ask) -> Offer | str:
        if node.hami:
            return "HAMi divides its GPUs"
        if node.shared:
            return f"its GPUs are shared ({node.sharing or 'replicas'})"
        if node.single_profile:
            return f"its GPUs are cut into MIG slices {node.single_profile}"
        if node.plain < ask.count:
            return f"it has {node.plain} whole GPUs"
        if ask.memory_bytes is not None and node.memory_bytes is None:
            return "no label nvidia.com/gpu.memory says how large its GPUs are: run GPU feature discovery"
        if ask.memory_bytes is not None and (node.memory_bytes or 0) < ask.memory_bytes:
            return f"a GPU has {gib(node.memory_bytes)}"
        return Offer(
            mechanism=self.name,
            resources=((GPU, str(ask.count)),),
            # Without a limit asked for, GPUs of any size are the same to the pod.
            effective_bytes=node.memory_bytes if ask.memory_bytes is not None else None,
            taken_bytes=node.memory_bytes,
            labels=node.labels(LABEL_MIG_STRATEGY),
            units=node.plain // ask.count,
        )

    def assumed(self, ask: Ask) -> Offer | str:
        return Offer(mechanism=self.name, resources=((GPU, str(ask.count)),))


EXCLUSIVE = Exclusive(
    name=Isolation.EXCLUSIVE,
    strength=Strength.HARD,
    isolates_faults=True,
    needs="NVIDIA's device plug-in without sharing on the node",
    escapes="a container of another pod that sets NVIDIA_VISIBLE_DEVICES, where the container runtime allows that",
    proof="the agent sees the pod's processes on a GPU, and no other pod's",
)
