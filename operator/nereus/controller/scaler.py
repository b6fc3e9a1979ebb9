"""The scaling tick: every 15 seconds, for the whole fleet, from Prometheus to a decision in memory.

Every replica of the operator ticks, so that the one which takes over knows what its predecessor knew; only the holder
of the lease is told to carry decisions out (`wake`). The policy runs in a thread, beside the event loop. What it
learned is not kept across restarts: the past is read back from Prometheus, the newest day first, and then lived through
in short pieces between the ticks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from nereus.api.decision import ScalingDecision
from nereus.controller import statuswriter
from nereus.controller.metrics import Metrics
from nereus.controller.store import Key
from nereus.controller.subjects import Subject, Subjects
from nereus.diagnosis.decided import shown_alike
from nereus.prometheus.reading import Key as ReadingKey
from nereus.prometheus.reading import PastLoad, Reading, Wanted
from nereus.scaling.goal import Goal
from nereus.scaling.roster import Name, Roster, Seen

TICK_SECONDS = 15.0
STALE_SECONDS = 300.0
"""A decision older than this is none: the tick hangs. By the monotonic clock, which nobody sets."""
FIGURES_PER_SECOND = 15.0
"""Services a second, over the fleet, whose figures are shown anew; below the budget of status writes."""
NEW_SERVICES_SECONDS = 60.0
EXPERIENCE_SHARE = 0.25
"""Of one core, at most, for living through the past."""
EXPERIENCE_IDLE_SECONDS = 5.0
BREATH = 50
"""Services gone through before others may work: a millisecond."""

log = logging.getLogger(__name__)


class Reads(Protocol):
    """What is asked of Prometheus; `nereus.prometheus.reader.Reader` is it."""

    async def read(self, wanted: Sequence[Wanted]) -> Mapping[ReadingKey, Reading]: ...

    def history(self, wanted: Sequence[Wanted], *, days: float = 14) -> AsyncIterator[PastLoad]: ...


class Wake(Protocol):
    """Told that a decision is to be carried out now (`after` 0), or shown within so many seconds."""

    def __call__(self, key: Key, after: float) -> None: ...


class Scaler:
    """Ticks until cancelled; `decision` may be asked at any time."""

    def __init__(
        self,
        subjects: Subjects,
        reader: Reads,
        *,
        wake: Wake,
        metrics: Metrics,
        decided: Callable[[Mapping[Key, ScalingDecision]], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`decided` is told all decisions after each tick."""
        self._subjects = subjects
        self._reader = reader
        self._wake = wake
        self._metrics = metrics
        self._decided = decided
        self._clock = clock
        self._roster = Roster()
        self._working = asyncio.Lock()
        self._decisions: dict[Key, ScalingDecision] = {}
        self._past_known: set[Key] = set()
        self._beginnings = 0
        self.states: Counter[str] = Counter()
        self.history_share = 1.0
        self.ticked_at = time.monotonic()

    @property
    def decided_until(self) -> float:
        """Until when decisions hold if no tick ends any more, on the monotonic clock."""
        return self.ticked_at + STALE_SECONDS

    def tick_age_seconds(self) -> float:
        """How long ago the last tick ended."""
        return max(0.0, time.monotonic() - self.ticked_at)

    def decision(self, key: Key) -> ScalingDecision | None:
        """The newest decision on a service; None before its first tick, and when ticks hang."""
        found = self._decisions.get(key)
        return found if found is not None and self.tick_age_seconds() < STALE_SECONDS else None

    async def run(self) -> None:
        """Until cancelled. A tick that fails is logged, and the next one comes in time."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick_forever())
            group.create_task(self._learn_past_forever())
            group.create_task(self._gain_experience_forever())

    async def _tick_forever(self) -> None:
        while True:
            began = time.monotonic()
            try:
                await self.tick()
            except Exception:
                # One surprise must not end scaling for everybody; decisions turn stale and hold meanwhile.
                log.exception("the scaling tick failed")
            await asyncio.sleep(max(0.0, TICK_SECONDS - (time.monotonic() - began)))

    async def tick(self) -> None:
        """Reads, decides, and wakes what changed."""
        began = time.monotonic()
        subjects = dict(await self._subjects.refresh())
        readings: Mapping[ReadingKey, Reading] = {}
        if subjects:
            readings = await self._reader.read([subject.wanted for subject in subjects.values()])
        self.states = Counter(reading.state.value for reading in readings.values())
        services: dict[Name, tuple[Goal, Seen]] = {}
        async for key in _breathing(subjects):
            subject = subjects[key]
            services[key.namespace, key.name] = subject.goal, subject.seen(readings.get(ReadingKey(*key)))
        async with self._working:
            decided = await asyncio.to_thread(self._roster.decide, self._clock(), services)
        made = {Key(*name): decision for name, decision in decided.items()}
        self._past_known &= set(made)
        if self._beginnings != self._roster.beginnings:
            self._beginnings = self._roster.beginnings
            self._past_known = set()
            log.warning("the clock was set, or the process slept: what was learned is learned anew from the past")
        before, self._decisions = self._decisions, made
        self._decided(made)
        await self._tell(before, made)
        self.ticked_at = time.monotonic()
        self._metrics.ticks.observe(self.ticked_at - began)

    async def _tell(self, before: Mapping[Key, ScalingDecision], made: Mapping[Key, ScalingDecision]) -> None:
        later = max(statuswriter.FIGURES_SECONDS, len(made) / FIGURES_PER_SECOND)
        async for key in _breathing(made):
            known, decision = before.get(key), made[key]
            if known is None or _acted_upon(known) != _acted_upon(decision):
                if known is not None and known.replicas != decision.replicas:
                    log.info(
                        "decision %s: %d -> %d: %s",
                        decision.id,
                        known.replicas,
                        decision.replicas,
                        decision.message,
                        extra={"service": str(key), "decision": decision.id},
                    )
                self._wake(key, 0.0)
            elif not shown_alike(known, decision):
                self._wake(key, later)

    async def _learn_past_forever(self) -> None:
        while True:
            waiting = self._decisions.keys() - self._past_known
            new = {key: subject for key, subject in self._subjects.known().items() if key in waiting}
            if new:
                try:
                    await self._learn_past(new)
                except Exception:
                    log.exception("reading the past failed; it is tried again")
            await asyncio.sleep(NEW_SERVICES_SECONDS if self._decisions else 1.0)

    async def _learn_past(self, subjects: Mapping[Key, Subject]) -> None:
        """Pieces as they come: the newest day of every service first."""
        began, minutes, beginnings = time.monotonic(), 0, self._beginnings
        now = self._clock()
        async for piece in self._reader.history([subject.wanted for subject in subjects.values()]):
            key = Key(*piece.key)
            days = subjects[key].history_days
            kept = piece.minutes >= (now / 60 - days * 1440 if days else 0)
            known = kept & np.isfinite(piece.rates)
            minutes += int(known.sum())
            self.history_share = piece.share
            async with self._working:
                self._roster.learn_past((key.namespace, key.name), piece.minutes[known], piece.rates[known])
            await asyncio.sleep(0)  # many pieces come at once
        async with self._working:
            if beginnings == self._beginnings:
                self._past_known |= set(subjects)
                self._roster.past_complete((key.namespace, key.name) for key in subjects)
        self.history_share = 1.0
        log.info(
            "the past of %d services: %d minutes of load, read in %.1f s",
            len(subjects),
            minutes,
            time.monotonic() - began,
        )

    async def _gain_experience_forever(self) -> None:
        """Piece by piece; a tick waits for one piece at most."""
        while True:
            took, more = 0.0, False
            async with self._working:
                began = time.monotonic()
                try:
                    more = await asyncio.to_thread(self._roster.gain_experience)
                except Exception:
                    log.exception("learning from the past failed; the services concerned start without it")
                took = time.monotonic() - began
            await asyncio.sleep(took * (1 / EXPERIENCE_SHARE - 1) if more else EXPERIENCE_IDLE_SECONDS)


async def _breathing(keys: Iterable[Key]) -> AsyncIterator[Key]:
    """All of them, and now and then a chance for others to work. Nothing may be added or taken away meanwhile."""
    for number, key in enumerate(keys, 1):
        yield key
        if number % BREATH == 0:
            await asyncio.sleep(0)


def _acted_upon(decision: ScalingDecision) -> tuple[object, ...]:
    """What changes an object or a condition."""
    return (
        decision.replicas,
        decision.known,
        decision.least,
        decision.most,
        decision.limited_by,
        decision.metrics_ok,
        decision.trusted,
        bool(decision.hint),
    )
