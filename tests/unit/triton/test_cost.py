"""The fitted cost of a batch: right where it was measured, silent where it was not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nereus.triton.cost import Executions, batches, fit, since


def runs(fixed: float, each: float, counts: dict[int, int]) -> dict[int, Executions]:
    return {size: Executions(count, count * (fixed + each * size)) for size, count in counts.items()}


@given(
    st.floats(1e-5, 1.0), st.floats(1e-6, 0.1), st.dictionaries(st.integers(1, 64), st.integers(3, 9999), min_size=2)
)
def test_a_line_is_found_again(fixed: float, each: float, counts: dict[int, int]) -> None:
    found = fit(runs(fixed, each, counts))
    assert found is not None
    assert found.seconds(max(counts)) == pytest.approx(fixed + each * max(counts), rel=1e-6)
    assert found.fixed_seconds == pytest.approx(fixed, rel=1e-3, abs=1e-6)
    assert (found.largest, found.samples) == (max(counts), sum(counts.values()))
    assert found.residual < 1e-6


def test_batches_larger_than_any_seen_have_no_cost() -> None:
    found = fit(runs(0.005, 0.0002, {1: 10, 8: 10}))
    assert found is not None
    assert found.seconds(8) == pytest.approx(0.0066)
    assert (found.seconds(9), found.seconds(0)) == (None, None)


def test_where_only_batches_of_one_ran_a_larger_one_is_assumed_to_win_nothing() -> None:
    found = fit(runs(0.005, 0.001, {1: 100}))
    assert found is not None
    assert found.fixed_seconds == 0
    assert found.seconds_per_inference == pytest.approx(0.006)
    assert found.largest == 1


def test_where_only_one_larger_size_ran_smaller_ones_are_assumed_to_save_nothing() -> None:
    found = fit(runs(0.005, 0.001, {8: 100}))
    assert found is not None
    assert found.seconds(1) == found.seconds(8) == pytest.approx(0.013)


def test_a_size_that_was_hardly_run_is_not_taken_as_seen() -> None:
    found = fit({1: Executions(100, 0.5), 32: Executions(2, 9.0)})
    assert found is not None
    assert (found.largest, found.samples) == (1, 100)
    assert fit({4: Executions(2, 1.0)}) is None
    assert fit({}) is None


@pytest.mark.parametrize(
    ("times", "fixed", "each"),
    [
        pytest.param({1: 0.010, 8: 0.004}, 0.007, 0.0, id="faster with more: a constant"),
        pytest.param({1: 0.001, 2: 0.010}, 0.0, 0.0042, id="steeper than through zero"),
    ],
)
def test_neither_part_is_below_zero(times: dict[int, float], fixed: float, each: float) -> None:
    found = fit({size: Executions(10, 10 * seconds) for size, seconds in times.items()})
    assert found is not None
    assert found.fixed_seconds == pytest.approx(fixed)
    assert found.seconds_per_inference == pytest.approx(each)
    assert found.residual > 0.1, "the line is off, and says so"


@given(
    st.dictionaries(
        st.integers(1, 128),
        st.builds(Executions, st.integers(0, 10**6), st.floats(0, 1e6, allow_nan=False)),
        max_size=6,
    )
)
def test_any_statistics_give_a_sane_line_or_none(run: dict[int, Executions]) -> None:
    found = fit(run)
    if found is not None:
        assert found.fixed_seconds >= 0
        assert found.seconds_per_inference >= 0
        assert found.fixed_seconds + found.seconds_per_inference > 0
        assert found.residual >= 0
        assert 1 <= found.largest <= max(run)


def entry(size: int, count: int, ns: int) -> dict[str, Any]:
    part = {"count": count, "ns": ns}
    return {"batch_size": size, "compute_input": part, "compute_infer": part, "compute_output": part}


def test_statistics_are_read_as_triton_writes_them() -> None:
    assert batches({"batch_stats": [entry(1, 4, 10**6), entry(8, 2, 10**6)]}) == {
        1: Executions(4, 0.003),
        8: Executions(2, 0.003),
    }
    assert batches({}) == {}
    assert batches({"batch_stats": [{"batch_size": "x"}, {}, entry(1, 0, 0)]}) == {}


def test_what_was_run_before_does_not_count_and_a_reload_counts_from_zero() -> None:
    before = {1: Executions(10, 1.0), 4: Executions(5, 1.0)}
    now = {1: Executions(12, 1.5), 4: Executions(5, 1.0), 8: Executions(3, 2.0)}
    assert since(now, before) == {1: Executions(2, 0.5), 8: Executions(3, 2.0)}
    reloaded = {1: Executions(2, 0.1)}
    assert since(reloaded, before) == reloaded
