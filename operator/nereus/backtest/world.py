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
        self._arrivals = [array[:seconds] for array in distinct.values()]
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
        sums = np.zeros((4, count, hours))
        minutes = self.ticks * TICK_SECONDS // 60 + 1 if record else 0
        wanted_minutes, ready_minutes = np.zeros((count, minutes)), np.zeros((count, minutes))
        ready, starting = np.minimum(self._initial, self._max), np.zeros(count, np.int64)
        due = np.zeros((count, RING_SECONDS), np.int64)
        backlog, rows = np.zeros(count), np.arange(count)
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
                self._start(due, np.maximum(change, 0), tick, rows)
            if change.min() < 0:
                ready = ready - _stop(due, ready, np.maximum(-change, 0), second)
            starting = wanted - ready
            slot = second % RING_SECONDS
            arrived_ready = due[:, slot : slot + TICK_SECONDS]
            serving = ready[:, None] + arrived_ready.cumsum(1)
            starting = starting - arrived_ready.sum(1)
            due[:, slot : slot + TICK_SECONDS] = 0
            ready = serving[:, -1]
            arrivals = np.stack([array[second : second + TICK_SECONDS] for array in self._arrivals])[self._which]
            rate = serving * self._capacity[:, None]
            queue, late = _serve(arrivals, rate, backlog, self._wait)
            total = arrivals.sum(1)
            served = backlog + total - queue[:, -1]
            backlog = np.minimum(queue[:, -1], GIVE_UP_SECONDS * rate[:, -1])
            hour = second // 3600
            late_total = late.sum(1)
            sums[0, :, hour] += total
            sums[1, :, hour] += late_total
            sums[2, :, hour] += wanted * TICK_SECONDS
            sums[3, :, hour] += np.maximum(change, 0)
            seen = [seen[1], total / TICK_SECONDS]
            used = [used[1], np.minimum(served / np.maximum(rate.sum(1), 1e-9), 1.0)]
            late_seen = late_total / np.maximum(total, 1)
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

    def _start(self, due: Ints, count: Ints, tick: int, rows: Ints) -> None:
        """Creates replicas; the k-th of a tick draws the same cold start in every row and under every policy."""
        for k in range(int(count.max())):
            more = count > k
            seconds = self._p95[more] * self._draws[tick + k % 256]
            at = tick * TICK_SECONDS + np.clip(seconds, 1, RING_SECONDS - TICK_SECONDS - 1).astype(np.int64)
            due[rows[more], at % RING_SECONDS] += 1


def _stop(due: Ints, ready: Ints, count: Ints, second: int) -> Ints:
    """Ends replicas, those that would be ready last first, as a ReplicaSet does; returns how many ready ones end."""
    rest = count.copy()
    for row in np.flatnonzero((count > 0) & due.any(1)):
        order = (second + np.flatnonzero(np.roll(due[row], -(second % RING_SECONDS)))[::-1]) % RING_SECONDS
        for slot in order:
            ended = min(int(due[row, slot]), int(rest[row]))
            due[row, slot] -= ended
            rest[row] -= ended
            if rest[row] == 0:
                break
    return np.minimum(rest, ready)


def _serve(arrivals: npt.NDArray[np.int32], rate: Floats, backlog: Floats, wait: float) -> tuple[Floats, Floats]:
    """Queue at the end of each second, and requests of that second that wait longer than `wait` (fluid in a second)."""
    walk = np.cumsum(arrivals - rate, axis=1) + backlog[:, None]
    queue = walk - np.minimum(np.minimum.accumulate(walk, axis=1), 0)
    before = np.concatenate([backlog[:, None], queue[:, :-1]], axis=1)
    safe = np.maximum(rate, 1e-9)
    first, last = before / safe, queue / safe
    high, low = np.maximum(first, last), np.minimum(first, last)
    share = np.clip((high - wait) / np.maximum(high - low, 1e-9), 0, 1)
    return queue, arrivals * share
