"""What one look at a service with `spec.gpu` needs besides: nodes, agents and guard, put together."""

from __future__ import annotations

from dataclasses import dataclass

from nereus import rendering
from nereus.api.service import ModelService
from nereus.controller.gpuguard import Guard
from nereus.controller.gpus import Agents, Nodes
from nereus.controller.store import Key
from nereus.diagnosis.world import GpuWorld
from nereus.gpu.ask import ask_of
from nereus.gpu.eviction import may_evict


@dataclass(frozen=True)
class Gpus:
    """What a look at a service with `spec.gpu` needs besides."""

    nodes: Nodes
    agents: Agents
    guard: Guard

    def world(self, wished: ModelService, plan: rendering.GpuPlan | None) -> GpuWorld | None:
        """What is known of a service's GPUs; tells nodes and guard what they have to watch."""
        key, ask = Key(wished.namespace, wished.name), ask_of(wished)
        if plan is None or ask is None:
            self.forget(key)
            return None
        self.nodes.missing(key, is_missing=bool(plan.missing))
        self.guard.watch(key, ask.memory_bytes if may_evict(plan.choice, wished=ask.evict) else None)
        return GpuWorld(
            choice=plan.choice,
            missing=plan.missing,
            pending=plan.pending,
            surge=plan.surge,
            usage=self.agents.usage(),
            evicted=self.guard.said(key),
        )

    def forget(self, key: Key) -> None:
        self.nodes.forget(key)
        self.guard.watch(key, None)
