"""A simulated cluster, hard and fair: many rows (policies, settings, scenarios) side by side on the same draws.

Requests arrive as a Poisson process counted per second; replicas serve a common queue; a new replica serves after a
cold start drawn from a distribution of which policies know only the 95th percentile; rates are seen one scrape late;
a replica costs from its creation until its end. It does not model retries, or requests of different size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TICK_SECONDS = 15
RING_SECONDS = 1920
"""Longest cold start that the ring of starting replicas can hold; a multiple of the tick."""
GIVE_UP_SECONDS = 30.0
"""A request that would wait longer is abandoned (it was late already), so that an overload ends when the load does."""
COLD_START_SPREAD = 0.25
"""Sigma of the log-normal cold start: p50 is 0.66 of p95, about what model loads show once images are cached."""
NORMAL_P95 = 1.6448536


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One observation per row, as arrays of the same length."""

    time: float
    load: Floats
    utilisation: Floats
    queue: Floats
    ready: Ints
    starting: Ints
    cold_start: Floats
    capacity: Floats
    late: Floats


class BatchPolicy(Protocol):
    """A scaler that decides for all rows at once; `nan` in a load means not measured."""

    def decide(self, batch: Batch) -> Ints:
        """Replicas wanted, per row."""
        ...


@dataclass(frozen=True, kw_only=True)
class Row:
    """The world of one row. `arrivals` holds requests per second of the trace, drawn once and shared between rows."""

    arrivals: npt.NDArray[np.int32]
    cold_start_p95: float
    capacity: float
    min_replicas: int = 1
    max_replicas: int = 100
    initial: int = 1


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What happened, per row; `*_by_hour` have shape (rows, hours), `*_by_minute` (rows, minutes) when recorded."""

    requests_by_hour: Floats
    late_by_hour: Floats
    replica_seconds_by_hour: Floats
    started_by_hour: Floats
    wanted_by_minute: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    ready_by_minute: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    def violations(self, start_hour: int) -> Floats:
        """Share of late requests from that hour on."""
        return np.asarray(
            self.late_by_hour[:, start_hour:].sum(1) / np.maximum(self.requests_by_hour[:, start_hour:].sum(1), 1)
        )

    def replica_seconds(self, start_hour: int) -> Floats:
        """Replica-seconds paid from that hour on."""
        return np.asarray(self.replica_seconds_by_hour[:, start_hour:].sum(1))

    def worst_hour(self, start_hour: int) -> Floats:
        """Highest share of late requests in an hour that carries at least a tenth of an average hour's requests."""
        requests, late = self.requests_by_hour[:, start_hour:], self.late_by_hour[:, start_hour:]
        counts = requests >= 0.1 * requests.mean(1, keepdims=True)
        return np.asarray(np.where(counts, late / np.maximum(requests, 1), 0).max(1))


def draw_arrivals(rates: Floats, *, seed: int) -> npt.NDArray[np.int32]:
    """Requests in each second, Poisson, for the given rates per second."""
    return np.random.default_rng(seed).poisson(np.maximum(rates, 0)).astype(np.int32)


