"""The services of a cluster in one fleet: named services in, one decision each out. Pure; time passed in.

Here is what a cluster adds to the policy: services that come and go, bounds that a schedule changes, readings that may
raise a number of pods but not lower it, and pods that find no node. Not thread-safe: one tick at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias
from zoneinfo import ZoneInfo

import numpy as np

from nereus.api.decision import ScalingDecision
from nereus.scaling import clock, columns
from nereus.scaling.arrays import Ints
from nereus.scaling.experience import LEARNED_MINUTES, Experience, teaches
from nereus.scaling.explain import explain
from nereus.scaling.fleet import FleetDecision, FleetObservation
from nereus.scaling.goal import Goal
from nereus.scaling.guard import Guard
from nereus.scaling.protocol import Explanation, LimitedBy, Phase
from nereus.scaling.reactive import Reactive

Name: TypeAlias = tuple[str, str]
"""Namespace and name of a service."""
SPARE = 1.25
"""Columns are added for a quarter more services than there are, so that growing stays rare."""
FEWEST_COLUMNS = 16
TAUGHT_TOGETHER = 250
"""Services that live through their last day side by side: enough for arrays, few enough for a minute of it to be
short."""
FAULT_SECONDS = 40.0
"""A fault of the metrics that is shorter than this (two ticks and a bit) is held through, but not told."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is known about one service now; None is unknown, never zero.

    `rate` and `capacity` in inferences per second, `queue` in inferences, `late` a share. `may_lower` is false when the
    reading may be too low: then it only raises. `unplaced` are pods among `starting` that find no node. `metrics`,
    `fault` and `message` as in the reading: its state in one word, whether somebody has to repair something, what.
    """

    ready: int
    starting: int
    unplaced: int = 0
    cold_start: float | None = None
    rate: float | None = None
    capacity: float | None = None
    queue: float | None = None
    late: float | None = None
    may_lower: bool = True
    metrics: str = ""
    fault: bool = False
    message: str = ""
    hint: str = ""


@dataclass
class _Entry:
    """One service's place and what is remembered about it beside the policy."""

    column: int
    most: int = 1
    guard: Guard = field(default_factory=Guard)
    reactive: Reactive = field(default_factory=Reactive)
    fault_since: float = math.nan
    last: ScalingDecision | None = None


@dataclass
class _Lesson:
    """Services that live through their past now, in the order of their columns there; None: no longer."""

    entries: list[tuple[Name, _Entry] | None]
    experience: Experience


