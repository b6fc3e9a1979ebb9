"""The scaling tick shares the event loop: others get their turn all the time, however many services there are."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from nereus.api import names
from nereus.api.decision import ScalingDecision
from nereus.api.spec.scaling import Strategy
from nereus.controller.metrics import Metrics
from nereus.controller.scaler import BREATH, Scaler
from nereus.controller.store import Key, Store
from nereus.controller.subjects import Subjects
from nereus.diagnosis.decided import shown_alike
from nereus.prometheus.reading import Freshness, PastLoad, Reading, Wanted
from nereus.prometheus.reading import Key as ReadingKey

SERVICES = 4 * BREATH
Turn = Counter[int]
"""Services that were handled in each turn of the loop."""


class Others:
    """Somebody else in the event loop, who counts how often it was their turn."""

    def __init__(self) -> None:
        self.turn = 0

    async def work(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)


class Readings(dict[ReadingKey, Reading]):
    """Notes when each of them is looked at."""

    def __init__(self, wanted: Sequence[Wanted], others: Others) -> None:
        super().__init__({w.key: Reading(at=0.0, state=Freshness.MISSING) for w in wanted})
        self._others = others
        self.looked_at: Turn = Counter()

    def get(self, key: ReadingKey, default: Reading | None = None) -> Reading | None:  # type: ignore[override]
        self.looked_at[self._others.turn] += 1
        return super().get(key, default)


class Metered:
    """Knows nothing of any service."""

    def __init__(self, others: Others) -> None:
        self._others = others
        self.readings = Readings((), others)

    async def read(self, wanted: Sequence[Wanted]) -> Mapping[ReadingKey, Reading]:
        self.readings = Readings(wanted, self._others)
        return self.readings

    async def history(self, wanted: Sequence[Wanted], *, days: float = 14) -> AsyncIterator[PastLoad]:
        nothing: Sequence[PastLoad] = () if days else [PastLoad(**{}) for _ in wanted]
        for piece in nothing:
            yield piece


def service(number: int) -> dict[str, object]:
    return {
        "apiVersion": f"{names.GROUP}/v1alpha1",
        "kind": names.KIND,
        "metadata": {"namespace": "ns", "name": f"svc-{number}", "uid": str(number), "resourceVersion": "1"},
        "spec": {"models": [{"name": "m", "source": {"uri": "pvc://models/m"}}]},
    }


def test_a_tick_handles_some_services_and_then_lets_others_work() -> None:
    async def check() -> None:
        store, others, told = Store(), Others(), Counter[int]()
        for number in range(SERVICES):
            store.put(service(number))
        subjects = Subjects(store, absent_strategy=Strategy.PREDICTIVE)
        for key in store.services():
            subjects.touched(key)

        def wake(key: Key, after: float) -> None:
            assert after == 0.0, f"{key} is new"
            told[others.turn] += 1

        reader = Metered(others)
        scaler = Scaler(subjects, reader, wake=wake, metrics=Metrics())
        working = asyncio.create_task(others.work())
        await scaler.tick()
        working.cancel()
        for handled in (told, reader.readings.looked_at):
            assert handled.total() == SERVICES
            assert max(handled.values()) <= BREATH

    asyncio.run(check())


def decision(**figures: float | None) -> ScalingDecision:
    whole = {"id": "1", "at": 0.0, "replicas": 2, "known": True, "least": 1, "most": 4, "message": ""}
    return ScalingDecision(**{**whole, "load": 1.0, **figures})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("figures", "alike"),
    [
        ({"load": 1.02}, True),
        ({"load": 1.06}, False),
        ({"load": None}, False),
        ({"forecast_high": 3.0}, False),
        ({"error": 0.1}, False),
        ({"capacity": 5.0}, False),
        ({"horizon_seconds": 60.0}, False),
        ({"reactive": 3}, False),
        ({"forecast": 3.0}, True),
    ],
)
def test_figures_are_news_when_their_first_two_digits_are(figures: dict[str, float | None], alike: bool) -> None:
    assert shown_alike(decision(), decision(**figures)) is alike
