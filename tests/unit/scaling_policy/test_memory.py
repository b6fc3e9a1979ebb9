"""What a fleet remembers: loads of fifteen days in little memory, and what it learned."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nereus.scaling import columns
from nereus.scaling.experts import NAMES
from nereus.scaling.fleet import FleetObservation, FleetPolicy
from nereus.scaling.memory import BLOCK, DAY, DAYS, RECENT, WEEK, Memory
from nereus.scaling.mixture import BINS, CONTEXT_MEMORY, Mixture, counts

NOW = 20_000 * DAY + 700
STEP = 0.022
"""Between two codes, relative to what is told apart; a block that is filled in twice is rounded twice."""


def loads(minutes: int, services: int = 3) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Rates that move by some per cent a minute, with bursts; one of a thousand minutes is unknown."""
    rng = np.random.default_rng(7)
    made = 50 * np.exp(np.cumsum(rng.normal(0, 0.03, (minutes, services)), axis=0) * 0.3)
    made[rng.random(made.shape) < 0.01] *= 5
    made[rng.random(made.shape) < 0.001] = np.nan
    return made


def lived(rates: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Memory:
    """A memory that saw these minutes one after the other, the last of them is `NOW`."""
    memory = Memory(rates.shape[1])
    for ago in reversed(range(len(rates))):
        memory.advance(NOW - ago)
        memory.raise_to(rates[len(rates) - 1 - ago])
    return memory


def given(rates: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Memory:
    """A memory that was given these minutes as a past, in pieces of a day, the newest first."""
    memory = Memory(rates.shape[1])
    memory.advance(NOW)
    minutes = NOW - np.arange(len(rates))[::-1]
    for end in range(len(rates), 0, -DAY):
        piece = slice(max(0, end - DAY), end)
        for service in range(rates.shape[1]):
            memory.put(service, minutes[piece], rates[piece, service])
    return memory


def remembered(memory: Memory, ago: int, minutes: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """`minutes` rows that end `ago` minutes before the newest one."""
    rows = memory.minute - ago - np.arange(minutes)[::-1]
    services = len(memory.first)
    return memory.at(np.repeat(rows[:, None], services, axis=1), slice(None)).astype(np.float64)


@pytest.fixture(scope="module", params=[lived, given])
def fifteen_days(request: pytest.FixtureRequest) -> Memory:
    """A memory that knows all of `loads`; nobody changes it."""
    made: Memory = request.param(loads(DAYS * DAY))
    return made


@pytest.mark.parametrize(
    ("oldest", "newest", "slot", "error"),
    [
        (RECENT, 0, 1, 0.001),
        (WEEK - BLOCK, RECENT, 1, STEP),
        (DAYS * DAY, WEEK + BLOCK, 2, STEP),
    ],
)
def test_a_load_is_remembered_as_exactly_as_its_age_asks_for(
    fifteen_days: Memory, oldest: int, newest: int, slot: int, error: float
) -> None:
    rates, memory = loads(DAYS * DAY), fifteen_days
    newest += (memory.minute + 1 - newest) % slot  # whole slots
    minutes = (oldest - newest) // slot * slot
    found = remembered(memory, newest, minutes)
    end = len(rates) - newest
    wanted = rates[end - minutes : end].reshape(-1, slot, rates.shape[1])
    highest = np.repeat(np.fmax.reduce(wanted, axis=1), slot, axis=0)
    assert np.array_equal(np.isnan(found), np.isnan(highest))
    known = np.isfinite(highest)
    allowed = error * (highest + np.nanmax(rates) / 255)
    assert (np.abs(found - highest)[known] <= allowed[known]).all()


def test_minutes_that_nobody_saw_are_unknown_and_those_before_them_are_not_lost() -> None:
    rates = loads(2 * DAY)
    memory = given(rates)
    memory.advance(NOW + 5 * BLOCK + 7)
    assert np.isnan(remembered(memory, 0, 5 * BLOCK + 7)).all()
    before = remembered(memory, 5 * BLOCK + 7, DAY)
    assert np.array_equal(np.isnan(before), np.isnan(rates[-DAY:]))
    memory.advance(memory.minute + (DAYS + 1) * DAY)
    assert np.isnan(remembered(memory, 0, (DAYS + 1) * DAY)).all()


def test_a_rewound_memory_knows_what_it_knew_then() -> None:
    rates, rewound = loads(10 * DAY), 26 * 60
    memory = given(rates)
    memory.rewind(NOW - rewound)
    assert memory.minute == NOW - rewound
    for ago, minutes in ((0, DAY), (6 * DAY, DAY)):
        found = remembered(memory, ago, minutes)
        end = len(rates) - rewound - ago
        wanted = rates[end - minutes : end]
        known = np.isfinite(found) & np.isfinite(wanted)
        assert known.mean() > 0.99
        assert np.median(np.abs(found - wanted)[known] / wanted[known]) < 0.06
    assert np.isnan(memory.at(np.full((1, 3), NOW), slice(None))).all()


def test_the_highest_load_fades_with_its_age_wherever_it_is_kept() -> None:
    fade = 0.9999
    for days_ago in (0.1, 2.0, 12.0):
        rates = np.full((14 * DAY, 3), 50.0)
        rates[-int(days_ago * DAY), 1] = 4_000.0
        found = given(rates).highest(fade)
        assert found[[0, 2]] == pytest.approx(50.0, rel=0.01)
        assert found[1] == pytest.approx(4_000.0 * fade ** (days_ago * DAY), rel=0.03)


def test_a_histogram_in_two_bytes_counts_like_one_in_eight() -> None:
    rng = np.random.default_rng(3)
    mixture, row, context = Mixture(1), np.zeros(1, np.int64), np.array([2])
    exact = np.zeros(BINS)
    errors = np.clip(rng.standard_t(3, 8000) * 0.08, -5, 5)
    place = np.zeros((1, len(NAMES)), np.int64)
    for error in errors:
        place[:] = np.clip(int((error + 1) * BINS / 2), 0, BINS - 1)
        mixture._count(mixture.by_context, mixture.context_unfaded, (row, context), place, CONTEXT_MEMORY)
        exact *= 1 - 1 / CONTEXT_MEMORY
        exact[place[0, 0]] += 1
    found = counts(mixture.by_context[0, 2, 0]).astype(np.float64)
    seen = exact > 0.5
    np.testing.assert_allclose(found[seen], exact[seen], rtol=0.04, atol=0.1)
    assert abs(found.sum() / exact.sum() - 1) < 0.02


def test_a_service_takes_some_41_kilobytes() -> None:
    fleet = columns.blank(100)
    assert sum(array.nbytes for _, array in columns._arrays(fleet)) / 100 < 41_500


def observed(tick: int, services: int) -> FleetObservation:
    rng = np.random.default_rng(tick)
    return FleetObservation(
        time=NOW * 60.0 + 15 * tick,
        load=rng.uniform(10, 60, services),
        queue=np.zeros(services),
        ready=np.full(services, 4),
        starting=np.zeros(services, np.int64),
        cold_start=np.full(services, 60.0),
        capacity=np.full(services, 10.0),
        late=np.zeros(services),
    )


def decided(fleet: FleetPolicy, ticks: range, services: int, shown: int) -> list[list[int]]:
    """Replicas of the first `shown` services, tick by tick; the fleet may have more room."""
    room = services - shown
    made = []
    for tick in ticks:
        seen = observed(tick, shown)
        wide = {
            name: np.concatenate([value, np.full(room, -1 if value.dtype.kind == "i" else np.nan, value.dtype)])
            for name, value in vars(seen).items()
            if isinstance(value, np.ndarray)
        }
        bounds = np.ones(services, np.int64), np.full(services, 20)
        decision = fleet.decide(FleetObservation(time=seen.time, **wide), least=bounds[0], most=bounds[1])
        made.append(decision.replicas[:shown].tolist())
    return made


def test_a_fleet_that_grows_and_one_that_is_restored_decide_as_before() -> None:
    small, restored = columns.blank(5), columns.blank(9)
    reference = columns.blank(5)
    for service in range(5):
        past = 30 + 20 * np.sin(np.arange(3 * DAY) / 200 + service)
        for fleet in (small, reference):
            fleet.learn_past(service, NOW - 3 * DAY + np.arange(3 * DAY), past)
    assert decided(small, range(200), 5, 5) == decided(reference, range(200), 5, 5)
    columns.resize(small, 9)
    restored.restore(json.loads(json.dumps(small.to_state())))
    wanted = decided(reference, range(200, 500), 5, 5)
    assert decided(small, range(200, 500), 9, 5) == wanted
    assert decided(restored, range(200, 500), 9, 5) == wanted
    assert np.ptp(wanted) > 0, "a load that never changes a decision would show nothing"
