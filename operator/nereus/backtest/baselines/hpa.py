"""HorizontalPodAutoscaler on utilisation (CPU or GPU). The metric saturates: an overload looks like 100 %."""

from __future__ import annotations

from nereus.backtest.baselines.behaviour import Behaviour, usage
from nereus.backtest.world import Batch, Floats, Ints


class Hpa:
    """`target` is the utilisation aimed at, per row."""

    def __init__(self, target: Floats, *, stabilisation_seconds: int = 300) -> None:
        self._target = target
        self._behaviour = Behaviour(stabilisation_seconds=stabilisation_seconds)

    def decide(self, batch: Batch) -> Ints:
        """Replicas per row."""
        return self._behaviour.apply(batch.ready + batch.starting, usage(batch, self._target))
