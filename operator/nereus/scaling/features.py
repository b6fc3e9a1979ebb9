"""What a forecast may look at: recent levels, the same window of earlier days and weeks, the same phase of the hour.

All values are z = log(load + 0.1), load in replica-equivalents: a tenth of a replica is the smallest load worth telling
apart, since one replica always runs. What is predicted is the highest z in a window of minutes ahead, and there are two
windows per service: `keep` (from now to one cold start ahead: what runs now must carry it) and `start` (only what a
replica created now could still serve). A missing past says nothing: it becomes the present level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nereus.scaling.arrays import Bools, Ints, Singles
from nereus.scaling.memory import DAY, Memory

EPSILON = np.float32(0.1)
LONGEST = 18
"""Minutes ahead at most: the cold start is capped at 15 minutes."""
LEVEL_MINUTES = 15
DAY_LAGS = (1, 2, 3, 4, 5, 6, 7, 14)
PHASES = (60, 30, 15, 5)
REPEATS = 3
RECENT = 60


@dataclass(frozen=True, kw_only=True)
class Windows:
    """First and last minute ahead, one entry per row; rows 0..n-1 are `start`, rows n..2n-1 `keep` of n services."""

    low: Ints
    high: Ints

    def mask(self) -> Bools:
        """Which minutes ahead (1..LONGEST) belong to the window: shape (LONGEST, rows)."""
        ahead = np.arange(1, LONGEST + 1)[:, None]
        return np.asarray((ahead >= self.low) & (ahead <= self.high))


@dataclass(frozen=True, kw_only=True)
class Features:
    """Everything in z, one entry per row (see `Windows`). `*_known` says where a past was really there."""

    last: Singles
    previous: Singles
    before: Singles
    mean5: Singles
    mean15: Singles
    mean60: Singles
    highest5: Singles
    day_window: Singles
    day_level: Singles
    days_window: Singles
    days_level: Singles
    week_window: Singles
    week_level: Singles
    phases: Singles
    peak: Singles
    day_known: Bools
    week_known: Bools
    phase_known: Bools

    def matrix(self) -> Singles:
        """Regressors relative to the five-minute level, so that no past means zero: shape (rows, COLUMNS)."""
        base = self.mean5
        columns = [
            np.ones_like(base),
            self.last - base,
            self.previous - base,
            self.before - base,
            self.mean15 - base,
            self.mean60 - base,
            self.highest5 - base,
            self.day_window - self.day_level,
            self.days_window - self.days_level,
            self.week_window - self.week_level,
            self.day_window - base,
            self.days_window - base,
            self.week_window - base,
            *(phase - base for phase in self.phases),
        ]
        return np.stack(columns, axis=1).astype(np.float32)


COLUMNS = 13 + len(PHASES)


def to_z(load: Singles) -> Singles:
    """Load in replica-equivalents to z."""
    return np.log(np.maximum(load, 0) + EPSILON)


def from_z(z: Singles) -> Singles:
    """z to load in replica-equivalents."""
    return np.maximum(np.exp(z) - EPSILON, 0)


def _mean(values: Singles, axis: int) -> Singles:
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis, dtype=np.float32)
    count = known.sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.float32(np.nan)).astype(np.float32)


def _highest(values: Singles, mask: Bools) -> Singles:
    """Highest known value in the window, `nan` when nothing is known: `values` (..., LONGEST, rows)."""
    best = np.where(mask & np.isfinite(values), values, np.float32(-np.inf)).max(-2)
    return np.where(np.isfinite(best), best, np.float32(np.nan))


def realised(memory: Memory, minute: Ints, windows: Windows, capacity: Singles, services: Ints | slice) -> Singles:
    """z of the highest load in the windows that began after `minute` (per row); `nan` when no minute was measured."""
    count = len(capacity)
    ahead = np.arange(1, LONGEST + 1)[:, None]
    loads = memory.at(minute[None, :count] + ahead, services) / capacity
    return to_z(_highest(np.concatenate([loads, loads], axis=1), windows.mask()))


def gather(
    memory: Memory,
    minute: int,
    services: Ints | slice,
    *,
    windows: Windows,
    capacity: Singles,
    day_shift: Ints,
    peak: Singles,
) -> Features:
    """Looks up everything for the given services; `day_shift[lag, service]` corrects lags for daylight saving, in
    minutes; `peak` is the highest z that is still remembered."""
    twice = np.tile
    count = len(capacity)
    mask = windows.mask()
    recent = memory.at(np.broadcast_to(minute - np.arange(RECENT)[:, None], (RECENT, count)), services) / capacity
    level5 = _mean(recent[:5], 0)
    level5 = np.where(np.isfinite(level5), level5, _mean(recent, 0))
    level5 = np.where(np.isfinite(level5), level5, np.float32(0))

    def known(value: Singles, default: Singles) -> Singles:
        return np.where(np.isfinite(value), value, default)

    last = known(recent[0], level5)
    previous = known(recent[1], last)
    fifteen = known(_mean(recent[:15], 0), level5)
    highest5 = known(np.fmax.reduce(recent[:5], axis=0), level5)

    lags = np.array(DAY_LAGS)[:, None] * DAY + day_shift
    span = np.arange(1 - LEVEL_MINUTES, LONGEST + 1)
    past = memory.at(minute - lags[:, None, :] + span[None, :, None], services) / capacity
    level = to_z(_mean(past[:, :LEVEL_MINUTES], 1))
    ahead = past[:, LEVEL_MINUTES:]
    window = to_z(_highest(np.concatenate([ahead, ahead], axis=2), mask))
    level = np.concatenate([level, level], axis=1)
    days_window, days_level = _mean(window[:7], 0), _mean(level[:7], 0)
    weeks_window, weeks_level = _mean(window[6:], 0), _mean(level[6:], 0)
    z5, z15 = twice(to_z(level5), 2), twice(to_z(fifteen), 2)

    steps = np.arange(1, LONGEST + 1)
    backs = np.stack(
        [[-(-steps // period) * period + repeat * period - steps for repeat in range(REPEATS)] for period in PHASES]
    )
    same = memory.at(np.broadcast_to(minute - backs[..., None], (*backs.shape, count)), services) / capacity
    typical = _mean(same, 1)
    phases = to_z(_highest(np.concatenate([typical, typical], axis=2), mask))
    old_enough = twice(np.isfinite(memory.at(np.full((1, count), minute - 2 * 60), services)[0]), 2)
    return Features(
        last=twice(to_z(last), 2),
        previous=twice(to_z(previous), 2),
        before=twice(to_z(known(recent[2], previous)), 2),
        mean5=z5,
        mean15=z15,
        mean60=twice(to_z(known(_mean(recent, 0), level5)), 2),
        highest5=twice(to_z(highest5), 2),
        day_window=known(window[0], z5),
        day_level=known(level[0], z5),
        days_window=known(days_window, z5),
        days_level=known(days_level, z5),
        week_window=known(weeks_window, known(days_window, z5)),
        week_level=known(weeks_level, known(days_level, z5)),
        phases=np.where(np.isfinite(phases) & old_enough, phases, z5),
        peak=np.fmax(twice(peak, 2), z15),
        day_known=np.isfinite(days_window),
        week_known=np.isfinite(weeks_window),
        phase_known=old_enough,
    )
