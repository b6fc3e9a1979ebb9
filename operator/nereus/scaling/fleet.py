"""The policy for a whole fleet: one vectorised pass per tick. The single-service policy is this one with one service.

Every tick notes loads and decides; once a minute, spread over the ticks of the minute, each service is learned from and
forecast. A service whose load outgrew the last forecast is looked at again at once. Time comes with the observation;
there is no clock, no I/O and no randomness here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nereus.scaling import decision
from nereus.scaling.arrays import Bools, Floats, Ints, Singles, pack_all, unpack_all
from nereus.scaling.constant import Constant
from nereus.scaling.features import DAY_LAGS
from nereus.scaling.forecaster import Forecaster
from nereus.scaling.memory import DAY, Memory
from nereus.scaling.price import CONSTANT, DEAR, HEADROOM_SHARE, LADDER, PIPE, Prices, needs

SLICE = 2500
"""Services forecast per tick; larger fleets are spread over the ticks of a minute."""
PIECE = 250
"""Services forecast at once: enough for arrays to pay, few enough for what is computed meanwhile to stay small, and for
others who want the interpreter to get it soon."""
DEFAULT_COLD_START = 120.0
WAIT_SHARE = 0.8
"""Share of the latency objective that a request may spend waiting; the rest is service."""
HEADROOM_WAITS, HEADROOM_MOST = 2.0, 0.35
BEYOND, BEYOND_YOUNG = 1.7, 3.0
"""How far above the highest load ever seen (on the first day) the tails of the forecast are believed."""
FADE_HIGHEST = 1 - 1e-5
"""Of the highest load ever seen, at each tick."""
SCRAPE_SECONDS = 15.0
OTHER_UNITS = 2.0
"""A capacity that changed by this factor is another one: what was forecast in replicas meant something else."""
SETTLING_MINUTES = 5
"""A service without a past gives nothing away in its first minutes."""
TRUSTED_COVERAGE, TRUST_AFTER = 0.8, 60
"""Below this share of kept 95 % bounds (once sixty were judged) the forecast is not trusted and reaction joins in."""
STATE_VERSION = 6
LEARNED = ("_forecaster", "_prices", "_constant", "start", "keep", "median", "bound")
"""What a fleet learned and concludes from it, apart from the loads themselves and from what is there at present."""
EASE_SECONDS = 600.0
"""What is there when experience arrives goes by halves within this time, so that it never goes at once."""


@dataclass(frozen=True, kw_only=True)
class FleetObservation:
    """As `Observation`, with one entry per service; `nan` (or -1 for whole numbers) is missing."""

    time: float
    load: Floats
    queue: Floats
    ready: Ints
    starting: Ints
    cold_start: Floats
    capacity: Floats
    late: Floats


@dataclass(frozen=True, kw_only=True)
class FleetDecision:
    """Replicas and the parts of their explanation, one entry per service."""

    choice: decision.Choice
    load: Floats
    median: Floats
    bound: Floats
    price: Floats
    coverage: Floats
    error: Floats
    age_minutes: Ints
    horizon: Floats

    @property
    def replicas(self) -> Ints:
        """Wanted replicas."""
        return self.choice.replicas


class FleetPolicy:
    """All state of a fleet of `services`; bounds and wall-clock offsets may change at any tick."""

    def __init__(self, services: int, *, latency: Floats, violations: Floats) -> None:
        self._count = services
        self._latency, self._violations = latency, violations
        self._memory, self._forecaster, self._prices = Memory(services), Forecaster(services), Prices(services)
        self._constant = Constant(services)
        self.capacity = np.full(services, np.nan)
        self.cold_start = np.full(services, np.nan)
        self.highest = np.zeros(services)
        self.smooth = np.full(services, np.nan)
        self.seen_time = -1.0
        self.ready = np.zeros(services, np.int64)
        self.starting = np.zeros(services, np.int64)
        self.previous = np.ones(services, np.int64)
        self.minute_sum, self.minute_count = np.zeros(services), np.zeros(services)
        self.minute_late = np.zeros(services)
        self.late_known = np.zeros(services)
        self.last_mean, self.last_late = np.full(services, np.nan), np.full(services, np.nan)
        self.stuck_since = np.full(services, np.nan)
        self.offsets = np.zeros((DAY_LAGS[-1] + 1, services), np.int16)
        self.offset_day = -1
        self.start = np.zeros((len(LADDER), services), np.float32)
        self.keep = np.zeros((len(LADDER), services), np.float32)
        self.median, self.bound = np.full(services, np.nan), np.full(services, np.nan)
        self.low_since = np.full(services, np.nan)
        self.eased, self.eased_at = np.zeros(services), np.zeros(services)
        self.woke = 0
        self.todo = 0
        self.todo_minute = -1

    def decide(
        self, seen: FleetObservation, *, least: Ints, most: Ints, utc_offset: Ints | None = None
    ) -> FleetDecision:
        """One tick. `least` and `most` are the bounds of the moment, `utc_offset` wall-clock minutes east of UTC.

        Offsets may be given for the present alone, one per service, or with one row per day: row k is what the clock
        showed k days ago. Without those rows the past is taken to have had the offsets that were given then.
        """
        minute = int(seen.time // 60)
        load, late = self._take_in(seen)
        if minute > self._memory.minute:
            self._turn_minute(minute, most, utc_offset)
        rate = np.where(load == 0, 0.0, load * self.capacity)
        self.highest = np.fmax(self.highest * FADE_HIGHEST, np.nan_to_num(rate))
        self._memory.raise_to(rate)
        self._accumulate(load, late)
        if self.todo_minute >= 0:
            self._work_slice(most)
        capacity = np.where(np.isfinite(self.capacity), self.capacity, np.inf)
        headroom = self._headroom() * HEADROOM_SHARE[self._prices.rung]
        self._reflex(load, headroom, minute, most)
        every, rung = np.arange(self._count), self._prices.rung
        now = decision.Situation(
            load=load,
            queue=np.where(np.isfinite(seen.queue), np.maximum(seen.queue, 0), np.nan),
            ready=self.ready,
            starting=self.starting,
            previous=self.previous,
            cold_start=self._leads(),
            capacity=capacity,
            headroom=headroom,
        )
        stuck_for = np.where(np.isfinite(self.stuck_since), seen.time - self.stuck_since, 0.0)
        keep = self.keep[rung, every]
        present = self.ready + self.starting
        age = np.where(self._memory.first >= 0, minute - self._memory.first, -1)
        keep = np.where(age < SETTLING_MINUTES, np.maximum(keep, present), keep)
        eased = np.ceil(self.eased * 0.5 ** ((seen.time - self.eased_at) / EASE_SECONDS))
        keep = np.maximum(keep, np.minimum(present, eased))
        lower = keep < present
        self.low_since = np.where(lower, np.where(np.isfinite(self.low_since), self.low_since, seen.time), np.nan)
        coverage = self._forecaster.covered / np.maximum(self._forecaster.judged, 1)
        trusted = (age >= SETTLING_MINUTES) & ((coverage >= TRUSTED_COVERAGE) | (self._forecaster.judged < TRUST_AFTER))
        choice = decision.choose(
            now,
            start=self.start[rung, every],
            keep=keep,
            low_for=np.where(lower, seen.time - self.low_since, 0.0),
            least=least,
            most=most,
            stuck_for=stuck_for,
            trusted=trusted,
        )
        self.previous = choice.replicas
        return FleetDecision(
            choice=choice,
            load=load,
            median=self.median,
            bound=self.bound,
            price=self._prices.price(),
            coverage=np.where(self._forecaster.judged > 0, coverage, np.nan),
            error=np.where(
                self._forecaster.size > 0, self._forecaster.error / np.maximum(self._forecaster.size, 1e-9), np.nan
            ),
            age_minutes=age,
            horizon=self._leads(),
        )

    def _take_in(self, seen: FleetObservation) -> tuple[Floats, Floats]:
        """Keeps what is known about the services; returns load in replica-equivalents and lateness, cleaned."""
        usable = np.isfinite(seen.capacity) & (seen.capacity > 0)
        capacity = np.where(usable, np.clip(seen.capacity, 1e-6, 1e9), self.capacity)
        # A forecast in other units is not judged; the first capacity of all is such a change.
        self._forecaster.forget_made(usable & ~(np.abs(np.log(capacity / self.capacity)) < np.log(OTHER_UNITS)))
        self.capacity = capacity
        usable = np.isfinite(seen.cold_start) & (seen.cold_start > 0)
        self.cold_start = np.where(usable, seen.cold_start, self.cold_start)
        fewer = (seen.starting <= 0) | (seen.ready > self.ready)
        self.starting = np.where(seen.starting >= 0, np.minimum(seen.starting, 1_000_000), 0)
        # A count that is missing is taken as what was asked for.
        counted = np.minimum(seen.ready, 1_000_000)
        self.ready = np.where(seen.ready >= 0, counted, np.maximum(self.previous - self.starting, 0))
        self.stuck_since = np.where(fewer, np.nan, np.where(np.isfinite(self.stuck_since), self.stuck_since, seen.time))
        usable = np.isfinite(seen.load) & (seen.load >= 0) & (np.isfinite(self.capacity) | (seen.load == 0))
        load = np.where(usable, np.minimum(seen.load, 1e12), np.nan) / np.nan_to_num(self.capacity, nan=np.inf)
        # Without measured lateness, the share of looks at which the queue was too long says the same, coarsely.
        wait = np.minimum(seen.queue, 1e12) / np.maximum(self.ready * np.maximum(self.capacity, 1e-6), 1e-9)
        looked = np.where(np.isfinite(wait) & (self.ready > 0), wait > self._latency * WAIT_SHARE, np.nan)
        late = np.where(np.isfinite(seen.late), np.clip(seen.late, 0, 1), looked)
        load = np.minimum(load, 1e6)
        # Rates over less than a scrape interval are mostly chance: smoothed as if scraped every 15 s.
        passed = seen.time - self.seen_time if 0 <= self.seen_time < seen.time else SCRAPE_SECONDS
        self.seen_time = float(seen.time)
        weight = min(1.0, passed / SCRAPE_SECONDS)
        before = np.where(np.isfinite(self.smooth), self.smooth, load)
        smooth = np.where(np.isfinite(load), before + weight * (load - before), np.nan)
        self.smooth = np.where(np.isfinite(smooth), smooth, self.smooth)
        return smooth, late

    def _units(self, services: Ints) -> Singles:
        """Inferences per second of one replica. Infinite while that is unknown: in replicas the past then says nothing,
        rather than a number that would be as wrong as the guess."""
        return np.asarray(np.nan_to_num(self.capacity[services], nan=np.inf), np.float32)

    def _leads(self) -> Floats:
        return np.where(np.isfinite(self.cold_start), np.clip(self.cold_start, 1, 900), DEFAULT_COLD_START)

    def _softness(self) -> Floats:
        """How far below its replicas a load must stay for the queue of random arrivals to be short, in replicas.

        The wait in a queue with Poisson arrivals and even service falls off like exp(-2 (replicas - load) capacity
        wait).
        """
        softness = 1 / (2 * np.maximum(self.capacity, 1e-6) * np.maximum(self._latency * WAIT_SHARE, 1e-3))
        return np.asarray(np.clip(np.nan_to_num(softness, nan=0.02), 0.005, HEADROOM_MOST / HEADROOM_WAITS))

    def _headroom(self) -> Floats:
        return np.asarray(HEADROOM_WAITS * self._softness())

    def _accumulate(self, load: Floats, late: Floats) -> None:
        known = np.isfinite(load)
        self.minute_sum += np.where(known, load, 0)
        self.minute_count += known
        both = known & np.isfinite(late)
        self.minute_late += np.where(both, load * np.nan_to_num(late), 0)
        self.late_known += both

    def _turn_minute(self, minute: int, most: Ints, utc_offset: Ints | None) -> None:
        """Closes the minute that ended: what was not forecast yet is, then the next round is due."""
        while self.todo_minute >= 0:
            self._work_slice(most)
        with np.errstate(invalid="ignore"):
            count = np.where(self.minute_count > 0, self.minute_count, np.nan)
            self.last_mean = self.minute_sum / count
            late_count = np.where(self.late_known > 0, self.late_known, np.nan)
            self.last_late = self.minute_late / late_count
        self.woke = int(minute - self._memory.minute > 1)
        if self._memory.minute >= 0:
            self.todo, self.todo_minute = 0, self._memory.minute
            if minute - self._memory.minute > 1:
                self._prices.hold()
        self._memory.advance(minute)
        for total in (self.minute_sum, self.minute_count, self.minute_late, self.late_known):
            total[:] = 0
        if utc_offset is not None:
            self._note_offsets(minute // DAY, utc_offset)

    def _note_offsets(self, day: int, utc_offset: Ints) -> None:
        """Keeps what the clocks of the services showed on each of the last days; given rows are taken as they are."""
        if utc_offset.ndim == 2:
            self.offsets[: len(utc_offset)] = utc_offset[: len(self.offsets)]
        elif day == self.offset_day:
            self.offsets[0] = utc_offset
        else:
            passed = len(self.offsets) if self.offset_day < 0 else min(day - self.offset_day, len(self.offsets))
            self.offsets = np.roll(self.offsets, passed, axis=0)
            self.offsets[:passed] = utc_offset
        self.offset_day = day

    def _day_shift(self, services: Ints) -> Ints:
        """Minutes by which the same wall-clock time of an earlier day lies further back than whole days."""
        offsets = self.offsets[:, services].astype(np.int64)
        return np.asarray(offsets[list(DAY_LAGS)] - offsets[0])

    def _work_slice(self, most: Ints) -> None:
        begin, minute = self.todo, self.todo_minute
        self.todo = min(begin + SLICE, self._count)
        if self.todo == self._count:
            self.todo_minute = -1
        for first in range(begin, self.todo, PIECE):
            self._learn_and_forecast(np.arange(first, min(first + PIECE, self.todo)), minute, most)

    def _learn_and_forecast(self, services: Ints, minute: int, most: Ints) -> None:
        lead = self._leads()[services]
        capacity = self._units(services)
        self._forecaster.learn(self._memory, minute, services, cold_start=lead, capacity=capacity)
        start, keep = self._forecast(services, minute, most, remember=True)
        highest = self._memory.at(np.full((1, len(services)), minute), services)[0] / capacity
        wait = np.clip(np.ceil((0.8 * lead + 20) / 60), 1, PIPE - 2).astype(np.int64)
        self._prices.replay(
            minute,
            services,
            mean=self.last_mean[services],
            highest=highest.astype(np.float64),
            start=start,
            keep=keep,
            lead=wait,
            softness=self._softness()[services],
        )
        self._prices.measured(self.last_late[services], services)
        self._prices.choose(self._violations[services], services)
        self._constant.learn(services, mean=self.last_mean[services], highest=highest.astype(np.float64))
        self._constant.settle(
            services,
            violations=self._violations[services],
            spent=self._prices.spent[services],
            headroom=self._headroom()[services],
        )

    def _forecast(self, services: Ints, minute: int, most: Ints, *, remember: bool) -> tuple[Floats, Floats]:
        capacity = self._units(services)
        outlook = self._forecaster.forecast(
            self._memory,
            minute,
            services,
            cold_start=self._leads()[services],
            capacity=capacity,
            day_shift=self._day_shift(services),
            remember=remember,
        )
        likely = np.minimum(self._believable(minute, services) / capacity, most[services])
        worth = needs(outlook.atoms, np.tile(self._headroom()[services], 2), np.tile(likely, 2))
        seen = self._memory.first[services] >= 0
        start, keep = worth[:, : len(services)] * seen, worth[:, len(services) :] * seen
        for asked in (start, keep):
            asked[DEAR] = np.minimum(asked[DEAR], self._constant.limit[services])
            enough = np.minimum(self._constant.enough[services], most[services])
            asked[CONSTANT] = np.where(np.isfinite(enough), enough, asked[-1])
        self.start[:, services], self.keep[:, services] = start, keep
        self.median[services] = np.where(seen, outlook.median, np.nan)
        self.bound[services] = np.where(seen, outlook.bound, np.nan)
        return start, keep

    def _believable(self, minute: int, services: Ints) -> Floats:
        """The highest load worth insuring: somewhat above the highest ever seen, more so while little was seen."""
        young = minute - self._memory.first[services] < DAY
        return np.asarray(
            np.where(young, BEYOND_YOUNG, BEYOND) * self.highest[services]
            + np.nan_to_num(self.capacity[services], nan=1.0)
        )

    def _reflex(self, load: Floats, headroom: Floats, minute: int, most: Ints) -> None:
        """Looks again, at once, at services whose load is beyond what is there, and at all after a pause."""
        present = self.ready + self.starting
        short: Bools = np.isfinite(load) & (((load + headroom > present) & (present < most)) | self.woke)
        services = np.flatnonzero(short)
        for first in range(0, len(services), PIECE):
            self._forecast(services[first : first + PIECE], minute, most, remember=False)

    def promise(self, service: int, *, latency: float, violations: float) -> None:
        """Changes the objective of one service: seconds, and the share of requests that may take longer."""
        self._latency[service], self._violations[service] = latency, violations

    def learn_past(self, service: int, minutes: Ints, rates: Floats) -> None:
        """Gives one service its past (rates in inferences per second, per minute since the epoch)."""
        if self._memory.minute < 0 and len(minutes):
            self._memory.advance(int(minutes.max()) + 1)
        self._memory.put(service, minutes, rates)
        ticks_ago = np.maximum(self._memory.minute - minutes, 0) * (60 / SCRAPE_SECONDS)
        highest = np.nan_to_num(rates * FADE_HIGHEST**ticks_ago).max(initial=0.0)
        self.highest[service] = max(float(self.highest[service]), float(highest))

    @property
    def memory(self) -> Memory:
        """The loads that are known."""
        return self._memory

    def relive(
        self,
        minute: int,
        rates: Floats,
        most: Ints,
        *,
        utc_offset: Ints | None = None,
        judged: Bools | None = None,
    ) -> None:
        """One whole minute of a past that is known already, learned from at once: its rates in inferences per second
        (`nan`: unknown). Minutes come one after the other; what pods there were is not known and not asked.
        By minutes that are not `judged`, forecasts are, and prices are not.
        """
        self._memory.advance(minute)
        self._memory.raise_to(rates)
        self.highest = np.fmax(self.highest * FADE_HIGHEST ** (60 / SCRAPE_SECONDS), np.nan_to_num(rates))
        self.last_mean, self.last_late = np.minimum(rates / self.capacity, 1e6), np.full(self._count, np.nan)
        if judged is not None:
            self.last_mean[~judged] = np.nan
        if utc_offset is not None:
            self._note_offsets(minute // DAY, utc_offset)
        self.todo, self.todo_minute = 0, minute
        while self.todo_minute >= 0:
            self._work_slice(most)

    def judge_prices_anew(self) -> None:
        """What each price would have cost and kept so far no longer counts."""
        self._prices.judge_anew()

    def rewind(self, newest: int, minute: int) -> None:
        """Forgets all loads after a minute, and that any were there; `newest` is the last one that was kept."""
        self._memory.minute = newest
        self._memory.rewind(minute)
        self.highest = self._memory.highest(FADE_HIGHEST ** (60 / SCRAPE_SECONDS))

    def learned_until(self, services: Ints) -> Ints:
        """The minute that each of these services has learned from last; the one that runs is none."""
        waiting = (self.todo_minute >= 0) & (services >= self.todo)
        return np.where(waiting, self.todo_minute - 1, self._memory.minute - 1)

    def ease(self, services: Ints) -> None:
        """What runs and starts now may go from now on, but not at once."""
        self.eased[services] = (self.ready + self.starting)[services]
        self.eased_at[services] = self.seen_time

    def _parts(self) -> tuple[object, ...]:
        """Whatever has state."""
        learned = self._forecaster.regression, self._forecaster.mixture
        return self, self._memory, *self._memory.tiers(), self._forecaster, *learned, self._prices, self._constant

    def to_state(self) -> dict[str, Any]:
        """Everything later decisions depend on, as JSON types."""
        return {"version": STATE_VERSION, "services": self._count, "parts": [pack_all(part) for part in self._parts()]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Puts a saved state back; raises `ValueError` when it is of another version or size, or damaged."""
        if state.get("version") != STATE_VERSION or state.get("services") != self._count:
            raise ValueError(
                f"saved scaling state is of version {state.get('version')} for {state.get('services')} services; "
                f"this policy needs version {STATE_VERSION} for {self._count}: start without it"
            )
        for part, saved in zip(self._parts(), state["parts"], strict=True):
            unpack_all(part, saved)
