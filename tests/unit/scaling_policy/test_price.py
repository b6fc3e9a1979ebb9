"""Which price is used: the cheapest that keeps the objective, and the constant only where a promise would be broken."""

from __future__ import annotations

import numpy as np
import pytest

from nereus.scaling.price import CONSTANT, LADDER, START_RUNG, Prices

EVERY = np.arange(1)
DAY = 1440
BASE, SPIKE = 10.0, 30.0
READY = 20.0
PERIOD = 400


def used(*, spike_minutes: int, constant: float) -> int:
    """The rung in use after two days with a load of ten replicas and a spike to thirty that no forecast sees: every
    price has twenty, and the constant so many."""
    prices = Prices(1)
    asked = np.full((len(LADDER), 1), READY)
    asked[CONSTANT] = constant
    for minute in range(2 * DAY):
        load = np.array([SPIKE if minute % PERIOD >= PERIOD - spike_minutes else BASE])
        prices.replay(
            minute,
            EVERY,
            mean=load,
            highest=load,
            start=asked,
            keep=asked,
            lead=np.array([3]),
            softness=np.array([0.05]),
        )
        prices.measured(np.array([np.nan]), EVERY)
        prices.choose(np.array([0.01]), EVERY)
    return int(prices.rung[0])


def test_where_no_price_keeps_the_objective_by_far_the_constant_is_bought() -> None:
    assert used(spike_minutes=4, constant=SPIKE + 2) == CONSTANT


def test_what_is_missed_by_little_is_not_worth_the_constant() -> None:
    assert used(spike_minutes=1, constant=SPIKE + 2) < CONSTANT


@pytest.mark.parametrize("spike_minutes", [0, 1, 4])
def test_what_nobody_can_avoid_raises_no_price(spike_minutes: int) -> None:
    assert used(spike_minutes=spike_minutes, constant=READY) <= START_RUNG
