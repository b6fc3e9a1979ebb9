"""What one replica sustains, learned per service and set of co-located models from what was really run. No I/O.

Two sources, the better first: the cost curve that the sidecar fits per pod (seconds = fixed + each x batch, valid up to
the largest batch seen), and Triton's own counters, which give one point per reading: the mean batch and the mean time
that a request spends in compute. Points are kept, so a quiet hour forgets nothing; a batch that was never run is
never assumed. Models on one GPU slow each other down, so what was learned holds for one set of models: with
another set learning starts again, and what is known of the old set is used until something new was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nereus.prometheus.reading import Key, Wanted
from nereus.scaling.capacity import CostCurve, inferences_per_second

FOLLOW = 0.2
"""Weight of a new point of the counters against what is known of that batch size: about five ticks of memory."""
LARGEST_BATCH = 4096
"""Larger figures are a fault of whoever exports them, not a batch."""
LEAST_EXECUTIONS = 0.05
"""Executions per second below which a mean says little (less than one in a window of 20 s)."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One model, over all pods, during one window: per second executions, inferences, answered requests and seconds of
    compute (each request adds the time of its whole batch), or the fitted curve."""

    executions: float | None = None
    inferences: float | None = None
    requests: float | None = None
    busy: float | None = None
    fixed_seconds: float | None = None
    seconds_per_inference: float | None = None
    batch_seen_max: float | None = None

    def curve(self) -> dict[int, float] | None:
        """Seconds for every batch up to the largest seen, from the sidecar's fit; None without one that makes sense."""
        fixed, each, most = self.fixed_seconds, self.seconds_per_inference, self.batch_seen_max
        if fixed is None or each is None or most is None or not all(map(math.isfinite, (fixed, each, most))):
            return None
        if fixed < 0 or each < 0 or fixed + each <= 0 or not 1 <= most <= LARGEST_BATCH:
            return None
        sizes = {int(most), *(2**power for power in range(int(math.log2(most)) + 1))}
        return {size: fixed + each * size for size in sorted(sizes)}

    def point(self) -> tuple[int, float] | None:
        """The mean batch and the seconds of compute that a request of it saw; rounding never makes a replica faster."""
        parts = (self.executions, self.inferences, self.requests, self.busy)
        executions, inferences, requests, busy = (part if part and math.isfinite(part) else 0.0 for part in parts)
        if executions < LEAST_EXECUTIONS or inferences <= 0 or requests <= 0 or busy <= 0:
            return None
        mean = inferences / executions
        batch = round(mean)
        return (batch, busy / requests * max(1.0, batch / mean)) if 1 <= batch <= LARGEST_BATCH else None


@dataclass
class _Learned:
    """Of one service: the set of models it holds for, and seconds per model and batch size."""

    models: frozenset[str]
    seconds: dict[str, dict[int, float]] = field(default_factory=dict)
    before: dict[str, dict[int, float]] = field(default_factory=dict)


class Capacities:
    """Everything learned. Services that are no longer wanted are forgotten by `keep_only`."""

    def __init__(self) -> None:
        self._learned: dict[Key, _Learned] = {}

    def learn(self, wanted: Wanted, models: Mapping[str, Measured]) -> dict[str, float | None]:
        """Takes in one reading; returns inferences per second per model as they are known now."""
        names = frozenset(wanted.models or models)
        known = self._learned.get(wanted.key)
        if known is None:
            known = self._learned[wanted.key] = _Learned(names)
        elif names - known.models or known.models - names:
            known = self._learned[wanted.key] = _Learned(names, before={**known.before, **known.seconds})
        for name, measured in models.items():
            if name in names:
                _note(known.seconds.setdefault(name, {}), measured)
        return {name: self._capacity(wanted, known, name) for name in names}

    def fastest(self, wanted: Wanted, name: str) -> float | None:
        """Seconds of the quickest execution of a model that was ever seen, of any batch; None before the first."""
        known = self._learned.get(wanted.key)
        points = known.seconds.get(name) if known else None
        return min(CostCurve(seconds=points).usable().values(), default=None) if points else None

    def keep_only(self, keys: set[Key]) -> None:
        """Forgets what nobody wants any more."""
        for key in self._learned.keys() - keys:
            del self._learned[key]

    def to_state(self) -> dict[str, Any]:
        """What was learned, as JSON types."""
        return {
            str(key): {
                "models": sorted(learned.models),
                "seconds": {name: {str(b): s for b, s in points.items()} for name, points in learned.seconds.items()},
            }
            for key, learned in self._learned.items()
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes back what `to_state` gave; raises ValueError, KeyError or TypeError when it is something else."""
        for text, saved in state.items():
            namespace, _, name = text.partition("/")
            seconds = {
                model: {int(b): float(s) for b, s in points.items()} for model, points in saved["seconds"].items()
            }
            self._learned[Key(namespace, name)] = _Learned(frozenset(saved["models"]), seconds)

    def _capacity(self, wanted: Wanted, known: _Learned, name: str) -> float | None:
        points = known.seconds.get(name) or known.before.get(name)
        if not points:
            return None
        curve = CostCurve(seconds=points, instances=wanted.instances.get(name, 1))
        return inferences_per_second(curve, latency_seconds=wanted.latency_seconds)


def _note(points: dict[int, float], measured: Measured) -> None:
    if curve := measured.curve():
        # Larger batches stay known: after a rolling change the new pods have run small ones only.
        points.update(curve)
    elif point := measured.point():
        batch, seconds = point
        points[batch] = seconds if batch not in points else points[batch] + FOLLOW * (seconds - points[batch])
