"""The contract with the sidecar: what is written is read back, and an older or newer side is understood."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nereus.api.protocol import ModelPlan, ModelReport, ModelState, Plan, PodReport

names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=20)
seconds = st.none() | st.floats(0, 1e9)
model_reports = st.builds(
    ModelReport,
    name=names,
    state=st.sampled_from(ModelState),
    message=st.text(max_size=50),
    serving=st.booleans(),
    versions=st.lists(names, max_size=3).map(tuple),
    fetch_seconds=seconds,
    fetched_bytes=st.none() | st.integers(0, 2**50),
    load_seconds=seconds,
    conflicts=st.lists(names, max_size=3).map(tuple),
)
pod_reports = st.builds(
    PodReport,
    revision=names,
    models=st.lists(model_reports, max_size=4).map(tuple),
    ready=st.booleans(),
    draining=st.booleans(),
    server_live=st.booleans(),
    started_at=seconds,
    fetched_at=seconds,
    server_live_at=seconds,
    ready_at=seconds,
    version=st.text(max_size=10),
    problems=st.lists(st.text(max_size=20), max_size=3).map(tuple),
)


@given(pod_reports)
def test_a_report_is_read_back_as_it_was_written(report: PodReport) -> None:
    assert PodReport.from_json(report.to_json()) == report


@given(names, st.text(max_size=50), st.lists(st.integers(1, 2**40), max_size=4))
def test_the_plan_of_a_model_is_read_back_as_it_was_written(name: str, text: str, versions: list[int]) -> None:
    plan = ModelPlan(name=name, source="pvc://c/m", config_text=text, fields_text=text, versions=tuple(versions))
    assert ModelPlan.from_json(plan.to_json()) == plan


@given(st.dictionaries(names, names, max_size=5))
def test_the_revision_of_a_plan_is_that_of_its_models_in_any_order(models: dict[str, str]) -> None:
    plan = Plan(models=models)
    assert Plan(models=dict(reversed(models.items()))).revision == plan.revision
    assert Plan.from_json(plan.to_json()) == plan
    assert Plan(models={**models, "one more": "x"}).revision != plan.revision


def test_a_newer_sidecar_may_say_more() -> None:
    text = PodReport(models=(ModelReport(name="m", state=ModelState.READY),)).to_json()
    newer = json.loads(text)
    newer["protocol"] = 2
    newer["mood"] = "good"
    newer["models"][0]["mood"] = "good"
    assert PodReport.from_json(json.dumps(newer)).models[0].name == "m"


def test_an_older_sidecar_may_say_less() -> None:
    report = PodReport.from_json('{"protocol": 1, "models": [{"name": "m", "state": "Ready"}]}')
    assert report.models == (ModelReport(name="m", state=ModelState.READY),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>",
        "null",
        "[]",
        "3",
        "{}",
        '{"protocol": 1, "models": 3}',
        '{"protocol": 1, "models": [3]}',
        '{"protocol": 1, "models": [{"name": "m"}]}',
        '{"protocol": 1, "models": [{"state": "Ready"}]}',
        '{"protocol": 1, "models": [{"name": "m", "state": "Singing"}]}',
        '{"protocol": 1, "models": [{"name": "m", "state": "Ready", "versions": 3}]}',
        '{"protocol": 1, "problems": 3}',
    ],
)
def test_garbage_instead_of_a_report_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words come from several checkers; the type is the promise
        PodReport.from_json(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["protocol", "models", "name", "state", "versions", "ready"]), inner)
        ),
    )
)
def test_any_json_is_a_report_or_a_value_error(value: object) -> None:
    with contextlib.suppress(ValueError):
        PodReport.from_json(json.dumps(value))
