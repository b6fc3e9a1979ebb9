"""What holds for the predictive policy whatever it is fed: bounds, finite, deterministic, restorable."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nereus.scaling import clock
from nereus.scaling.policy import PredictivePolicy
from nereus.scaling.protocol import (
    Decision,
    History,
    LimitedBy,
    Limits,
    Objective,
    Observation,
    Phase,
    Policy,
    Schedule,
)

START = 1_700_000_000.0
odd_numbers = st.one_of(
    st.none(), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([0.0, -1.0, 1e300, 1e-300, 37.0])
)
odd_counts = st.one_of(st.none(), st.integers(min_value=-5, max_value=10**9))
observations = st.builds(
    Observation,
    time=st.one_of(
        st.floats(min_value=START, max_value=START + 4000),
        st.sampled_from([math.nan, math.inf, -1.0, 0.0, 1e30, START]),
    ),
    load=odd_numbers,
    queue=odd_numbers,
    ready=odd_counts,
    starting=odd_counts,
    cold_start=odd_numbers,
    capacity=odd_numbers,
    late=odd_numbers,
)
quick = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def steady(
    policy: PredictivePolicy, load: float, *, ticks: int, begin: float = START, ready: int = 1
) -> list[Decision]:
    """A cluster in which every replica that was asked for serves at the next tick."""
    made = []
    for tick in range(ticks):
        decision = policy.decide(
            Observation(time=begin + 15 * tick, load=load, queue=0, ready=ready, starting=0, cold_start=60, capacity=10)
        )
        ready = decision.replicas
        made.append(decision)
    return made


@quick
@given(st.lists(observations, min_size=1, max_size=12))
def test_any_input_gives_replicas_within_bounds_and_finite_words(seen: list[Observation]) -> None:
    policy = PredictivePolicy(Limits(min_replicas=2, max_replicas=9))
    for observation in seen:
        decision = policy.decide(observation)
        assert 2 <= decision.replicas <= 9
        for value in vars(decision.explanation).values():
            assert not isinstance(value, float) or math.isfinite(value)
        assert decision.explanation.message


@quick
@given(st.lists(observations, min_size=2, max_size=10), st.integers(min_value=0, max_value=9))
def test_same_input_same_output_and_a_restored_policy_goes_on_the_same(seen: list[Observation], cut: int) -> None:
    limits = Limits(max_replicas=50)
    whole, broken = PredictivePolicy(limits), PredictivePolicy(limits)
    for index, observation in enumerate(seen):
        if index == cut % len(seen):
            broken = PredictivePolicy.from_state(json.loads(json.dumps(broken.to_state())), limits)
        assert whole.decide(observation) == broken.decide(observation)


@settings(quick, max_examples=25)
@given(
    st.lists(st.one_of(observations, st.builds(Observation, time=st.just(9e10))), min_size=1, max_size=8),
    st.floats(min_value=0, max_value=4000),
    st.floats(min_value=0, max_value=85),
)
def test_whatever_was_seen_before_good_observations_are_followed_soon(
    odd: list[Observation], later: float, load: float
) -> None:
    policy = PredictivePolicy(Limits(max_replicas=9))
    for observation in odd:
        policy.decide(observation)
    assert steady(policy, load, ticks=40, begin=START + later)[-1].replicas >= load / 10


def test_one_time_of_the_far_future_costs_what_was_learned_and_no_replica() -> None:
    policy = PredictivePolicy(Limits(max_replicas=30))
    before = steady(policy, 200, ticks=80, ready=20)[-1].replicas
    ahead = Observation(time=9e10, load=200, queue=0, ready=before, starting=0, cold_start=60, capacity=10)
    assert policy.decide(ahead).replicas >= 20
    after = steady(policy, 20, ticks=40, begin=START + 15 * 81, ready=before)
    assert after[0].replicas == before, "nothing is given away at once"
    assert after[-1].replicas <= 6
    assert steady(policy, 200, ticks=4, begin=START + 15 * 121, ready=2)[-1].replicas >= 20


@pytest.mark.parametrize("earlier", [0.0, 1.0, clock.BACK_SECONDS])
def test_a_time_that_is_a_little_older_repeats_the_decision_and_changes_nothing(earlier: float) -> None:
    policy = PredictivePolicy(Limits(max_replicas=30))
    last = steady(policy, 100, ticks=40, ready=12)[-1]
    before = policy.to_state()
    seen = Observation(time=last.time - earlier, load=290, queue=9, ready=1, starting=1, cold_start=9, capacity=20)
    assert policy.decide(seen) is last
    assert policy.to_state() == before


def test_an_absurd_queue_before_any_capacity_is_known_is_no_overflow() -> None:
    policy = PredictivePolicy(Limits(max_replicas=9))
    odd = Observation(time=START, load=None, queue=1e300, ready=0, starting=0, cold_start=None, capacity=1e-300)
    assert 1 <= policy.decide(odd).replicas <= 9


def test_restoring_at_any_moment_of_a_busy_night_changes_nothing() -> None:
    # Clocks in Berlin are changed at 01:00 UTC, a schedule ends an hour later, and capacity doubles in between.
    rng = np.random.default_rng(3)
    ticks, changed = 320, datetime(2026, 3, 29, 1, tzinfo=UTC).timestamp()
    begin = changed - 20 * ticks
    rates = 60 + 40 * np.sin(np.arange(ticks) / 30) + rng.normal(0, 4, ticks)
    nightly = Schedule(start_minute=60, end_minute=4 * 60, min_replicas=5, max_replicas=14)
    bounds: dict[str, Any] = {"limits": Limits(max_replicas=40, schedules=(nightly,)), "time_zone": "Europe/Berlin"}
    whole = PredictivePolicy(**bounds)
    minutes = np.arange(-4 * 1440, 0)
    # Of the day that is replayed only the last hour is known: that is all that matters here, and quick to learn.
    past = [None if -1560 <= m < -60 else 60 + 50 * np.sin(m / 229) for m in minutes]
    whole.learn(History(times=list(begin + 60.0 * minutes), loads=past, capacity=10, cold_start=90))
    cuts = {0, 254, 258, *(int(cut) for cut in rng.choice(ticks, 30, replace=False))}
    broken, made, ready = whole, [], 6
    for tick, rate in enumerate(rates):
        stuck = 2 if 250 <= tick < 310 else 0  # replicas that never serve
        observation = Observation(
            time=begin + 40 * tick,
            load=None if tick % 37 == 0 else rate,
            queue=tick % 5,
            ready=ready - stuck,
            starting=stuck,
            cold_start=90 if tick < 200 else 150,
            capacity=10 if tick < 150 else 23,
            late=0.0 if tick % 11 else 0.02,
        )
        if tick in cuts:
            broken = PredictivePolicy.from_state(json.loads(json.dumps(broken.to_state())), **bounds)
        made.append(whole.decide(observation))
        assert made[-1] == broken.decide(observation), (tick, sorted(cuts))
        ready = made[-1].replicas
    assert {decision.explanation.limited_by for decision in made} == {
        *(LimitedBy.NOTHING, LimitedBy.SCHEDULE, LimitedBy.UNKNOWN_LOAD, LimitedBy.PENDING_REPLICAS),
    }
    assert len({decision.replicas for decision in made}) > 5


def test_a_damaged_state_is_refused_with_the_remedy() -> None:
    state = json.loads(json.dumps(PredictivePolicy().to_state()))
    state["fleet"]["version"] = 0
    with pytest.raises(ValueError, match="start without it"):
        PredictivePolicy.from_state(state)


@pytest.mark.parametrize("missing", [None, math.nan, -5.0, math.inf])
def test_missing_load_never_takes_a_replica_away(missing: float | None) -> None:
    policy = PredictivePolicy(Limits(max_replicas=30))
    before = steady(policy, 100, ticks=40, ready=12)[-1].replicas
    for tick in range(40, 400):
        decision = policy.decide(
            Observation(time=START + 15 * tick, load=missing, ready=before, starting=0, cold_start=60, capacity=10)
        )
        assert decision.replicas >= before
        before = decision.replicas
        assert decision.explanation.limited_by == "UnknownLoad"


def test_everything_missing_never_takes_a_replica_away() -> None:
    policy = PredictivePolicy(Limits(max_replicas=30))
    before = steady(policy, 100, ticks=40, ready=12)[-1].replicas
    for tick in range(40, 100):
        assert policy.decide(Observation(time=START + 15 * tick)).replicas >= before


def test_scaling_down_is_back_within_ten_minutes_of_good_data() -> None:
    policy = PredictivePolicy(Limits(max_replicas=30))
    steady(policy, 100, ticks=60, ready=12)
    for tick in range(60, 100):
        policy.decide(Observation(time=START + 15 * tick, ready=14, starting=0))
    after = steady(policy, 5, ticks=40, begin=START + 15 * 100, ready=14)
    assert after[-1].replicas <= 3


@quick
@given(st.floats(min_value=0, max_value=200), st.floats(min_value=1, max_value=3))
def test_more_load_never_gets_fewer_replicas(load: float, factor: float) -> None:
    replicas = []
    for rate in (load, load * factor):
        policy = PredictivePolicy(Limits(max_replicas=500))
        replicas.append(steady(policy, rate, ticks=24, ready=1)[-1].replicas)
    assert replicas[0] <= replicas[1]


def test_a_steady_load_does_not_flap() -> None:
    rng = np.random.default_rng(11)
    policy, ready, changes = PredictivePolicy(Limits(max_replicas=40)), 1, 0
    # Nothing is ever late here whatever is decided, so the price sinks to the edge: the hardest case.
    for tick in range(1200):
        load = float(rng.poisson(100 * 15)) / 15
        decision = policy.decide(
            Observation(time=START + 15 * tick, load=load, queue=0, ready=ready, starting=0, cold_start=60, capacity=10)
        )
        changes += tick >= 240 and decision.replicas != ready
        ready = decision.replicas
    assert 10 <= ready <= 14
    assert changes <= 28, "in four hours: one replica up and down again every twenty minutes at most"


def test_a_load_that_comes_every_hour_is_met_before_it_comes() -> None:
    policy, ready, starting, due = PredictivePolicy(Limits(max_replicas=40)), 1, 0, [0.0] * 0
    ready_at_spike = []
    for tick in range(4 * 60 * 10):
        second = 15 * tick
        minute = second // 60 % 60
        arrived = [when for when in due if when <= second]
        due = [when for when in due if when > second]
        ready, starting = ready + len(arrived), len(due)
        if minute == 20 and second % 60 == 0:
            ready_at_spike.append(ready)
        decision = policy.decide(
            Observation(
                time=START // 3600 * 3600 + second,
                load=100.0 if 20 <= minute < 25 else 5.0,
                queue=0,
                ready=ready,
                starting=starting,
                cold_start=180,
                capacity=10,
            )
        )
        change = decision.replicas - ready - starting
        due += [second + 120.0] * max(change, 0)
        fewer = max(-change, 0)
        while fewer and due:
            due.pop()
            fewer -= 1
        ready -= fewer
    assert ready_at_spike[0] < 10, "nobody can know the first one"
    assert min(ready_at_spike[-3:]) >= 10, ready_at_spike


def test_a_caller_that_counts_no_replicas_and_ticks_every_second_gets_sane_decisions() -> None:
    rng = np.random.default_rng(5)
    policy, wanted = PredictivePolicy(Limits(max_replicas=40)), []
    for second in range(1800):
        load = float(rng.poisson(100))
        wanted.append(policy.decide(Observation(time=START + second, load=load, capacity=10)).replicas)
    assert 10 <= min(wanted[600:]) <= max(wanted[600:]) <= 18


def test_a_restart_without_memory_gives_nothing_away_at_once() -> None:
    policy = PredictivePolicy(Limits(max_replicas=40))
    first = steady(policy, 20, ticks=1, ready=20)[0]
    assert first.replicas == 20
    assert steady(policy, 20, ticks=60, begin=START + 15, ready=20)[-1].replicas <= 6


def test_stuck_replicas_are_not_piled_up() -> None:
    policy = PredictivePolicy(Limits(max_replicas=40))
    decision = steady(policy, 20, ticks=8, ready=3)[-1]
    for tick in range(8, 200):
        decision = policy.decide(
            Observation(
                time=START + 15 * tick, load=20 + tick, queue=50, ready=3, starting=4, cold_start=60, capacity=10
            )
        )
    assert decision.explanation.limited_by == "PendingReplicas"
    assert decision.replicas <= 7


def test_schedules_and_gpu_limits_bound_the_decision_in_local_time() -> None:
    nine_in_berlin = 1_700_035_200.0  # Wed 2023-11-15 08:00 UTC
    business = Schedule(days=(0, 1, 2, 3, 4), start_minute=9 * 60, end_minute=17 * 60, min_replicas=4)
    policy = PredictivePolicy(Limits(max_replicas=10, gpus=6, schedules=(business,)), time_zone="Europe/Berlin")
    before = policy.decide(Observation(time=nine_in_berlin - 60, load=1, ready=1, capacity=10))
    inside = policy.decide(Observation(time=nine_in_berlin, load=1, ready=1, capacity=10))
    crowded = steady(policy, 900, ticks=30, begin=nine_in_berlin + 60)[-1]
    assert (before.replicas, inside.replicas, crowded.replicas) == (1, 4, 6)
    assert crowded.explanation.limited_by == "GPULimit"


def test_the_first_hour_and_day_say_so() -> None:
    policy = PredictivePolicy()
    assert policy.decide(Observation(time=START)).explanation.phase is Phase.NO_DATA
    assert steady(policy, 5, ticks=4, begin=START + 60)[-1].explanation.phase is Phase.FIRST_HOUR


def test_experience_given_at_the_start_is_used() -> None:
    minutes = np.arange(6 * 1440 + 9 * 60 - 2)
    rates = np.where(minutes % 1440 // 60 == 9, 100.0, 5.0)
    policy = PredictivePolicy(Limits(max_replicas=40))
    begin = START // 86_400 * 86_400
    policy.learn(History(times=list(begin + 60.0 * minutes), loads=list(rates), capacity=10, cold_start=180))
    before_nine = begin + 60.0 * (6 * 1440 + 9 * 60 - 2)
    decision = policy.decide(
        Observation(time=before_nine, load=5, queue=0, ready=1, starting=0, cold_start=180, capacity=10)
    )
    assert decision.replicas >= 10


def test_it_is_a_policy_as_the_protocol_says() -> None:
    assert isinstance(PredictivePolicy(Limits(), Objective()), Policy)
