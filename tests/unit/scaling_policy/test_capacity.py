"""Capacity of a replica from measured batches, and loads of co-located models added up."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nereus.scaling.capacity import (
    USABLE_SHARE,
    CostCurve,
    ModelLoad,
    inferences_per_second,
    replica_equivalents,
)


def test_only_batches_that_were_seen_raise_the_capacity() -> None:
    one = inferences_per_second(CostCurve(seconds={1: 0.02}), latency_seconds=0.5)
    eight = inferences_per_second(CostCurve(seconds={1: 0.02, 8: 0.04}), latency_seconds=0.5)
    assert one == pytest.approx(50 * USABLE_SHARE)
    assert eight == pytest.approx(200 * USABLE_SHARE)


def test_a_batch_too_slow_for_the_objective_does_not_count() -> None:
    curve = CostCurve(seconds={1: 0.02, 8: 0.04, 64: 0.3})
    assert inferences_per_second(curve, latency_seconds=0.5) == pytest.approx(200 * USABLE_SHARE)


def test_nothing_measured_is_unknown_not_zero() -> None:
    assert inferences_per_second(CostCurve(seconds={}), latency_seconds=0.5) is None
    assert inferences_per_second(CostCurve(seconds={1: math.nan, 0: 0.1}), latency_seconds=0.5) is None


@settings(deadline=None, derandomize=True)
@given(st.dictionaries(st.integers(1, 256), st.floats(1e-4, 10), min_size=1), st.floats(0.01, 5), st.floats(1, 4))
def test_a_laxer_objective_never_lowers_the_capacity(seconds: dict[int, float], latency: float, more: float) -> None:
    curve = CostCurve(seconds=seconds)
    tight = inferences_per_second(curve, latency_seconds=latency)
    lax = inferences_per_second(curve, latency_seconds=latency * more)
    assert tight is not None
    assert lax is not None
    assert min(seconds) / max(seconds.values()) * USABLE_SHARE <= lax * (1 + 1e-9)


def test_loads_of_models_on_one_replica_add_up() -> None:
    loads = [
        ModelLoad(offered=50, capacity=100),
        ModelLoad(offered=10, capacity=40),
        ModelLoad(offered=0, capacity=None),
    ]
    assert replica_equivalents(loads) == pytest.approx(0.75)


def test_one_unknown_model_makes_the_load_unknown() -> None:
    assert replica_equivalents([ModelLoad(offered=50, capacity=100), ModelLoad(offered=None, capacity=40)]) is None
    assert replica_equivalents([ModelLoad(offered=50, capacity=None)]) is None
