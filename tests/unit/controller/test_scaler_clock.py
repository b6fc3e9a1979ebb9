"""The scaling tick: what it does when the clock that it decides by is set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import cast

import numpy as np
import pytest

from nereus.controller import scaler as module
from nereus.controller.metrics import Metrics
from nereus.controller.scaler import Scaler
from nereus.controller.store import Key
from nereus.controller.subjects import Subject, Subjects
from nereus.prometheus.reading import Freshness, ModelReading, PastLoad, Reading, Wanted
from nereus.prometheus.reading import Key as ReadingKey
from nereus.scaling.goal import Goal

KEY = Key("ns", "a")
START = 1_800_000_000.0
SUBJECT = Subject(
    goal=Goal(min_replicas=1, max_replicas=10, capacity=100.0, horizon=60.0),
    wanted=Wanted(key=ReadingKey(*KEY), expected_ready=4),
    ready=4,
    starting=0,
    unplaced=0,
    cold_start=None,
    told_capacity=None,
    history_days=None,
)


class OneService:
    """Stands in for what the store knows: one service with four pods."""

    def known(self) -> Mapping[Key, Subject]:
        return {KEY: SUBJECT}

    async def refresh(self) -> Mapping[Key, Subject]:
        return self.known()


class Prometheus:
    """Answers at once; `asked` has an entry each time the past is read. `gate` holds that up."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[float] = asyncio.Queue()
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self, wanted: Sequence[Wanted]) -> Mapping[ReadingKey, Reading]:
        model = ModelReading(rate=350.0, queue=0.0, late=None, capacity=100.0)
        seen = Reading(at=START, state=Freshness.FRESH, load=3.5, models={"m": model}, pods_seen=4)
        return {one.key: seen for one in wanted}

    async def history(self, wanted: Sequence[Wanted], *, days: float = 14) -> AsyncIterator[PastLoad]:
        self.asked.put_nowait(days)
        await self.gate.wait()
        minutes = np.arange(START // 60 - 60, START // 60, dtype=np.int64)
        for one in wanted:
            yield PastLoad(key=one.key, minutes=minutes, rates=np.full(60, 350.0), since=START - 3600, share=1.0)


class Bench:
    """A scaler whose clock is moved by hand, and which looks for the past all the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "TICK_SECONDS", 3600.0)
        monkeypatch.setattr(module, "NEW_SERVICES_SECONDS", 0.01)
        self.now = START
        self.prometheus = Prometheus()
        self.scaler = Scaler(
            cast(Subjects, OneService()),
            self.prometheus,
            wake=_nobody,
            metrics=Metrics(),
            clock=lambda: self.now,
        )

    async def until_asked(self) -> None:
        await asyncio.wait_for(self.prometheus.asked.get(), timeout=20)


def _nobody(key: Key, after: float) -> None:
    """Is told of decisions."""


@pytest.mark.parametrize("by", [-86_400.0, 3600.0])
async def test_the_past_is_read_again_after_the_clock_was_set_also_while_it_is_read(
    monkeypatch: pytest.MonkeyPatch, by: float
) -> None:
    bench = Bench(monkeypatch)
    bench.prometheus.gate.clear()
    running = asyncio.create_task(bench.scaler.run())
    try:
        await bench.until_asked()
        bench.now += by
        await bench.scaler.tick()
        bench.prometheus.gate.set()  # what is read now was asked for before
        await bench.until_asked()
        bench.now -= by
        await bench.scaler.tick()
        await bench.until_asked()
    finally:
        running.cancel()


async def test_a_decision_is_no_older_because_the_clock_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    await bench.scaler.tick()
    for by in (86_400.0, -86_400.0):
        bench.now = START + by
        decision = bench.scaler.decision(KEY)
        assert decision is not None
        assert decision.replicas >= 4
    monkeypatch.setattr(module, "STALE_SECONDS", 0.0)
    assert bench.scaler.decision(KEY) is None, "a tick that hangs is noticed whatever the clock says"
