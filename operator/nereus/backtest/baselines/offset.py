"""The offset trick of Grafana Mimir: the highest of the load now and the load around this time a day or a week ago.

Both look at a window as long as the cold start, so that the past announces what is coming. The way down is the HPA's.
"""

from __future__ import annotations

import numpy as np

from nereus.backtest.baselines.behaviour import Behaviour, average_value
from nereus.backtest.world import TICK_SECONDS, Batch, Floats, Ints


class Offset:
    """`target` is the share of capacity aimed at, `offset_seconds` how far back the second look goes."""

    def __init__(self, target: Floats, *, offset_seconds: int) -> None:
        self._target = target
        self._back = offset_seconds // TICK_SECONDS
        self._loads: list[Floats] = []
        self._behaviour = Behaviour()

    def decide(self, batch: Batch) -> Ints:
        """Replicas per row."""
        self._loads.append(batch.load.astype(np.float32).astype(float))
        load = batch.load
        now = len(self._loads) - 1
        if now - self._back >= 0:
            ahead = int(np.max(batch.cold_start)) // TICK_SECONDS + 2
            then = np.stack(self._loads[now - self._back : now - self._back + ahead])
            load = np.fmax(load, np.nanmax(np.nan_to_num(then), axis=0))
        recommendation = average_value(batch, load, self._target * batch.capacity)
        return self._behaviour.apply(batch.ready + batch.starting, recommendation)
