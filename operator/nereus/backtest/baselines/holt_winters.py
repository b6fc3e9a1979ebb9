"""Holt-Winters with a daily season, as predictive-horizontal-pod-autoscaler uses it: fixed smoothing, max with
reactive.

It forecasts the replicas that the reactive rule asks for (as the original does), one cold start ahead, from the third
day on (the original returns nothing before two seasons). Steps are minutes.
"""

from __future__ import annotations

import numpy as np

from nereus.backtest.baselines.behaviour import Behaviour, average_value
from nereus.backtest.world import Batch, Floats, Ints

ALPHA, BETA, GAMMA = 0.9, 0.01, 0.9
SEASON_MINUTES = 1440


class HoltWinters:
    """`target` is the share of a replica's capacity aimed at, per row."""

    def __init__(self, target: Floats) -> None:
        rows = len(target)
        self._target = target
        self._behaviour = Behaviour()
        self._level, self._trend = np.full(rows, np.nan), np.zeros(rows)
        self._season = np.full((SEASON_MINUTES, rows), np.nan)
        self._minute = -1
        self._start = -1
        self._forecast = np.zeros(rows)

    def decide(self, batch: Batch) -> Ints:
        """Replicas per row."""
        reactive = average_value(batch, batch.load, self._target * batch.capacity)
        minute = int(batch.time // 60)
        if minute != self._minute and np.isfinite(batch.load).all():
            self._start = minute if self._start < 0 else self._start
            self._minute = minute
            self._learn(minute, np.ceil(batch.load / (self._target * batch.capacity)))
            ahead = (minute + np.maximum(1, np.ceil(batch.cold_start / 60)).astype(np.int64)) % SEASON_MINUTES
            season = self._season[ahead, np.arange(len(ahead))]
            ready = minute - self._start >= 2 * SEASON_MINUTES
            self._forecast = np.ceil(np.nan_to_num(self._level + self._trend + season)) if ready else self._forecast * 0
        recommendation = np.maximum(reactive, np.maximum(self._forecast, 0))
        return self._behaviour.apply(batch.ready + batch.starting, recommendation)

    def _learn(self, minute: int, value: Floats) -> None:
        slot = minute % SEASON_MINUTES
        if np.isnan(self._level).any():
            self._level = value.copy()
        if minute - self._start < SEASON_MINUTES:
            # The first season sets the shape around a slowly moving level.
            self._season[slot] = value - self._level
            self._level = self._level + (value - self._level) / 60
            return
        season = self._season[slot]
        level = ALPHA * (value - season) + (1 - ALPHA) * (self._level + self._trend)
        self._trend = BETA * (level - self._level) + (1 - BETA) * self._trend
        self._season[slot] = GAMMA * (value - level) + (1 - GAMMA) * season
        self._level = level
