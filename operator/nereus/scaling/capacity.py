"""What one replica sustains within the objective: from a cost curve latency(batch) to inferences per second. Pure.

A batch of b takes `seconds[b]`; while one batch runs, the next one waits. A request therefore takes at most two batch
times, so the largest batch with two batch times within the objective is what a replica can be asked to run back to
back. Batches that were never seen are not assumed: capacity starts at the batch-1 bound and rises only with what was
measured. Models on one replica share it, which is why loads add up in replica-equivalents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

USABLE_SHARE = 0.95
"""A server never runs batches entirely back to back: what is between them (assembling, copying) takes some of the
time."""


@dataclass(frozen=True, kw_only=True)
class CostCurve:
    """Seconds of compute per execution for each batch size that was really seen, and how many instances run at once."""

    seconds: Mapping[int, float]
    instances: int = 1

    def usable(self) -> dict[int, float]:
        """The points that make sense: positive batches with positive finite times, and no larger batch that is
        faster."""
        points = {b: s for b, s in self.seconds.items() if b >= 1 and math.isfinite(s) and s > 0}
        cleaned: dict[int, float] = {}
        highest = 0.0
        for batch in sorted(points):
            highest = max(highest, points[batch])
            cleaned[batch] = highest
        return cleaned


def inferences_per_second(curve: CostCurve, *, latency_seconds: float) -> float | None:
    """The sustainable rate of one replica, or `None` when nothing was measured yet.

    When not even a batch of one fits twice into the objective, the batch-1 rate is still returned: the objective
    cannot be kept by adding replicas, and the caller says so.
    """
    points = curve.usable()
    if not points:
        return None
    fitting = [b for b, seconds in points.items() if 2 * seconds <= latency_seconds] or [min(points)]
    best = max(b / points[b] for b in fitting)
    return USABLE_SHARE * best * max(1, curve.instances)


@dataclass(frozen=True, kw_only=True)
class ModelLoad:
    """One model on a replica: offered inferences per second, and what a replica that ran only this model would
    sustain."""

    offered: float | None
    capacity: float | None


def replica_equivalents(models: Sequence[ModelLoad]) -> float | None:
    """The load of co-located models in replicas; `None` when one that has load (or might have) is not known."""
    total = 0.0
    for model in models:
        if model.offered == 0:
            continue
        if model.offered is None or not math.isfinite(model.offered) or model.offered < 0:
            return None
        if model.capacity is None or not math.isfinite(model.capacity) or model.capacity <= 0:
            return None
        total += model.offered / model.capacity
    return total
