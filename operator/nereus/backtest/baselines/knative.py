"""Knative's pod autoscaler: a 60 s stable window, a short panic window, never down while in panic.

Its 6 s panic window is below the scrape interval here, so the latest scrape stands for it.
"""

from __future__ import annotations

import numpy as np

from nereus.backtest.world import TICK_SECONDS, Batch, Floats, Ints

STABLE_SECONDS = 60
PANIC_THRESHOLD = 2.0


class KnativeKpa:
    """`target` is the share of a replica's capacity aimed at, per row (0.7 by default in Knative)."""

    def __init__(self, target: Floats) -> None:
        self._target = target
        self._loads: list[Floats] = []
        self._panic_until = np.full(len(target), -np.inf)
        self._panic_replicas = np.zeros(len(target), np.int64)

    def decide(self, batch: Batch) -> Ints:
        """Replicas per row."""
        current = batch.ready + batch.starting
        load = batch.load / batch.capacity
        self._loads = [*self._loads, load][-STABLE_SECONDS // TICK_SECONDS :]
        stable = np.ceil(np.mean(self._loads, axis=0) / self._target)
        latest = np.ceil(load / self._target)
        with np.errstate(invalid="ignore"):
            panics = latest / np.maximum(batch.ready, 1) >= PANIC_THRESHOLD
        self._panic_until = np.where(panics, batch.time + STABLE_SECONDS, self._panic_until)
        panic = batch.time < self._panic_until
        self._panic_replicas = np.where(panic, np.maximum(self._panic_replicas, np.nan_to_num(latest)), 0).astype(
            np.int64
        )
        wanted = np.where(panic, np.maximum(self._panic_replicas, np.nan_to_num(stable)), stable)
        down = np.floor(current / 2)
        held = np.where(np.isfinite(load) & np.isfinite(wanted), np.maximum(wanted, down), current)
        return held.astype(np.int64)
