"""Another simulator, to see that the policy was not made for one: every request is served by itself.

It shares no code and few assumptions with `nereus.backtest.world`: a replica serves one request at a time, requests
differ in size (log-normal), lateness counts waiting and serving, cold starts are mostly short with a long tail, a busy
replica that is taken away ends its request first, and a request gives up after thirty seconds. All replicas serve one
queue in order. A replica is told to sustain 10 requests per second, four fifths of what it can do without a break.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush, heapreplace
from itertools import islice

import numpy as np

from nereus.backtest.baselines.keda import KedaRate
from nereus.backtest.ours import Nereus
from nereus.backtest.world import Batch, BatchPolicy, Floats

TICK = 15.0
CAPACITY = 10.0
SERVICE_SECONDS, SERVICE_SIGMA = 0.08, 0.5
OBJECTIVE_SECONDS, PATIENCE_SECONDS = 0.5, 30.0
DAYS, WARM_UP_DAYS = 4, 1.5
SHRINK = 0.3
"""Six replicas at the peak instead of twenty: each request is served one by one in Python."""
TAIL_SHARE, TAIL_FACTOR = 0.05, 1.6


class Service:
    """One service: replicas that serve or start, and who waits. Times in seconds from the start."""

    def __init__(self, rates: Floats, *, cold_start: float, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._rates, self._cold_start = rates, cold_start
        self._free = [0.0]
        self._starting: list[float] = []
        self._waiting: deque[float] = deque()
        sizes = self._rng.lognormal(-(SERVICE_SIGMA**2) / 2, SERVICE_SIGMA, 99_991) * SERVICE_SECONDS
        self._sizes: list[float] = sizes.tolist()
        self._size = 0
        self.arrived, self.late, self.done = 0, 0, 0
        self.replicas = 1

    @property
    def ready(self) -> int:
        """Replicas that serve."""
        return len(self._free)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    def scale(self, now: float, wanted: int) -> None:
        """More replicas start; fewer end, those that would be ready last first, then idle ones."""
        more = wanted - len(self._free) - len(self._starting)
        for _ in range(more):
            usual = self._cold_start * self._rng.uniform(0.45, 0.95)
            slow = self._rng.random() < TAIL_SHARE
            self._starting.append(now + (self._cold_start * TAIL_FACTOR if slow else usual))
        self._starting.sort()
        for _ in range(-more):
            if self._starting:
                self._starting.pop()
            else:
                heappop(self._free)
        self.replicas = wanted

    def live(self, now: float) -> None:
        """The next 15 s: `arrived`, `late` and `done` (served or gone) are those of these seconds."""
        end = now + TICK
        while self._starting and self._starting[0] < end:
            heappush(self._free, self._starting.pop(0))
        counts = self._rng.poisson(self._rates[int(now) : int(end)])
        times = np.sort(np.repeat(now + np.arange(len(counts)), counts) + self._rng.random(int(counts.sum())))
        self.arrived, self.late, self.done = len(times), 0, 0
        waiting, free, sizes = self._waiting, self._free, self._sizes
        waiting.extend(times.tolist())
        size, late, done = self._size, 0, 0
        for came in waiting:
            begin = free[0] if free[0] > came else came
            if begin >= end:
                break
            done += 1
            if begin - came > PATIENCE_SECONDS:
                late += 1
                continue
            until = begin + sizes[size]
            size = size + 1 if size < len(sizes) - 1 else 0
            late += until - came > OBJECTIVE_SECONDS
            heapreplace(free, until)
        self._waiting = deque(islice(waiting, done, None))
        self._size, self.late, self.done = size, late, done


def replay(policy: BatchPolicy, services: Sequence[Service], cold_starts: Floats) -> tuple[Floats, Floats]:
    """Late share and mean replicas per service, after the warm-up."""
    count = len(services)
    asked, late, cost = np.zeros(count), np.zeros(count), np.zeros(count)
    seen = [np.full(count, np.nan)] * 2
    late_seen = np.full(count, np.nan)
    for tick in range(int(DAYS * 86_400 / TICK)):
        now = tick * TICK
        ready = np.array([service.ready for service in services])
        batch = Batch(
            time=now,
            load=seen[0],
            utilisation=np.full(count, np.nan),
            queue=np.array([float(service.waiting) for service in services]),
            ready=ready,
            starting=np.array([service.replicas for service in services]) - ready,
            cold_start=cold_starts,
            capacity=np.full(count, CAPACITY),
            late=late_seen,
        )
        for service, wanted in zip(services, np.clip(policy.decide(batch), 1, 100), strict=True):
            service.scale(now, int(wanted))
            service.live(now)
        scored = now >= WARM_UP_DAYS * 86_400
        asked += scored * np.array([service.done for service in services])
        late += scored * np.array([service.late for service in services])
        cost += scored * np.array([service.replicas for service in services])
        seen = [seen[1], np.array([service.arrived / TICK for service in services])]
        late_seen = np.array([service.late / max(service.done, 1) for service in services])
    return late / np.maximum(asked, 1), cost / ((DAYS - WARM_UP_DAYS) * 86_400 / TICK)


def judge(rates: Mapping[str, Floats], *, seed: int, cold_start: float) -> str:
    """A line per load: late share and mean replicas of Nereus and of KEDA at 70 %."""
    cold = np.full(len(rates), cold_start)

    def services() -> list[Service]:
        return [
            Service(SHRINK * load, cold_start=cold_start, seed=seed + index)
            for index, load in enumerate(rates.values())
        ]

    ours = replay(Nereus(rows=len(cold), max_replicas=np.full(len(cold), 12)), services(), cold)
    keda = replay(KedaRate(np.full(len(cold), 0.7)), services(), cold)
    lines = [f"{'load':<20}{'late':>8}{'replicas':>10}   {'KEDA 70 %: late':>16}{'replicas':>10}{'ratio':>8}"]
    for index, name in enumerate(rates):
        lines.append(
            f"{name:<20}{ours[0][index]:>8.2%}{ours[1][index]:>10.2f}   {keda[0][index]:>16.2%}"
            f"{keda[1][index]:>10.2f}{ours[1][index] / keda[1][index]:>8.2f}"
        )
    kept = int((ours[0] <= 0.01).sum())
    return "\n".join([*lines, f"kept 1 % on {kept} of {len(cold)}; KEDA at 70 % on {int((keda[0] <= 0.01).sum())}"])
