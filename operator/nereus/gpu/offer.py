"""What one mechanism offers on one node: the words between `nodes`, `mechanisms` and `choice`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from nereus.api.spec.gpu import Isolation
from nereus.gpu.ask import Ask
from nereus.gpu.nodes import NodeGpus

Pairs = tuple[tuple[str, str], ...]


class Strength(IntEnum):
    """How well a memory limit holds. Hard: hardware or driver refuse, whatever the process does. Soft: refused unless
    the process does something unusual. None: nothing refuses."""

    NONE = 0
    SOFT = 1
    HARD = 2

    @property
    def word(self) -> str:
        return self.name.title()


@dataclass(frozen=True, kw_only=True)
class Offer:
    """How a pod would get its GPU. `effective_bytes` is the limit really in effect, None where there is none or no
    label says it; `taken_bytes` what no other pod can use, None when it is not known. `labels` are those that a node
    must have, `units` how many pods of this kind the node takes (None: no number of the node tells). `env` is for the
    Triton container, `own_scheduler` says that the mechanism finds its nodes by itself."""

    mechanism: Isolation
    resources: Pairs
    effective_bytes: int | None = None
    taken_bytes: int | None = None
    labels: Pairs = ()
    env: Pairs = ()
    units: int | None = None
    detail: str = ""
    own_scheduler: bool = False


class Mechanism(Protocol):
    """One way of keeping a pod within its memory; see docs/gpu-isolation.md for the sources of each statement."""

    @property
    def name(self) -> Isolation: ...
    @property
    def strength(self) -> Strength: ...
    @property
    def isolates_faults(self) -> bool: ...
    @property
    def needs(self) -> str:
        """What node, driver, toolkit and plug-in must have."""

    @property
    def escapes(self) -> str:
        """What gets around it; empty when nothing does."""

    @property
    def proof(self) -> str:
        """How its effect is seen; empty when it cannot be."""

    @property
    def proven_on_card(self) -> bool:
        """Whether this project has seen it hold on a real GPU."""

    def offer(self, node: NodeGpus, ask: Ask) -> Offer | str:
        """What the node offers, or in a few words why it does not."""

    def assumed(self, ask: Ask) -> Offer | str:
        """What a node that nobody sees would offer, or why that cannot be said."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a mechanism declares of itself."""

    name: Isolation
    strength: Strength
    isolates_faults: bool
    needs: str
    escapes: str
    proof: str
    proven_on_card: bool = False


def shares_fit(node: NodeGpus, ask: Ask) -> str:
    """Why a pod's memory does not fit into one share; empty when it does.

    A share is the GPU's memory divided by its replicas: more would be taken from another pod's share.
    """
    if ask.memory_bytes is None:
        return ""
    if node.share_bytes is None:
        return "no label nvidia.com/gpu.memory says how large its GPUs are: run GPU feature discovery"
    if ask.memory_bytes > node.share_bytes:
        return f"a share is {gib(node.share_bytes)} ({node.replicas} of {gib(node.memory_bytes or 0)})"
    return ""


def gib(amount: int | None) -> str:
    """`19.5Gi`; `unknown` for None."""
    return "unknown" if amount is None else f"{amount / 2**30:.1f}".removesuffix(".0") + "Gi"
