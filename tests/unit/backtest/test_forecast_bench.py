"""The benchmark of the forecast looks at no minute that it could not know: neither Nereus nor those beside it."""

from __future__ import annotations

import numpy as np
import pytest

from bench import forecast, peers
from nereus.backtest.world import Floats
from nereus.scaling.forecaster import windows_for
from nereus.scaling.memory import DAY
from nereus.scaling.regression import SOLVE_EVERY

MINUTES, NOW = DAY + 150, DAY + 100
"""More than a day, so that what looks at yesterday's window has one, and some minutes after it."""
FIRST = DAY - 260
"""Where the forecaster begins: it reads a memory that no later minute was put into, whatever the season."""
COLD_START = 120.0
HORIZON = int(windows_for(np.array([COLD_START])).high[0])


def two_futures() -> tuple[Floats, Floats]:
    """The same load until NOW, and after it a calm and a wild one."""
    chance = np.random.default_rng(8)
    calm = np.abs(10 + 6 * np.sin(np.arange(MINUTES) / 90) + chance.normal(0, 1, MINUTES))
    wild = calm.copy()
    wild[NOW + 1 :] = 40 + 30 * chance.random(MINUTES - NOW - 1)
    return calm, wild


def same_until_now(calm: Floats, wild: Floats, *, now: int = NOW) -> None:
    """Every forecast until now is the same under both futures, and the futures differ enough to be seen after it."""
    assert np.isfinite(calm[: now + 1]).all()
    assert list(np.flatnonzero(calm[: now + 1] != wild[: now + 1])) == []
    assert (calm[now + 1 :] != wild[now + 1 :]).any()


def test_the_forecaster_knows_nothing_of_later_minutes() -> None:
    calm, wild = two_futures()
    # The regression of a service is solved at every tenth minute by its number: these two are at the same.
    series = np.tile(calm[FIRST:], (SOLVE_EVERY + 1, 1))
    series[SOLVE_EVERY] = wild[FIRST:]
    bounds, _ = forecast.ours(series, COLD_START)
    same_until_now(bounds[0], bounds[SOLVE_EVERY], now=NOW - FIRST)


@pytest.mark.parametrize("peer", forecast.PEERS)
def test_what_it_is_compared_with_knows_nothing_of_later_minutes_either(peer: str) -> None:
    made = []
    for load in two_futures():
        point = forecast.PEERS[peer](load, HORIZON)
        made.append(forecast.bounded(point, forecast.highest_ahead(load, HORIZON), HORIZON))
    same_until_now(*made)


def test_bounds_at_few_origins_know_nothing_of_later_minutes() -> None:
    at = np.arange(0, MINUTES, 11)
    known = at <= NOW
    made = [
        peers.bounds(
            forecast.last_value(load, HORIZON)[at],
            forecast.highest_ahead(load, HORIZON)[at],
            at,
            HORIZON,
            level=forecast.BOUND,
            epsilon=forecast.EPSILON,
        )
        for load in two_futures()
    ]
    assert np.array_equal(made[0][known], made[1][known], equal_nan=True)
    assert np.isfinite(made[0][known]).sum() > 50
    assert not np.array_equal(made[0], made[1], equal_nan=True)
