"""What a HorizontalPodAutoscaler does with a ratio: tolerance, pace up, stabilisation down. Shared by several
baselines.

The rules and defaults are those of autoscaling/v2 in Kubernetes: sync every 15 s, tolerance 0.1, up by at most 100 %
or four pods per 15 s, down to the highest recommendation of the last 300 s.
"""

from __future__ import annotations

import numpy as np

from nereus.backtest.world import TICK_SECONDS, Batch, Floats, Ints

TOLERANCE = 0.1
UP_PODS = 4
STABILISATION_SECONDS = 300


class Behaviour:
    """Keeps the recommendations of the stabilisation window, one row each."""

    def __init__(self, *, stabilisation_seconds: int = STABILISATION_SECONDS) -> None:
        self._length = max(1, stabilisation_seconds // TICK_SECONDS)
        self._recent: list[Ints] = []

    def apply(self, current: Ints, recommendation: Floats) -> Ints:
        """The replicas after tolerance was already applied by the caller; `nan` holds."""
        wanted = np.where(np.isfinite(recommendation), recommendation, current).astype(np.int64)
        self._recent.append(wanted)
        del self._recent[: -self._length]
        stable = np.maximum(wanted, np.minimum(np.max(self._recent, axis=0), current))
        return np.asarray(np.minimum(stable, np.maximum(2 * current, current + UP_PODS)))


def average_value(batch: Batch, load: Floats, target: Floats) -> Floats:
    """Recommendation for a metric of type AverageValue: load per replica against its target (same unit as load)."""
    current = np.maximum(batch.ready + batch.starting, 1)
    ratio = load / (target * current)
    recommendation = np.ceil(load / target)
    return np.asarray(np.where(np.abs(ratio - 1) <= TOLERANCE, current, recommendation))


def usage(batch: Batch, target: Floats) -> Floats:
    """Recommendation for a utilisation: the mean over ready pods, which no overload lifts above 1."""
    current = np.maximum(batch.ready + batch.starting, 1)
    ready = np.maximum(batch.ready, 1)
    ratio = batch.utilisation / target
    up = np.ceil(ratio * ready)
    # Pods that are not ready count as idle when scaling up and must not turn an up into a down.
    recommendation = np.where(ratio > 1, np.maximum(up, current), np.ceil(ratio * ready))
    return np.asarray(np.where(np.abs(ratio - 1) <= TOLERANCE, current, recommendation))
