"""HAMi: a library, preloaded into every process of the container, that refuses allocations past the limit."""

from __future__ import annotations

from nereus.api.spec.gpu import Isolation
from nereus.gpu.ask import MIB, Ask
from nereus.gpu.nodes import GPU, NodeGpus
from nereus.gpu.offer import Facts, Offer, Strength, gib

GPU_MEMORY = "nvidia.com/gpumem"


class Hami(Facts):
    """A part of a GPU that HAMi's scheduler places and its device plug-in prepares."""

    def offer(self, node: NodeGpus, ask: Ask) -> Offer | str:
        if ask.count != 1 or ask.memory_bytes is None:
            return "HAMi needs gpu.memory"
        if not node.hami:
            return "HAMi does not run on it (no annotation hami.io/node-nvidia-register)"
        if node.memory_bytes is not None and ask.memory_bytes > node.memory_bytes:
            return f"a GPU has {gib(node.memory_bytes)}"
        # `units` stays unknown: its plug-in shows each GPU many times, and its scheduler counts by itself.
        return Offer(
            mechanism=self.name,
            resources=self._resources(ask),
            effective_bytes=ask.memory_mib * MIB,
            taken_bytes=ask.memory_mib * MIB,
            own_scheduler=True,
        )

    def assumed(self, ask: Ask) -> Offer | str:
        return Offer(
            mechanism=self.name,
            resources=self._resources(ask),
            effective_bytes=ask.memory_mib * MIB,
        )

    def _resources(self, ask: Ask) -> tuple[tuple[str, str], ...]:
        return ((GPU, "1"), (GPU_MEMORY, str(ask.memory_mib)))


HAMI = Hami(
    name=Isolation.HAMI,
    strength=Strength.SOFT,
    isolates_faults=False,
    needs="HAMi with its scheduler, webhook and device plug-in",
    escapes="a static binary, a process of another user, or a library that opens the driver by itself is not hooked",
    proof="",
)
