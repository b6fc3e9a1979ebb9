"""What one replica sustains, learned from what was run."""

from __future__ import annotations

import math

import pytest

from nereus.prometheus.capacity import Capacities, Measured
from tests.unit.prometheus.recorded import wanted


def counters(batch: float, seconds: float, rate: float = 100.0) -> Measured:
    return Measured(executions=rate / batch, inferences=rate, requests=rate, busy=rate * seconds)


def test_capacity_rises_with_batches_that_were_seen_and_is_not_lost_at_night() -> None:
    known = Capacities()
    assert known.learn(wanted(), {"m": Measured()}) == {"m": None}
    one = known.learn(wanted(), {"m": counters(1, 0.01)})["m"]
    assert one == pytest.approx(95)
    eight = known.learn(wanted(), {"m": counters(8, 0.02)})["m"]
    assert eight == pytest.approx(0.95 * 8 / 0.02)
    assert known.learn(wanted(), {"m": counters(1, 0.01)})["m"] == eight
    assert known.learn(wanted(), {"m": Measured()})["m"] == eight


def test_a_batch_slower_than_half_the_objective_is_not_used() -> None:
    known = Capacities()
    service = wanted(latency_seconds=0.03)
    known.learn(service, {"m": counters(1, 0.01)})
    assert known.learn(service, {"m": counters(8, 0.02)})["m"] == pytest.approx(95)


def test_the_curve_of_the_sidecar_goes_up_to_the_largest_batch_seen() -> None:
    fit = Measured(fixed_seconds=0.01, seconds_per_inference=0.001, batch_seen_max=10)
    assert Capacities().learn(wanted(), {"m": fit})["m"] == pytest.approx(0.95 * 10 / 0.02)
    two = wanted(instances={"m": 2})
    assert Capacities().learn(two, {"m": fit})["m"] == pytest.approx(2 * 0.95 * 10 / 0.02)


def test_new_pods_that_ran_small_batches_only_do_not_make_a_replica_slower() -> None:
    known = Capacities()
    old = Measured(fixed_seconds=0.01, seconds_per_inference=0.001, batch_seen_max=10)
    new = Measured(fixed_seconds=0.01, seconds_per_inference=0.001, batch_seen_max=1)
    before = known.learn(wanted(), {"m": old})
    assert known.learn(wanted(), {"m": new}) == before


@pytest.mark.parametrize(
    "nonsense",
    [
        Measured(fixed_seconds=math.nan, seconds_per_inference=1, batch_seen_max=1),
        Measured(fixed_seconds=-1, seconds_per_inference=0.1, batch_seen_max=4),
        Measured(fixed_seconds=0, seconds_per_inference=0, batch_seen_max=4),
        Measured(fixed_seconds=0.1, seconds_per_inference=0.1, batch_seen_max=1e9),
        Measured(executions=1, inferences=math.inf, requests=1, busy=1),
        Measured(executions=1, inferences=1e9, requests=1, busy=1),
        Measured(executions=0.001, inferences=1, requests=1, busy=1),
    ],
)
def test_figures_that_make_no_sense_teach_nothing(nonsense: Measured) -> None:
    assert Capacities().learn(wanted(), {"m": nonsense}) == {"m": None}


def test_another_set_of_models_is_learned_anew_with_the_old_one_as_a_start() -> None:
    known = Capacities()
    alone = known.learn(wanted(), {"m": counters(8, 0.02)})["m"]
    both = wanted(models=("m", "other"))
    assert known.learn(both, {"m": Measured(), "other": Measured()}) == {"m": alone, "other": None}
    shared = known.learn(both, {"m": counters(8, 0.04), "other": Measured()})["m"]
    assert shared == pytest.approx((alone or 0) / 2)


def test_what_was_learned_survives_a_restart_and_is_forgotten_with_its_service() -> None:
    known, again = Capacities(), Capacities()
    capacity = known.learn(wanted(), {"m": counters(8, 0.02)})
    again.restore(known.to_state())
    assert again.learn(wanted(), {"m": Measured()}) == capacity
    again.keep_only(set())
    assert again.learn(wanted(), {"m": Measured()}) == {"m": None}
    with pytest.raises((ValueError, KeyError, TypeError)):
        again.restore({"team/resnet": {"models": 1}})