class World:
    """Replays rows in lockstep; every array has one entry per row."""

    def __init__(self, rows: list[Row], *, seed: int, wait_seconds: float = 0.4) -> None:
        seconds = min(len(row.arrivals) for row in rows) // TICK_SECONDS * TICK_SECONDS
        distinct = {id(row.arrivals): row.arrivals for row in rows}
        place = {key: index for index, key in enumerate(distinct)}
        self._arrivals = np.stack([array[:seconds] for array in distinct.values()], axis=1)
        self._which = np.array([place[id(row.arrivals)] for row in rows])
        self._p95 = np.array([row.cold_start_p95 for row in rows])
        self._capacity = np.array([row.capacity for row in rows])
        self._min = np.array([row.min_replicas for row in rows])
        self._max = np.array([row.max_replicas for row in rows])
        self._initial = np.array([row.initial for row in rows])
        self._wait = wait_seconds
        self.ticks = seconds // TICK_SECONDS
        normal = np.random.default_rng(seed + 1).standard_normal(self.ticks + 257)
        self._draws = np.exp(COLD_START_SPREAD * (normal - NORMAL_P95))

    def run(self, policy: BatchPolicy, *, start_time: float = 0.0, record: bool = False) -> Outcome:
        """The whole trace under one policy; the policy must decide for as many rows as the world has."""
        count = len(self._p95)
        hours = -(-self.ticks * TICK_SECONDS // 3600)
        sums, hour_sums = np.zeros((4, count, hours)), np.zeros((4, count))
        minutes = self.ticks * TICK_SECONDS // 60 + 1 if record else 0
        wanted_minutes, ready_minutes = np.zeros((count, minutes)), np.zeros((count, minutes))
        ready, starting = np.minimum(self._initial, self._max), np.zeros(count, np.int64)
        due = np.zeros((count, RING_SECONDS), np.int32)
        backlog = np.zeros(count)
        seen = [np.full(count, np.nan)] * 2
        used = [np.full(count, np.nan)] * 2
        late_seen = np.full(count, np.nan)
        for tick in range(self.ticks):
            second = tick * TICK_SECONDS
            batch = Batch(
                time=start_time + second,
                load=seen[0],
                utilisation=used[0],
                queue=backlog,
                ready=ready,
                starting=starting,
                cold_start=self._p95,
                capacity=self._capacity,
                late=late_seen,
            )
            wanted = np.clip(policy.decide(batch), self._min, self._max)
            change = wanted - ready - starting
            if change.max() > 0:
                self._start(due, np.maximum(change, 0), tick)
            if change.min() < 0:
                ready = ready - _stop(due, ready, starting, np.maximum(-change, 0), second)
            starting = wanted - ready
            slot = second % RING_SECONDS
            arrived_ready = due[:, slot : slot + TICK_SECONDS].T
            serving = ready + arrived_ready.cumsum(0)
            starting = starting + ready - serving[-1]
            due[:, slot : slot + TICK_SECONDS] = 0
            ready = serving[-1]
            arrivals = self._arrivals[second : second + TICK_SECONDS].take(self._which, axis=1)
            rate = serving * self._capacity
            queue, late = _serve(arrivals, rate, backlog, self._wait)
            total = arrivals.sum(0)
            served = backlog + total - queue
            backlog = np.minimum(queue, GIVE_UP_SECONDS * rate[-1])
            hour_sums += (total, late, wanted * TICK_SECONDS, np.maximum(change, 0))
            if (second + TICK_SECONDS) % 3600 == 0 or tick == self.ticks - 1:
                sums[:, :, second // 3600] = hour_sums
                hour_sums[:] = 0
            seen = [seen[1], total / TICK_SECONDS]
            used = [used[1], np.minimum(served / np.maximum(rate.sum(0), 1e-9), 1.0)]
            late_seen = late / np.maximum(total, 1)
            if record:
                minute = second // 60
                wanted_minutes[:, minute] = np.maximum(wanted_minutes[:, minute], wanted)
                ready_minutes[:, minute] = ready
        return Outcome(
            requests_by_hour=sums[0],
            late_by_hour=sums[1],
            replica_seconds_by_hour=sums[2],
            started_by_hour=sums[3],
            wanted_by_minute=wanted_minutes,
            ready_by_minute=ready_minutes,
        )

    def _start(self, due: npt.NDArray[np.int32], count: Ints, tick: int) -> None:
        """Creates replicas; the k-th of a tick draws the same cold start in every row and under every policy."""
        rows = np.flatnonzero(count)
        count = count[rows]
        of = np.repeat(rows, count)
        k = np.arange(len(of)) - np.repeat(count.cumsum() - count, count)
        seconds = self._p95[of] * self._draws[tick + k % 256]
        at = tick * TICK_SECONDS + np.clip(seconds, 1, RING_SECONDS - TICK_SECONDS - 1).astype(np.int64)
        np.add.at(due, (of, at % RING_SECONDS), 1)


def _stop(due: npt.NDArray[np.int32], ready: Ints, starting: Ints, count: Ints, second: int) -> Ints:
    """Ends replicas, those that would be ready last first, as a ReplicaSet does; returns how many ready ones end."""
    rest = count.copy()
    for row in np.flatnonzero((count > 0) & (starting > 0)):
        slots = np.flatnonzero(due[row])
        for slot in slots[np.argsort((second - 1 - slots) % RING_SECONDS)]:
            ended = min(int(due[row, slot]), int(rest[row]))
            due[row, slot] -= ended
            rest[row] -= ended
            if rest[row] == 0:
                break
    return np.minimum(rest, ready)


def _serve(arrivals: npt.NDArray[np.int32], rate: Floats, backlog: Floats, wait: float) -> tuple[Floats, Floats]:
    """Queue at the end, and requests that wait longer than `wait` (fluid within a second); both per row.

    `arrivals` and `rate` hold one line per second, and the rate never falls from one to the next.
    """
    queue = np.empty((len(arrivals) + 1, len(backlog)))
    queue[0] = backlog
    surplus = arrivals - rate
    for second, more in enumerate(surplus):
        np.maximum(queue[second] + more, 0, out=queue[second + 1])
    patience = wait * rate
    late = np.zeros(len(backlog))
    # Most rows let nobody wait that long; only the others are looked at second by second.
    rows = np.flatnonzero((queue[1:] > patience).any(0) | (backlog > patience[0]))
    if len(rows):
        safe = np.maximum(rate[:, rows], 1e-9)
        first, last = queue[:-1, rows] / safe, queue[1:, rows] / safe
        high, low = np.maximum(first, last), np.minimum(first, last)
        share = np.clip((high - wait) / np.maximum(high - low, 1e-9), 0, 1)
        late[rows] = (arrivals[:, rows] * share).sum(0)
    return queue[-1], late
