"""Whatever is observed: a status is made, it keeps its promises, and making it again changes nothing."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nereus.api.problems import Problem
from nereus.api.protocol import ModelReport, ModelState, PodReport
from nereus.api.status import Status
from nereus.diagnosis import ApplyFailure, World, events, invalid, look_again, significant, status
from tests.harness.status_checker import check_status
from tests.unit.diagnosis.scenarios import SCALED, SCENARIOS
from tests.unit.diagnosis.worlds import NOW, REVISION, TEMPLATE, autoscaler, deployment, service, serving_pod

Json = dict[str, Any]

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)


def spoiled(value: Any) -> st.SearchStrategy[Any]:
    """The value with some of its parts replaced by anything or left out."""
    if isinstance(value, dict):
        kept = st.fixed_dictionaries({}, optional={key: spoiled(item) for key, item in value.items()})
        return st.one_of(kept, kept, kept, anything)
    if isinstance(value, list):
        return st.one_of(st.tuples(*(spoiled(item) for item in value)).map(list), anything) if value else anything
    return st.one_of(st.just(value), st.just(value), st.just(value), anything)


states = st.sampled_from(list(ModelState))
models = st.builds(
    ModelReport,
    name=st.sampled_from(["resnet", "resnet-1", "other"]),
    state=states,
    message=st.text(max_size=3000),
    serving=st.booleans(),
    versions=st.lists(st.text(max_size=40), max_size=3).map(tuple),
    load_seconds=st.sampled_from([None, 1.5, -1.0, math.inf, math.nan]),
    conflicts=st.lists(st.text(max_size=30), max_size=3).map(tuple),
)
times = st.none() | st.floats() | st.integers() | st.floats(NOW.timestamp() - 400, NOW.timestamp())
reports = st.builds(
    PodReport,
    revision=st.sampled_from([REVISION, "", "old"]),
    models=st.lists(models, max_size=3).map(tuple),
    ready=st.booleans(),
    server_live=st.booleans(),
    started_at=times,
    fetched_at=times,
    server_live_at=times,
    ready_at=times,
    problems=st.lists(st.text(max_size=50), max_size=2).map(tuple),
)
POD_NAMES = ("a", "b", "c")
worlds = st.builds(
    lambda **parts: World.read(plan_revision=REVISION, template=TEMPLATE, **parts),
    service=st.sampled_from([service(), service(models=2), SCALED, service(suspend=True)]),
    pods=st.tuples(*(st.just(serving_pod(name)) | spoiled(serving_pod(name)) for name in POD_NAMES)),
    deployment=st.none() | spoiled(deployment(2)),
    autoscaler=st.none() | spoiled(autoscaler()),
    reports=st.fixed_dictionaries({}, optional={f"uid-{name}": reports for name in POD_NAMES}),
    warnings=st.fixed_dictionaries({}, optional={f"uid-{name}": st.text() for name in POD_NAMES}),
    apply_failures=st.lists(
        st.builds(ApplyFailure, object=st.text(), reason=st.text(), message=st.text(), manager=st.text()), max_size=2
    ),
)
observed_worlds = worlds | st.sampled_from([scenario.world for scenario in SCENARIOS])


def resource(of: Json) -> Json:
    return {"metadata": {"generation": 3}, "status": of}


@settings(max_examples=300, deadline=None)
@given(worlds)
def test_any_world_makes_a_status_that_keeps_its_promises(observed: World) -> None:
    made = status(observed, previous={}, now=NOW)
    assert check_status(resource(made)) == []
    assert status(observed, previous={}, now=NOW) == made
    assert len(made.get("reasons", [])) <= 10
    Status.model_validate(made)
    json.dumps(made, allow_nan=False)
    for event in events({}, made):
        assert 0 < len(event.message) <= 1024


@settings(max_examples=200, deadline=None)
@given(observed_worlds, st.integers(0, 10_000))
def test_a_status_that_stands_is_not_written_again(observed: World, later: int) -> None:
    moment = NOW + timedelta(seconds=later)
    made = status(observed, previous={}, now=moment)
    again = status(observed, previous=made, now=moment)
    assert again == made
    announced = look_again(observed, previous=again, now=moment)
    assert announced is None or announced > 0


@settings(max_examples=200, deadline=None)
@given(observed_worlds, anything | spoiled(status(SCENARIOS[0].world, previous={}, now=NOW)))
def test_whatever_an_earlier_release_stored_a_status_is_made(observed: World, previous: Any) -> None:
    previous = previous if isinstance(previous, dict) else {}
    made = status(observed, previous=previous, now=NOW)
    assert check_status(resource(made)) == []
    broken = invalid({"metadata": {"generation": 3}}, (Problem("spec", "x" * 9000),), previous=previous, now=NOW)
    assert [line for line in check_status(resource(broken)) if "ahead of generation" not in line] == []
    significant(previous, made)
    events(previous, made)


@settings(max_examples=100, deadline=None)
@given(observed_worlds, observed_worlds)
def test_a_transition_time_moves_only_with_the_truth(first: World, second: World) -> None:
    before = status(first, previous={}, now=NOW)
    after = status(second, previous=before, now=NOW + timedelta(hours=1))
    times_before = {item["type"]: item for item in before["conditions"]}
    for item in after["conditions"]:
        old = times_before.get(item["type"])
        moved = old is None or old["lastTransitionTime"] != item["lastTransitionTime"]
        assert moved == (old is None or old["status"] != item["status"])
