"""The offset trick of Grafana Mimir: the highest of the load now and the load around this time a day or a week ago.

The past announces what is coming: it is looked at as far ahead as the cold start is long, or five minutes, whichever
is longer (what an HPA may raise in one step is limited, so a sudden start has to be seen early). The way down is the
HPA's.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from nereus.backtest.baselines.behaviour import Behaviour, average_value
from nereus.backtest.world import TICK_SECONDS, Batch, Floats, Ints

EARLY_SECONDS = 300.0


class Offset:
    """`target` is the share of capacity aimed at, `offset_seconds` how far back the second look goes, `early_seconds`
    how far ahead it looks at least."""

    def __init__(self, target: Floats, *, offset_seconds: int, early_seconds: float = EARLY_SECONDS) -> None:
        self._target = target
        self._early = early_seconds
        self._back = offset_seconds // TICK_SECONDS
        self._loads: deque[npt.NDArray[np.float32]] = deque()
        self._behaviour = Behaviour()

    def decide(self, batch: Batch) -> Ints:
        """Replicas per row."""
        self._loads.append(batch.load.astype(np.float32))
        load = batch.load
        ahead = np.maximum(batch.cold_start, self._early).astype(np.int64) // TICK_SECONDS + 2
        if len(self._loads) > self._back:
            # The oldest that is kept is of the same tick a day (or week) ago.
            then = np.stack([self._loads[k] for k in range(int(ahead.max()))])
            then = np.where(np.arange(len(then))[:, None] < ahead, np.nan_to_num(then), 0)
            load = np.fmax(load, then.max(0))
            self._loads.popleft()
        recommendation = average_value(batch, load, self._target * batch.capacity)
        return self._behaviour.apply(batch.ready + batch.starting, recommendation)
