"""Learns from each complete minute and forecasts the windows ahead, for slices of the fleet.

A forecast is kept until its window has passed, then it is judged: the regression, the error histograms, the weights,
and the coverage of the published 95 % bound (online conformal: the level behind the bound moves until 95 % hold) all
learn from that one comparison. Nothing here knows replicas or prices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nereus.scaling import experts
from nereus.scaling.arrays import Bools, Floats, Ints, Singles
from nereus.scaling.features import COLUMNS, LONGEST, Windows, from_z, gather, realised
from nereus.scaling.memory import Memory
from nereus.scaling.mixture import Atoms, Mixture, context_of
from nereus.scaling.regression import SOLVE_EVERY, Regression

KEPT = LONGEST + 2
BOUND = 0.95
CONFORMAL_STEP = 0.02
SCORE_MEMORY = 1440.0
PEAK_FADE = np.float32(1 / (15 * 1440))
START_RATIO = 0.5
"""A replica may serve after half the 95th percentile of its cold start: earlier load cannot be bought any more."""
DELAY_SECONDS = 50.0
"""Scrape delay and the decision interval, rounded up: how much later than the cold start an order takes effect."""


def windows_for(cold_start: Floats) -> Windows:
    """The `start` and `keep` windows in minutes for each service."""
    capped = np.clip(cold_start, 1, 900)
    high = np.minimum(2 + np.floor((capped + DELAY_SECONDS) / 60), LONGEST).astype(np.int64)
    low = np.minimum(1 + np.floor((START_RATIO * capped + 22) / 60), high).astype(np.int64)
    return Windows(low=np.concatenate([low, np.ones_like(low)]), high=np.concatenate([high, high]))


@dataclass(frozen=True)
class Outlook:
    """What is expected: the distribution for the rows (`start` rows first), and for people the median and upper
    bound."""

    atoms: Atoms
    median: Floats
    bound: Floats


class Forecaster:
    """All learned state of the forecast; rows 2s and 2s + 1 are the two windows of service s.

    What was forecast waits in half precision until it is judged: predictions as their difference `above` the level
    `base`, so that 0.002 of z is lost at most.
    """

    def __init__(self, services: int) -> None:
        rows = 2 * services
        self.services = services
        self.regression = Regression(rows)
        self.mixture = Mixture(rows)
        self.made = np.full((KEPT, services), -1, np.int32)
        self.low = np.zeros((KEPT, rows), np.int8)
        self.high = np.zeros((KEPT, rows), np.int8)
        self.matrix = np.zeros((KEPT, rows, COLUMNS), np.float16)
        self.base = np.zeros((KEPT, rows), np.float32)
        self.above = np.zeros((KEPT, rows, len(experts.NAMES)), np.float16)
        self.context = np.zeros((KEPT, rows), np.int8)
        self.bounds = np.zeros((KEPT, services), np.float32)
        self.medians = np.zeros((KEPT, services), np.float32)
        self.peak = np.full(services, -np.inf, np.float32)
        self.miss = np.full(services, 1 - BOUND)
        self.judged = np.zeros(services)
        self.covered = np.zeros(services)
        self.error = np.zeros(services)
        self.size = np.zeros(services)

    def rows(self, services: Ints) -> Ints:
        """The rows of some services: all `start` windows first."""
        return np.concatenate([2 * services, 2 * services + 1])

    def learn(self, memory: Memory, minute: int, services: Ints, *, cold_start: Floats, capacity: Singles) -> None:
        """Judges the forecasts whose windows end with `minute`; `cold_start` and `capacity` are of the given
        services."""
        high = windows_for(cold_start).high[: len(services)]
        made = minute - high
        slot, rows = np.tile(made % KEPT, 2), self.rows(services)
        stored = Windows(low=self.low[slot, rows].astype(np.int64), high=self.high[slot, rows].astype(np.int64))
        truth = realised(memory, made, stored, capacity, services)
        fits = (self.made[made % KEPT, services] == made) & (stored.high[: len(services)] == high)
        usable = np.tile(fits, 2) & np.isfinite(truth)
        if not usable.any():
            return
        matrix, base = self.matrix[slot, rows].astype(np.float32), self.base[slot, rows]
        self.regression.learn(matrix, truth - base, rows, usable)
        predictions = base[:, None] + self.above[slot, rows]
        self.mixture.learn(predictions, truth, rows, self.context[slot, rows].astype(np.int64), usable)
        due = usable & (np.tile(services, 2) % SOLVE_EVERY == minute % SOLVE_EVERY)
        if due.any():
            self.regression.solve(rows[due])
        self._judge(services, made % KEPT, truth[len(services) :], usable[len(services) :])

    def forget_made(self, services: Bools) -> None:
        """Forecasts that were made for these services and not judged yet are never judged."""
        self.made[:, services] = -1

    def _judge(self, services: Ints, slot: Ints, truth: Singles, usable: Bools) -> None:
        services, slot, truth = services[usable], slot[usable], truth[usable]
        inside = truth <= self.bounds[slot, services]
        keep = 1 - 1 / SCORE_MEMORY
        step = CONFORMAL_STEP * (1 - BOUND - ~inside)
        self.miss[services] = np.clip(self.miss[services] + step, 0.002, 0.3)
        load = from_z(truth)
        self.judged[services] = self.judged[services] * keep + 1
        self.covered[services] = self.covered[services] * keep + inside
        self.error[services] = self.error[services] * keep + np.abs(from_z(self.medians[slot, services]) - load)
        self.size[services] = self.size[services] * keep + load

    def forecast(
        self,
        memory: Memory,
        minute: int,
        services: Ints,
        *,
        cold_start: Floats,
        capacity: Singles,
        day_shift: Ints,
        remember: bool,
    ) -> Outlook:
        """The windows after `minute`. With `remember` it will be judged later; without, it is a look in between."""
        windows, rows = windows_for(cold_start), self.rows(services)
        features = gather(
            memory,
            minute,
            services,
            windows=windows,
            capacity=capacity,
            day_shift=day_shift,
            peak=self.peak[services],
        )
        matrix = features.matrix()
        predictions = experts.predict(features, self.regression.predict(matrix, features.mean5, rows))
        if remember:
            self.peak[services] = np.fmax(self.peak[services] - PEAK_FADE, features.last[: len(services)])
        context = context_of(features, np.tile(self.peak[services], 2))
        atoms = self.mixture.distribution(predictions, rows, context)
        count = len(services)
        cumulative = atoms.weight[count:].cumsum(1)
        every = np.arange(count)
        last = atoms.z.shape[1] - 1
        middle = np.minimum((cumulative < 0.5).sum(1), last)
        upper = np.minimum((cumulative < 1 - self.miss[services][:, None]).sum(1), last)
        median, bound = atoms.z[count:][every, middle], atoms.z[count:][every, upper]
        if remember:
            slot = minute % KEPT
            self.made[slot, services] = minute
            self.low[slot, rows], self.high[slot, rows] = windows.low, windows.high
            self.matrix[slot, rows], self.base[slot, rows] = matrix, features.mean5
            self.above[slot, rows], self.context[slot, rows] = predictions - features.mean5[:, None], context
            self.bounds[slot, services], self.medians[slot, services] = bound, median
        return Outlook(atoms, from_z(median).astype(np.float64), from_z(bound).astype(np.float64))
