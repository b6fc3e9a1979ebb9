"""The loads of the past fifteen days of a whole fleet, one value per minute and service, in a ring.

A minute keeps the highest rate seen within it, because that is what replicas have to carry. Values are stored as the
square root in half precision (0.05 % of rounding, 43 KB per service). A minute that was not measured is `nan`. Time
is the minute number since the epoch; wall-clock seasons are reached by lags that the caller corrects for daylight
saving.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nereus.scaling.arrays import Floats, Ints

DAY = 1440
DAYS = 15


class Memory:
    """`ring[minute % length, service]`; `minute` is the newest minute that has an entry, -1 before the first."""

    def __init__(self, services: int) -> None:
        self.length = DAYS * DAY
        self.ring = np.full((self.length, services), np.nan, np.float16)
        self.first = np.full(services, -1, np.int64)
        self.minute = -1

    def advance(self, minute: int) -> None:
        """Makes `minute` the newest one; the minutes skipped on the way are unknown."""
        if self.minute >= 0:
            skipped = min(minute - self.minute, self.length)
            self.ring[(minute - np.arange(skipped)) % self.length] = np.nan
        self.minute = minute

    def raise_to(self, rates: Floats) -> None:
        """The newest minute saw these rates (`nan`: nothing measured); the highest of a minute stays."""
        row = self.ring[self.minute % self.length]
        measured = np.isfinite(rates)
        self.first = np.where(measured & (self.first < 0), self.minute, self.first)
        root = np.sqrt(np.clip(np.where(measured, rates, 0), 0, 4e9)).astype(np.float16)
        self.ring[self.minute % self.length] = np.where(measured, np.fmax(row, root), row)

    def put(self, service: int, minutes: Ints, rates: Floats) -> None:
        """Fills in the past of one service; minutes in the future or older than the ring are ignored."""
        usable = (minutes <= self.minute) & (minutes > self.minute - self.length) & np.isfinite(rates) & (rates >= 0)
        if not usable.any():
            return
        minutes, rates = minutes[usable], rates[usable]
        self.ring[minutes % self.length, service] = np.sqrt(np.clip(rates, 0, 4e9)).astype(np.float16)
        first = int(minutes.min())
        known = int(self.first[service])
        self.first[service] = first if known < 0 else min(first, known)

    def at(self, minutes: Ints, services: Ints | slice) -> npt.NDArray[np.float32]:
        """Rates at the given minutes; the last axis of `minutes` runs over the services. Forgotten minutes are
        `nan`."""
        columns = np.arange(self.ring.shape[1])[services]
        root = self.ring[minutes % self.length, columns].astype(np.float32)
        known = (minutes <= self.minute) & (minutes > self.minute - self.length)
        return np.where(known, root * root, np.float32(np.nan))
