"""None: a share by time-slicing. The scheduler counts shares; nothing limits what a process takes."""

from __future__ import annotations

from nereus.api.spec.gpu import Isolation
from nereus.gpu import nodes
from nereus.gpu.ask import Ask
from nereus.gpu.nodes import LABEL_REPLICAS, NodeGpus
from nereus.gpu.offer import Facts, Offer, Strength, shares_fit


class Unenforced(Facts):
    """One replica of a GPU that the device plug-in shares by time-slicing."""

    def offer(self, node: NodeGpus, ask: Ask) -> Offer | str:
        if ask.count != 1:
            return "several shares may be of the same GPU: more than one are always whole GPUs"
        if node.hami or node.sharing == nodes.MPS or node.single_profile or not node.shared:
            return "its device plug-in does not share by time-slicing"
        if refused := shares_fit(node, ask):
            return refused
        resource = node.share_resource
        return Offer(
            mechanism=self.name,
            resources=((resource, "1"),),
            taken_bytes=node.share_bytes,
            labels=node.labels(LABEL_REPLICAS),
            units=node.allocatable.get(resource, 0),
            detail=f"1 of {node.replicas} shares",
        )

    def assumed(self, ask: Ask) -> Offer | str:  # noqa: ARG002 - every mechanism is asked the same way
        return Offer(mechanism=self.name, resources=((nodes.GPU, "1"),))


UNENFORCED = Unenforced(
    name=Isolation.NONE,
    strength=Strength.NONE,
    isolates_faults=False,
    needs="NVIDIA's device plug-in with sharing.timeSlicing",
    escapes="every process may take the whole GPU",
    proof="",
)
