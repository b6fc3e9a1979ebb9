"""KEDA with a Prometheus rate: offered load per replica through an HPA (AverageValue), which sees overloads as they
are."""

from __future__ import annotations

from nereus.backtest.baselines.behaviour import Behaviour, average_value
from nereus.backtest.world import Batch, Floats, Ints


class KedaRate:
    """`target` is the share of a replica's capacity aimed at, per row."""

    def __init__(self, target: Floats, *, stabilisation_seconds: int = 300) -> None:
        self._target = target
        self._behaviour = Behaviour(stabilisation_seconds=stabilisation_seconds)

    def decide(self, batch: Batch) -> Ints:
        """Replicas per row."""
        recommendation = average_value(batch, batch.load, self._target * batch.capacity)
        return self._behaviour.apply(batch.ready + batch.starting, recommendation)
