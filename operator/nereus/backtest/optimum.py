"""The cheapest any scaler could be: it knows every arrival, and may break the objective as often as the others may.

A dynamic program over replica counts with a price per late request (starting a replica costs its cold start, ending
one is free); the best price is found by bisection on the dual, so the value is a lower bound of the cost at the
allowed violations. Queues are not carried from one tick to the next, which only helps the optimum.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nereus.backtest.world import COLD_START_SPREAD, NORMAL_P95, TICK_SECONDS, Floats

LEVELS = 160
PRICES = np.geomspace(0.05, 400, 18)
"""Replica-seconds paid per replica-second of late requests; the dual is concave, so a coarse grid is close."""


def need_per_tick(arrivals: npt.NDArray[np.int32], capacity: float, *, wait: float) -> Floats:
    """Replicas (not rounded) with which no request of a tick waits longer than `wait`, when the tick starts empty."""
    ticks = len(arrivals) // TICK_SECONDS
    counts = arrivals[: ticks * TICK_SECONDS].reshape(ticks, TICK_SECONDS).astype(np.float64)
    summed = np.concatenate([np.zeros((ticks, 1)), counts.cumsum(1)], axis=1)
    need = np.zeros(ticks)
    for length in range(1, TICK_SECONDS + 1):
        most = (summed[:, length:] - summed[:, :-length]).max(1)
        need = np.maximum(need, most / (length + wait))
    return need / capacity


def optimum(
    arrivals: npt.NDArray[np.int32],
    *,
    capacity: float,
    cold_start_p95: float,
    violations: float,
    max_replicas: int,
    wait: float = 0.4,
    from_tick: int = 0,
) -> float:
    """Replica-seconds of the optimum from `from_tick` on, with at least one replica at any time."""
    arrivals = arrivals[from_tick * TICK_SECONDS :]
    need = np.ceil(need_per_tick(arrivals, capacity, wait=wait))
    need = np.clip(need, 1, max_replicas).astype(np.int64)
    load = arrivals[: len(need) * TICK_SECONDS].reshape(-1, TICK_SECONDS).sum(1) / capacity
    step = max(1, int(np.ceil(need.max() / LEVELS)))
    levels = np.arange(1, need.max() + step, step)
    mean_start = cold_start_p95 * np.exp(COLD_START_SPREAD**2 / 2 - COLD_START_SPREAD * NORMAL_P95)
    budget = violations * load.sum()
    climb = mean_start * levels[None, :]
    value = np.zeros((len(PRICES), len(levels)))
    hold = TICK_SECONDS * levels[None, :].astype(np.float64)
    reach = np.searchsorted(levels, need)
    late = PRICES[:, None] * load[None, :]
    for tick in range(len(need) - 1, -1, -1):
        here = value + hold
        here[:, : reach[tick]] += late[:, tick : tick + 1]
        # From level n one may go down for nothing, or up for a cold start each.
        up = np.minimum.accumulate((here + climb)[:, ::-1], axis=1)[:, ::-1] - climb
        value = np.minimum(np.minimum.accumulate(here, axis=1), up)
    dual = value[:, 0] - PRICES * budget
    return float(dual.max())
