"""The loads of the past fifteen days of a whole fleet, one value per minute and service while it is young.

A minute keeps the highest rate seen within it, because that is what replicas have to carry. The last hours are kept as
they were; what is older moves on, in blocks of two hours, to where it costs less (`_Tier`): 18 KB per service for all
of it. A minute that was not measured is `nan`. Time is the minute number since the epoch; wall-clock seasons are
reached by lags that the caller corrects for daylight saving.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nereus.scaling.arrays import Array, Floats, Ints, Singles

DAY = 1440
DAYS = 15
BLOCK = 120
RECENT = 3 * BLOCK
"""Minutes kept as they were: three hours are compared by the phase of the hour, and a block moves on as a whole."""
WEEK = 8 * DAY
"""Until this age minutes are told apart, after that pairs of them: blurred edges of daily bursts cost a per cent."""
HIGHEST_RATE = 4e9
CURVE, STEPS = 255.0, 254
LEVELS = np.concatenate([[np.nan], np.expm1(np.log1p(CURVE) * np.arange(STEPS + 1) / STEPS) / CURVE]).astype(np.float32)
"""Shares of the highest rate of a block, by their code: steps of 2 % of what is told apart, finer near zero."""
SERVICES_AT_ONCE = 512


class _Tier:
    """Blocks of complete past, newest `blocks` of them: `codes[service, block % blocks, slot]` of `slot` minutes each
    say the highest rate as a share of `scale[service, block % blocks]`; code 0 is unknown."""

    def __init__(self, services: int, *, blocks: int, slot: int) -> None:
        self.blocks, self.slot = blocks, slot
        self.codes = np.zeros((services, blocks, BLOCK // slot), np.uint8)
        self.scale = np.zeros((services, blocks), np.float32)

    def at(self, minutes: Ints, services: Ints) -> Singles:
        """Rates at minutes whose blocks are here; `services` of the same shape."""
        place = minutes // BLOCK % self.blocks
        codes = self.codes[services, place, minutes % BLOCK // self.slot]
        return np.asarray(LEVELS[codes] * self.scale[services, place])

    def block(self, number: int, services: slice) -> tuple[Array, Singles]:
        """Codes and scales of one block."""
        return self.codes[services, number % self.blocks], self.scale[services, number % self.blocks]

    def keep(self, number: int, services: slice, codes: Array, scale: Singles) -> None:
        """Takes over a block of a finer tier, or one made by `coded`."""
        while codes.shape[1] > BLOCK // self.slot:
            codes = np.maximum(codes[:, ::2], codes[:, 1::2])
        self.codes[services, number % self.blocks], self.scale[services, number % self.blocks] = codes, scale

    def fill_in(self, service: int, first: int, rates: Floats) -> None:
        """Adds what is known to the blocks of one service from number `first` on: `rates[block, minute]`."""
        numbers = np.arange(first, first + len(rates)) % self.blocks
        known = LEVELS[self.codes[service, numbers]] * self.scale[service, numbers, None]
        slots = np.fmax.reduce(rates.reshape(len(rates), -1, self.slot), axis=2)
        self.codes[service, numbers], self.scale[service, numbers] = coded(np.fmax(known, slots))


def coded(rates: npt.NDArray[np.floating]) -> tuple[Array, Singles]:
    """Codes, and the scale of each row, of rates whose last axis runs over the minutes or slots of a block."""
    known = np.isfinite(rates)
    scale = np.where(known, rates, 0).max(-1).astype(np.float32)
    share = np.where(known, rates, 0) / np.maximum(scale, np.float32(1e-30))[..., None]
    codes = 1 + np.rint(np.log1p(CURVE * np.minimum(share, 1)) * (STEPS / np.log1p(CURVE)))
    return np.where(known, codes, 0).astype(np.uint8), scale


class Memory:
    """`recent[minute % RECENT, service]`, as the square root in half precision (0.05 % of rounding), and two tiers;
    `minute` is the newest minute that has an entry, -1 before the first."""

    def __init__(self, services: int) -> None:
        self.length = DAYS * DAY
        self.recent = np.full((RECENT, services), np.nan, np.float16)
        self.week = _Tier(services, blocks=WEEK // BLOCK, slot=1)
        self.older = _Tier(services, blocks=(self.length - WEEK) // BLOCK, slot=2)
        self.first = np.full(services, -1, np.int64)
        self.minute = -1

    def tiers(self) -> tuple[_Tier, ...]:
        """From young to old; each begins where the one before ends."""
        return self.week, self.older

    def advance(self, minute: int) -> None:
        """Makes `minute` the newest one; the minutes skipped on the way are unknown."""
        if self.minute < 0 or minute - self.minute >= self.length + BLOCK:
            self._forget_all()
            self.minute = minute
        while self.minute < minute:
            now = min(minute, (self.minute // BLOCK + 1) * BLOCK)
            if now % BLOCK == 0:
                # The block is complete once its last minutes, if skipped, are unknown too.
                self._unknown(self.minute + 1, now)
                self._move_on(now // BLOCK - 1)
            self._unknown(self.minute + 1, now + 1)
            self.minute = now

    def _forget_all(self) -> None:
        if self.minute >= 0:
            self.recent[:] = np.nan
            for tier in self.tiers():
                tier.codes[:], tier.scale[:] = 0, 0

    def _unknown(self, first: int, end: int) -> None:
        self.recent[np.arange(first, end) % RECENT] = np.nan

    def _move_on(self, number: int) -> None:
        """Block `number` is complete: it goes to the first tier, and in each one the oldest makes room."""
        rows = np.arange(number * BLOCK, (number + 1) * BLOCK) % RECENT
        for begin in range(0, len(self.first), SERVICES_AT_ONCE):
            services = slice(begin, begin + SERVICES_AT_ONCE)
            root = self.recent[rows, services].T.astype(np.float32)
            codes, scale = coded(root * root)
            leaving = number
            for tier in self.tiers():
                evicted, evicted_scale = (array.copy() for array in tier.block(leaving, services))
                tier.keep(leaving, services, codes, scale)
                codes, scale, leaving = evicted, evicted_scale, leaving - tier.blocks

    def raise_to(self, rates: Floats) -> None:
        """The newest minute saw these rates (`nan`: nothing measured); the highest of a minute stays."""
        row = self.recent[self.minute % RECENT]
        measured = np.isfinite(rates)
        self.first = np.where(measured & (self.first < 0), self.minute, self.first)
        root = np.sqrt(np.clip(np.where(measured, rates, 0), 0, HIGHEST_RATE)).astype(np.float16)
        self.recent[self.minute % RECENT] = np.where(measured, np.fmax(row, root), row)

    def put(self, service: int, minutes: Ints, rates: Floats) -> None:
        """Fills in the past of one service; minutes in the future or older than fifteen days are ignored."""
        oldest = max(self.minute - self.length + 1, (self.minute // BLOCK - self.length // BLOCK) * BLOCK)
        usable = (minutes <= self.minute) & (minutes >= oldest) & np.isfinite(rates) & (rates >= 0)
        if not usable.any():
            return
        minutes, rates = minutes[usable], np.clip(rates[usable], 0, HIGHEST_RATE)
        recent = minutes > self.minute - RECENT
        self.recent[minutes[recent] % RECENT, service] = np.sqrt(rates[recent]).astype(np.float16)
        first = int(minutes.min())
        begin, end = first // BLOCK, int(minutes.max()) // BLOCK + 1
        by_minute = np.full((end - begin) * BLOCK, np.nan)
        by_minute[minutes - begin * BLOCK] = rates
        newest = self.minute // BLOCK
        for tier in self.tiers():
            oldest_here, newest_here = max(begin, newest - tier.blocks), min(end, newest)
            if oldest_here < newest_here:
                blocks = by_minute.reshape(-1, BLOCK)[oldest_here - begin : newest_here - begin]
                tier.fill_in(service, oldest_here, blocks)
            newest -= tier.blocks
        known = int(self.first[service])
        self.first[service] = first if known < 0 else min(first, known)

    def at(self, minutes: Ints, services: Ints | slice) -> Singles:
        """Rates at the given minutes; the last axis of `minutes` runs over the services. Forgotten minutes are
        `nan`."""
        columns = np.broadcast_to(np.arange(len(self.first))[services], minutes.shape)
        age = self.minute - minutes
        if age.max(initial=0) < RECENT:
            return np.where(age >= 0, self._recent_at(minutes, columns), np.float32(np.nan))
        rates = np.full(minutes.shape, np.nan, np.float32)
        here = (age >= 0) & (age < RECENT)
        rates[here] = self._recent_at(minutes[here], columns[here])
        ago = np.where(age < RECENT, -1, self.minute // BLOCK - minutes // BLOCK)
        before = 0
        for tier in self.tiers():
            here = (ago > before) & (ago <= before + tier.blocks)
            if here.any():
                rates[here] = tier.at(minutes[here], columns[here])
            before += tier.blocks
        return rates

    def _recent_at(self, minutes: Ints, columns: Ints) -> Singles:
        root = self.recent[minutes % RECENT, columns].astype(np.float32)
        return root * root

    def highest(self, fade: float) -> Floats:
        """The highest rate of each service that is remembered, of which `fade` is left after every minute."""
        ago = np.arange(RECENT)
        root = np.nan_to_num(self.recent[(self.minute - ago) % RECENT].astype(np.float64))
        found = (root**2 * fade ** ago[:, None]).max(0)
        newest = self.minute // BLOCK
        for tier in self.tiers():
            numbers = newest - 1 - np.arange(tier.blocks)
            ended = self.minute + 1 - (numbers + 1) * BLOCK
            found = np.maximum(found, (tier.scale[:, numbers % tier.blocks] * fade**ended).max(1))
            newest -= tier.blocks
        return np.asarray(found)

    def rewind(self, minute: int) -> None:
        """Forgets what came after `minute`, which becomes the newest one again."""
        if minute >= self.minute:
            return
        every = len(self.first)
        ago = np.repeat(np.arange(RECENT)[:, None], every, axis=1)
        root = np.sqrt(self.at(minute - ago, slice(None))).astype(np.float16)
        moved: list[tuple[_Tier, int, Array, Singles]] = []
        held, holds = self.minute // BLOCK, minute // BLOCK
        for tier in self.tiers():
            held, holds = held - tier.blocks, holds - tier.blocks
            for number in range(holds, min(holds + tier.blocks, held)):
                minutes = np.repeat(number * BLOCK + np.arange(BLOCK)[:, None], every, axis=1)
                moved.append((tier, number, *coded(self.at(minutes, slice(None)).T)))
        for tier, number, codes, scale in moved:
            tier.keep(number, slice(None), codes, scale)
        self.recent[(minute - ago[:, 0]) % RECENT] = root
        self.first = np.where(self.first > minute, -1, self.first)
        self.minute = minute