class Roster:
    """Decides for whatever services it is shown; `lived_minutes` of a past that was read are lived through."""

    def __init__(self, *, lived_minutes: int = LEARNED_MINUTES) -> None:
        self._lived_minutes = lived_minutes
        self._size = FEWEST_COLUMNS
        self._fleet = columns.blank(self._size)
        self._blank = columns.blank(1)
        self._entries: dict[Name, _Entry] = {}
        self._free = list(range(self._size))[::-1]
        self._now: float | None = None
        self.beginnings = 0
        """How often all was learned anew because the clock was set: the past is to be given again."""
        self._untaught: dict[Name, _Entry] = {}
        self._lesson: _Lesson | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def decide(self, now: float, services: Mapping[Name, tuple[Goal, Seen]]) -> dict[Name, ScalingDecision]:
        """One tick (`now`: seconds since the epoch) for exactly these services; others are forgotten. A clock that was
        set costs what was learned, as a restart does: nothing is given away at once, and soon again as usual."""
        now = self._follow(now)
        for name in [name for name in self._entries if name not in services]:
            self._free.append(self._entries.pop(name).column)
        self._reserve(len(services))
        for name in services:
            if name not in self._entries:
                self._entries[name] = self._place()
        least, most, offsets = self._bounds(now, services)
        decided = self._fleet.decide(self._observation(now, services), least=least, most=most, utc_offset=offsets)
        return {
            name: self._told(now=now, name=name, goal=goal, seen=seen, decided=decided, leasts=least, mosts=most)
            for name, (goal, seen) in services.items()
        }

    def learn_past(self, name: Name, minutes: Sequence[int], rates: Sequence[float]) -> None:
        """The past of a service that was shown already: inferences per second in each minute since the epoch."""
        entry = self._entries.get(name)
        if entry is not None and len(minutes):
            self._fleet.learn_past(entry.column, np.asarray(minutes, np.int64), np.asarray(rates, np.float64))

    def past_complete(self, names: Iterable[Name]) -> None:
        """All that can be known of the past of these services has been given: it is to be learned from."""
        self._untaught |= {name: self._entries[name] for name in names if name in self._entries}

    def gain_experience(self) -> bool:
        """A short piece (some hundredths of a second) of learning from the past; false when there is nothing to do
        now. A surprise ends the lesson, and its services stay as they are."""
        lesson, self._lesson = self._lesson or self._next_lesson(), None
        if lesson is None:
            return False
        same = lesson.experience.same_units(self._fleet)
        for index, taught in enumerate(lesson.entries):
            if taught is None:
                continue
            name, entry = taught
            gone = self._entries.get(name) is not entry
            if not gone and not same[index]:
                # Replicas meant something else: once more, with what they mean now.
                self._untaught[name] = entry
            if gone or not same[index]:
                lesson.entries[index] = None
        if not any(lesson.entries):
            return True
        moved = lesson.experience.step(self._fleet)
        arrived = lesson.experience.arrived(self._fleet)
        there = np.array([taught is not None for taught in lesson.entries])
        if (arrived & there).any():
            lesson.experience.hand_over(self._fleet, arrived & there)
            lesson.entries = [None if done else taught for done, taught in zip(arrived, lesson.entries, strict=True)]
        if any(lesson.entries):
            self._lesson = lesson
        return moved

    def _follow(self, now: float) -> float:
        """The time to decide at."""
        step = clock.step(self._now, now, ahead_seconds=clock.AHEAD_SECONDS)
        if step is clock.Step.STILL and self._now is not None:
            return self._now
        if step is clock.Step.LOST:
            self.beginnings += 1
            self._fleet = columns.blank(self._size)
            self._entries = {name: _Entry(entry.column, last=entry.last) for name, entry in self._entries.items()}
        self._now = now
        return now

    def _next_lesson(self) -> _Lesson | None:
        """The next services whose capacity is known; those whose past is too short are done without one."""
        self._untaught = {name: entry for name, entry in self._untaught.items() if self._entries.get(name) is entry}
        ready = [(n, e) for n, e in self._untaught.items() if math.isfinite(self._fleet.capacity[e.column])]
        ready = ready[:TAUGHT_TOGETHER]
        for name, _ in ready:
            del self._untaught[name]
        if ready:
            places = np.array([entry.column for _, entry in ready])
            long_enough = teaches(self._fleet, places, minutes=self._lived_minutes)
            ready = [taught for taught, enough in zip(ready, long_enough, strict=True) if enough]
        if not ready:
            return None
        most = np.array([entry.most for _, entry in ready])
        places = np.array([entry.column for _, entry in ready])
        return _Lesson([*ready], Experience(self._fleet, places, most=most, minutes=self._lived_minutes))

    def _reserve(self, services: int) -> None:
        if services <= self._size:
            return
        size = math.ceil(services * SPARE)
        columns.resize(self._fleet, size)
        self._free = [*range(self._size, size)][::-1] + self._free
        self._size = size

    def _place(self) -> _Entry:
        column = self._free.pop()
        columns.copy(self._blank, np.zeros(1, np.int64), self._fleet, np.array([column]))
        return _Entry(column)

    def _bounds(self, now: float, services: Mapping[Name, tuple[Goal, Seen]]) -> tuple[Ints, Ints, Ints]:
        least, most = np.ones(self._size, np.int64), np.ones(self._size, np.int64)
        offsets = np.zeros(self._size, np.int64)
        moment = datetime.fromtimestamp(now, UTC)
        for name, (goal, _) in services.items():
            column = self._entries[name].column
            least[column], most[column] = goal.bounds(moment)
            self._entries[name].most = goal.max_replicas
            offset = moment.astimezone(ZoneInfo(goal.time_zone)).utcoffset()
            offsets[column] = int(offset.total_seconds() // 60) if offset is not None else 0
            self._fleet.promise(column, latency=goal.latency, violations=goal.violations)
        return least, most, offsets

    def _observation(self, now: float, services: Mapping[Name, tuple[Goal, Seen]]) -> FleetObservation:
        rows = {key: np.full(self._size, np.nan) for key in ("load", "queue", "cold", "capacity", "late")}
        ready, starting = np.zeros(self._size, np.int64), np.zeros(self._size, np.int64)
        for name, (goal, seen) in services.items():
            column = self._entries[name].column
            capacity = goal.capacity or seen.capacity
            ready[column], starting[column] = seen.ready, seen.starting
            rows["load"][column] = _number(seen.rate if _usable(seen, capacity) else None)
            rows["queue"][column] = _number(seen.queue)
            rows["late"][column] = _number(seen.late)
            rows["capacity"][column] = _number(capacity)
            rows["cold"][column] = _number(goal.horizon or seen.cold_start)
        return FleetObservation(
            time=now,
            load=rows["load"],
            queue=rows["queue"],
            ready=ready,
            starting=starting,
            cold_start=rows["cold"],
            capacity=rows["capacity"],
            late=rows["late"],
        )

    def _told(
        self,
        *,
        now: float,
        name: Name,
        goal: Goal,
        seen: Seen,
        decided: FleetDecision,
        leasts: Ints,
        mosts: Ints,
    ) -> ScalingDecision:
        entry = self._entries[name]
        column = entry.column
        least, most = int(leasts[column]), int(mosts[column])
        scheduled = (least, most) != (goal.min_replicas, goal.max_replicas)
        by_gpu = goal.gpu_limited and most == goal.max_replicas
        capacity = goal.capacity or seen.capacity
        why = explain(
            decided,
            column,
            least=least,
            most=most,
            scheduled=scheduled,
            by_gpu=by_gpu,
            capacity=_number(capacity),
            in_words=False,
        )
        known = not bool(decided.choice.unknown[column])
        wanted = int(decided.replicas[column])
        if goal.reactive:
            wanted = entry.reactive.wanted(now, why.load if known else None, seen.ready + seen.starting, wanted)
            wanted = max(least, min(wanted, most))
        allowed = entry.guard.allowed(now, wanted, ready=seen.ready, starting=seen.starting, unplaced=seen.unplaced)
        limited = why.limited_by
        if allowed < wanted:
            wanted, limited = max(least, allowed), LimitedBy.PENDING_REPLICAS
        if goal.reactive:
            # What the forecast says about itself is no part of this decision.
            limited = _clamped(limited, wanted, bounds=(least, most), scheduled=scheduled, by_gpu=by_gpu)
        told, fault = self._metrics(entry, now, seen)
        last = entry.last
        same = last is not None and (last.replicas, last.limited_by) == (wanted, limited.value)
        decision = ScalingDecision(
            id=last.id if last is not None and same else f"{int(now):x}-{column:x}",
            at=now,
            replicas=wanted,
            known=known,
            least=least,
            most=most,
            message=_sentence(goal, why, seen, limited=limited, bounds=(least, most), guard=entry.guard),
            limited_by=limited.value,
            load=why.load,
            capacity=_finite(capacity),
            reactive=why.reactive if known else None,
            forecast=None if goal.reactive else why.forecast,
            forecast_high=None if goal.reactive else why.forecast_high,
            horizon_seconds=None if goal.reactive else why.horizon_seconds,
            error=None if goal.reactive else why.error,
            trusted=None if goal.reactive else _trusted(why.phase),
            trust_message="" if goal.reactive else _trust(why),
            metrics=seen.metrics,
            metrics_ok=told,
            metrics_message=fault,
            hint=seen.hint,
        )
        entry.last = decision
        return decision

    @staticmethod
    def _metrics(entry: _Entry, now: float, seen: Seen) -> tuple[bool | None, str]:
        """Whether the metrics are to be believed, and what is wrong; a short fault is not told."""
        if not seen.fault:
            entry.fault_since = math.nan
            return (True if seen.may_lower else None), seen.message
        if math.isnan(entry.fault_since):
            entry.fault_since = now
        before = entry.last.metrics_ok if entry.last else None
        return (False if now - entry.fault_since >= FAULT_SECONDS else before), seen.message


def _usable(seen: Seen, capacity: float | None) -> bool:
    """Whether a load may be decided upon: one that may be too low only when it is more than what is there."""
    if seen.rate is None:
        return False
    if not capacity:  # without any load nothing was measured yet, and any capacity says the same: no load
        return seen.rate == 0 and seen.may_lower
    return seen.may_lower or seen.rate / capacity > seen.ready + seen.starting


def _clamped(limited: LimitedBy, wanted: int, *, bounds: tuple[int, int], scheduled: bool, by_gpu: bool) -> LimitedBy:
    least, most = bounds
    if limited in (LimitedBy.PENDING_REPLICAS, LimitedBy.UNKNOWN_LOAD):
        return limited
    if wanted >= most:
        return LimitedBy.GPU_LIMIT if by_gpu else LimitedBy.SCHEDULE if scheduled else LimitedBy.MAX_REPLICAS
    return LimitedBy.MIN_REPLICAS if wanted <= least else LimitedBy.NOTHING


def _trusted(phase: Phase) -> bool | None:
    return {Phase.UNTRUSTED: False, Phase.TRUSTED: True, Phase.FIRST_DAY: True}.get(phase)


def _trust(why: Explanation) -> str:
    return {
        Phase.NO_DATA: "no load was seen yet",
        Phase.FIRST_HOUR: "less than an hour of load is known: reacting, with a wide margin",
        Phase.FIRST_DAY: "less than a day of load is known: no daily season yet",
        Phase.TRUSTED: "its bounds hold",
        Phase.UNTRUSTED: f"its bounds held only {100 * (why.coverage or 0):.0f} % of the time: reacting to the present"
        " load until they hold again",
    }[why.phase]


def _sentence(
    goal: Goal, why: Explanation, seen: Seen, *, limited: LimitedBy, bounds: tuple[int, int], guard: Guard
) -> str:
    """Why that many, e.g. `forecast 3.6 replicas at +210 s (cold start p95 190 s); limited by maxReplicas 4`."""
    if limited is LimitedBy.UNKNOWN_LOAD:
        reason = seen.message or "the load is not known yet"
        return f"{reason}; nothing is taken away meanwhile"
    least, most = bounds
    parts = [f"load {why.load:.2g} replicas" if why.load is not None else "load unknown"]
    if not goal.reactive and why.forecast_high is not None and why.forecast is not None:
        horizon = f"+{why.horizon_seconds:.0f} s"
        start = f" (cold start p95 {seen.cold_start:.0f} s)" if seen.cold_start and not goal.horizon else ""
        parts.append(f"forecast {why.forecast:.2g}, at most {why.forecast_high:.2g} replicas at {horizon}{start}")
    limit = {
        LimitedBy.MIN_REPLICAS: f"held by minReplicas {least}",
        LimitedBy.MAX_REPLICAS: f"limited by maxReplicas {most}",
        LimitedBy.SCHEDULE: f"a schedule allows {least} to {most}",
        LimitedBy.GPU_LIMIT: f"limited to {most} by scaling.limits.gpus",
        LimitedBy.PENDING_REPLICAS: guard.reason or "pods that do not start hold back more of them",
    }.get(limited)
    sentence = ", ".join(parts)
    return f"{sentence}; {limit}" if limit else sentence


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


__all__ = ["Goal", "Name", "Roster", "Seen"]
