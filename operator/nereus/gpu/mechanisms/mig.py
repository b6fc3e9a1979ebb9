"""MIG: a slice of a GPU with memory, cache and copy engines of its own, cut by the hardware."""

from __future__ import annotations

from nereus.api.spec.gpu import Isolation
from nereus.gpu import profiles
from nereus.gpu.ask import Ask
from nereus.gpu.nodes import GPU, LABEL_MIG_STRATEGY, MIG_PREFIX, NodeGpus
from nereus.gpu.offer import Facts, Offer, Strength, gib


class Mig(Facts):
    """The smallest slice of a node whose memory holds the limit, under both strategies of the device plug-in."""

    def offer(self, node: NodeGpus, ask: Ask) -> Offer | str:
        if ask.count != 1 or ask.memory_bytes is None:
            return "MIG gives one slice, and gpu.memory says how large"
        if node.single_profile:
            return self._single(node, ask.memory_bytes)
        slices = {profile: count for profile, count in node.mig.items() if profiles.plain(profile)}
        if not slices:
            return "its GPUs are not cut into MIG slices"
        sizes = {profile: node.mig_memory.get(profile) or profiles.usable_bytes(profile) for profile in slices}
        fitting = [
            (size, profiles.slices(profile), profile) for profile, size in sizes.items() if size >= ask.memory_bytes
        ]
        if not fitting:
            largest = max(sizes, key=lambda profile: (sizes[profile], profile))
            return f"its largest MIG slice is {largest} with {gib(sizes[largest])}"
        size, _, profile = min(fitting)
        return Offer(
            mechanism=self.name,
            resources=((f"{MIG_PREFIX}{profile}", "1"),),
            effective_bytes=size,
            taken_bytes=size,
            labels=node.labels(LABEL_MIG_STRATEGY),
            units=slices[profile],
            detail=f"profile {profile}",
        )

    def _single(self, node: NodeGpus, memory: int) -> Offer | str:
        """Every device of the node is one and the same slice, asked by nvidia.com/gpu."""
        if node.shared:
            return f"its MIG slices are shared again ({node.sharing}), so they hold no limit: end that in its plug-in"
        size = node.memory_bytes or profiles.usable_bytes(node.single_profile)
        if size < memory:
            return f"its MIG slices are all {node.single_profile} with {gib(size)}"
        return Offer(
            mechanism=self.name,
            resources=((GPU, "1"),),
            effective_bytes=size,
            taken_bytes=size,
            labels=node.labels(LABEL_MIG_STRATEGY),
            units=node.plain,
            detail=f"profile {node.single_profile}",
        )

    def assumed(self, ask: Ask) -> Offer | str:
        if not ask.product:
            return "which MIG profiles there are is not known: set gpu.product"
        profile = profiles.smallest_for(ask.product, ask.memory_bytes or 0)
        if profile is None:
            known = profiles.of_product(ask.product)
            return (
                f"no MIG profile of {ask.product} is large enough" if known else f"{ask.product} has no known profile"
            )
        return Offer(
            mechanism=self.name,
            resources=((f"{MIG_PREFIX}{profile}", "1"),),
            effective_bytes=profiles.usable_bytes(profile),
            detail=f"profile {profile}",
        )


MIG = Mig(
    name=Isolation.MIG,
    strength=Strength.HARD,
    isolates_faults=True,
    needs="GPUs cut into MIG slices, device plug-in with strategy mixed or single",
    escapes="",
    proof="the agent sees the pod's processes on a slice, and how much memory the slice has",
)
