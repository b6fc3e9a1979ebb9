"""The predictive policy for one service: the public door to the fleet policy, with limits, schedules and words.

    policy = PredictivePolicy(Limits(max_replicas=20))
    decision = policy.decide(Observation(time=now, load=rate, ready=3, starting=0, cold_start=120, capacity=50))

It adds to the fleet policy what is particular to a single caller: bounds from schedules and GPU limits, odd input (time
that stands still or runs back a little repeats the last decision, time that runs back further begins anew), and the
explanation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from nereus.scaling import clock
from nereus.scaling.arrays import Ints
from nereus.scaling.experience import LEARNED_MINUTES, LEAST_MINUTES
from nereus.scaling.explain import explain
from nereus.scaling.features import DAY_LAGS
from nereus.scaling.fleet import FleetObservation, FleetPolicy
from nereus.scaling.protocol import (
    Decision,
    Explanation,
    History,
    LimitedBy,
    Limits,
    Objective,
    Observation,
    Phase,
    State,
)

LATEST_TIME = 1e11
"""Seconds since the epoch beyond this (the year 5138) are not a time but a mistake, such as milliseconds."""


def bounds(limits: Limits, local: datetime) -> tuple[int, int, bool, bool]:
    """Least and most replicas at a moment, and whether a schedule or the GPU limit is what binds."""
    active = [s for s in limits.schedules if s.active(local.weekday(), local.hour * 60 + local.minute)]
    least = max([limits.min_replicas, *(s.min_replicas for s in active if s.min_replicas is not None)])
    most = min([limits.max_replicas, *(s.max_replicas for s in active if s.max_replicas is not None)])
    scheduled = least != limits.min_replicas or most != limits.max_replicas
    by_gpu = False
    if limits.gpus is not None and limits.gpus_per_replica > 0:
        affordable = limits.gpus // limits.gpus_per_replica
        by_gpu, most = affordable < most, min(most, affordable)
    # Limits that contradict each other: the upper one is money and hardware, so it wins.
    most = max(0, most)
    return min(least, most), most, scheduled, by_gpu


def _number(value: float | None) -> float:
    try:
        number = math.nan if value is None else float(value)
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _count(value: int | None) -> int:
    number = _number(value)
    return -1 if math.isnan(number) or number < 0 else int(min(number, 1_000_000))


def offsets(time: float, zone: ZoneInfo) -> Ints:
    """Minutes east of UTC that clocks in a zone show now and 1, 2, ... days ago, as `FleetPolicy.decide` takes them."""
    days = np.arange(DAY_LAGS[-1] + 1)
    moments = (datetime.fromtimestamp(max(time - 86_400.0 * day, 0.0), zone).utcoffset() for day in days)
    return np.array([0 if east is None else int(east.total_seconds() // 60) for east in moments], np.int64)


class PredictivePolicy:
    """Decides for one service. Not thread-safe; deterministic; `time_zone` is where its users' clocks are."""

    def __init__(
        self, limits: Limits | None = None, objective: Objective | None = None, *, time_zone: str = "UTC"
    ) -> None:
        self.limits = limits or Limits()
        self.objective = objective or Objective()
        self._zone = ZoneInfo(time_zone)
        self._fleet = self._blank()
        self._last: Decision | None = None

    def _blank(self) -> FleetPolicy:
        """One that has learned nothing."""
        violations = min(max(_number(self.objective.violations), 1e-5), 0.5)
        latency = max(_number(self.objective.latency_seconds), 1e-3)
        return FleetPolicy(1, latency=np.array([latency]), violations=np.array([violations]))

    def decide(self, observation: Observation) -> Decision:
        """How many replicas there shall be. Time that is not newer than the last repeats the last decision; time that
        is more than a minute older says that one of the two was wrong, and all is learned anew."""
        time = _number(observation.time)
        if not 0 <= time < LATEST_TIME:
            time = math.nan
        if self._last is not None:
            step = clock.Step.STILL if math.isnan(time) else clock.step(self._last.time, time)
            if step is clock.Step.STILL:
                return self._last
            if step is clock.Step.LOST:
                self._fleet = self._blank()
        time = 0.0 if math.isnan(time) else time
        local = datetime.fromtimestamp(time, UTC).astimezone(self._zone)
        least, most, scheduled, by_gpu = bounds(self.limits, local)
        decided = self._fleet.decide(
            _as_fleet(observation, time),
            least=np.array([least]),
            most=np.array([most]),
            utc_offset=offsets(time, self._zone)[:, None],
        )
        self._last = Decision(
            time=time,
            replicas=int(decided.replicas[0]),
            explanation=explain(
                decided, 0, least=least, most=most, scheduled=scheduled, by_gpu=by_gpu, capacity=self._fleet.capacity[0]
            ),
        )
        return self._last

    def learn(self, history: History) -> None:
        """Starts with experience: call it once, before the first `decide`, with the loads of the past days."""
        known = sorted(
            (time, rate)
            for time, rate in zip(map(_number, history.times), map(_number, history.loads), strict=False)
            if math.isfinite(rate) and rate >= 0 and 0 <= time < LATEST_TIME
        )
        if not known:
            return
        minutes = np.array([int(time // 60) for time, _ in known], np.int64)
        rates = np.array([rate for _, rate in known])
        begin, end = max(int(minutes[0]), int(minutes[-1]) - LEARNED_MINUTES + 1), int(minutes[-1])
        lived = minutes >= begin
        capacity = _number(history.capacity)
        if np.unique(minutes[lived]).size < LEAST_MINUTES or not capacity > 0:
            self._fleet.learn_past(0, minutes, rates)
            return
        self._fleet.learn_past(0, minutes[~lived], rates[~lived])
        self._fleet.capacity[0], self._fleet.cold_start[0] = min(max(capacity, 1e-6), 1e9), _number(history.cold_start)
        by_minute = np.full(end - begin + 1, np.nan)
        by_minute[minutes[lived] - begin] = rates[lived]
        for minute in range(begin, end + 1):
            local = datetime.fromtimestamp(minute * 60, UTC).astimezone(self._zone)
            _, most, _, _ = bounds(self.limits, local)
            self._fleet.relive(
                minute,
                by_minute[minute - begin, None],
                np.array([most]),
                utc_offset=offsets(minute * 60, self._zone)[:, None],
            )

    def to_state(self) -> State:
        """Everything later decisions depend on, as JSON types."""
        return {"fleet": self._fleet.to_state(), "last": None if self._last is None else asdict(self._last)}

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, Any],
        limits: Limits | None = None,
        objective: Objective | None = None,
        *,
        time_zone: str = "UTC",
    ) -> PredictivePolicy:
        """A policy that goes on where the saved one stopped; raises `ValueError` for a damaged or foreign state."""
        policy = cls(limits, objective, time_zone=time_zone)
        policy._fleet.restore(state["fleet"])
        saved = state.get("last")
        if saved is not None:
            why = dict(saved["explanation"])
            why["limited_by"], why["phase"] = LimitedBy(why["limited_by"]), Phase(why["phase"])
            policy._last = Decision(time=saved["time"], replicas=saved["replicas"], explanation=Explanation(**why))
        return policy


def _as_fleet(seen: Observation, time: float) -> FleetObservation:
    return FleetObservation(
        time=time,
        load=np.array([_number(seen.load)]),
        queue=np.array([_number(seen.queue)]),
        ready=np.array([_count(seen.ready)]),
        starting=np.array([_count(seen.starting)]),
        cold_start=np.array([_number(seen.cold_start)]),
        capacity=np.array([_number(seen.capacity)]),
        late=np.array([_number(seen.late)]),
    )
