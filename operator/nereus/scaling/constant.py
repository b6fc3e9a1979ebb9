"""How many replicas, kept all the time, would have kept the objective: more than that is never worth paying for.

Bursts out of nothing are insured by replicas that wait for them. What a forecast says about their height is coarse, so
a high price buys more than anybody needs; the past tells it exactly. Each service keeps a histogram of its loads of the
last two days (by the load itself, because requests are late, not minutes). The constant that it gives limits what the
dear prices ask for, while less than the allowed share is late: once the budget is gone, or where a load outgrows its
past, the forecast alone decides. Where no forecast keeps the objective by far, it is what is asked for (`price.py`).
"""

from __future__ import annotations

import numpy as np

from nereus.scaling.arrays import Floats, Ints

BINS, LOWEST, STEP = 256, 0.05, 1.05
"""Bins of five per cent from a twentieth of a replica up to thirteen thousand."""
MEMORY_MINUTES = 2 * 1440.0
LEAST_MINUTES = 1440.0
"""A day has to be known before its nights and bursts are."""
ABOVE_SHARE = 0.5
"""Share of the allowed violations that the constant may cause by itself; the rest is for chance and cold starts."""
UNSPENT = 0.9
"""It limits while at most this share of the allowed violations is used."""


class Constant:
    """Per service: load that came in minutes of each height, how many replicas would have been `enough` (`nan`: not
    known), and the limit that follows (`inf`: none)."""

    def __init__(self, services: int) -> None:
        self.mass = np.zeros((BINS, services), np.float32)
        self.minutes = np.zeros(services)
        self.limit = np.full(services, np.inf)
        self.enough = np.full(services, np.nan)

    def learn(self, services: Ints, *, mean: Floats, highest: Floats) -> None:
        """One minute: its mean load falls into the bin of its highest; unknown minutes change nothing."""
        known = np.isfinite(mean) & np.isfinite(highest)
        services, mean, highest = services[known], mean[known], highest[known]
        height = np.floor(np.log(np.maximum(highest, LOWEST) / LOWEST) / np.log(STEP)).astype(np.int64)
        self.mass[:, services] *= np.float32(1 - 1 / MEMORY_MINUTES)
        self.mass[np.clip(height, 0, BINS - 1), services] += mean.astype(np.float32)
        self.minutes[services] += 1

    def settle(self, services: Ints, *, violations: Floats, spent: Floats, headroom: Floats) -> None:
        """New limits. `spent` is the share of requests late in the remembered past, `headroom` is for random arrivals,
        in replicas."""
        from_here_up = self.mass[::-1, services].cumsum(0)[::-1]
        heights = (from_here_up > ABOVE_SHARE * violations * from_here_up[0]).sum(0)
        enough = np.ceil(LOWEST * STEP**heights + headroom - 1e-4)
        known = (self.minutes[services] > LEAST_MINUTES) & (heights < BINS)
        applies = known & (spent <= UNSPENT * violations)
        self.enough[services] = np.where(known, enough, np.nan)
        self.limit[services] = np.where(applies, enough, np.inf)
