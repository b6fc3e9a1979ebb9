"""Scalers that do not look: a constant number of replicas (static peak), and a schedule by hour of the day and week
day."""

from __future__ import annotations

import numpy as np

from nereus.backtest.world import Batch, Floats, Ints


class Static:
    """Always the same replicas, per row."""

    def __init__(self, replicas: Ints) -> None:
        self._replicas = replicas

    def decide(self, batch: Batch) -> Ints:
        """Replicas per row."""
        return np.where(batch.ready >= 0, self._replicas, 1)


class HourlySchedule:
    """A plan per hour (`plan[row, hour]`, hours from the start of the trace, repeated), as a person would set with
    cron."""

    def __init__(self, plan: Ints) -> None:
        self._plan = plan

    def decide(self, batch: Batch) -> Ints:
        """Replicas per row; the next hour's plan starts one cold start early."""
        hours = self._plan.shape[1]
        rows = np.arange(len(self._plan))
        now = int(batch.time // 3600) % hours
        soon = ((batch.time + batch.cold_start + 30) // 3600).astype(np.int64) % hours
        return np.asarray(np.maximum(self._plan[:, now], self._plan[rows, soon]))


def plan_from(loads_per_minute: Floats, target: float, *, period_hours: int) -> Ints:
    """A schedule from measured loads (minutes, in replicas): per hour of the period, the highest minute over
    `target`."""
    hours = loads_per_minute[: len(loads_per_minute) // 60 * 60].reshape(-1, 60).max(1)
    padded = np.full(-(-len(hours) // period_hours) * period_hours, -np.inf)
    padded[: len(hours)] = hours
    highest = padded.reshape(-1, period_hours).max(0)
    highest[~np.isfinite(highest)] = hours.max()
    return np.asarray(np.maximum(1, np.ceil(highest / target)), np.int64)
