"""A wrong ensemble is told with the step to blame and the remedy; a right one passes, also where little is declared."""

from __future__ import annotations

from typing import Any

import pytest

from nereus.api.problems import Problem
from nereus.api.service import read
from nereus.triton import checks, config, model_config
from tests.harness.resources import Json, service


def tensor(name: str, *dims: int, data_type: str = "FP32", **more: Any) -> Json:
    return {"name": name, "dataType": data_type, "dims": list(dims or (1,)), **more}


def model(name: str, **fields: Any) -> Json:
    """x -> y, of one number."""
    shape = {"inputs": [tensor("x")], "outputs": [tensor("y")]}
    return {"name": name, "source": {"uri": "pvc://p"}, "maxBatchSize": 0, **shape, **fields}


def step(name: str, takes: str = "x", gives: str = "y", **more: Any) -> Json:
    return {"model": name, "inputMap": {"x": takes}, "outputMap": {"y": gives}, **more}


def ensemble(*steps: Json, name: str = "e", **fields: Any) -> Json:
    shape = {"inputs": [tensor("x")], "outputs": [tensor("y")]}
    return {"name": name, **shape, "ensemble": {"steps": list(steps)}, **fields}


def told(*models: Json) -> tuple[Problem, ...]:
    return checks.problems(read(service(models=list(models))))


A, B = model("a"), model("b")
# Fact, models, the path to blame (behind spec.models[0].), words of the sentence.
WRONG: list[tuple[str, list[Json], str, tuple[str, ...]]] = [
    ("a model that is not there", [ensemble(step("z")), A], "ensemble.steps[0]", ("'z'", "spec.models", "add it")),
    (
        "an input that the step's model does not have",
        [ensemble({"model": "a", "inputMap": {"x": "x", "X": "x"}, "outputMap": {"y": "y"}}), A],
        "ensemble.steps[0]",
        ("no input 'X'", "only x", "correct inputMap"),
    ),
    (
        "an output that the step's model does not have",
        [ensemble({**step("a"), "outputMap": {"Y": "y"}}), A],
        "ensemble.steps[0]",
        ("no output 'Y'", "only y", "correct outputMap"),
    ),
    (
        "an input of a step that is left out",
        [ensemble(step("a")), {**A, "inputs": [tensor("x"), tensor("z")]}],
        "ensemble.steps[0]",
        ("needs its input 'z'", "add it"),
    ),
    (
        "a tensor that nobody makes",
        [ensemble(step("a", gives="t"), step("b", takes="other")), A, B],
        "ensemble.steps[1]",
        ("'other'", "made by no step"),
    ),
    (
        "an output of the ensemble that nobody makes",
        [ensemble(step("a", gives="t")), A],
        "ensemble",
        ("output 'y'", "made by no step"),
    ),
    (
        "an input of the ensemble that nobody takes",
        [ensemble(step("a"), inputs=[tensor("x"), tensor("spare")]), A],
        "ensemble",
        ("'spare'", "remove it"),
    ),
    (
        "a tensor that is made twice",
        [ensemble(step("a"), step("b")), A, B],
        "ensemble.steps[1]",
        ("'y'", "made before", "rename"),
    ),
    (
        "another type than the step takes",
        [ensemble(step("a"), inputs=[tensor("x", data_type="INT32")]), A],
        "ensemble.steps[0]",
        ("INT32[1]", "FP32[1]", "agree"),
    ),
    (
        "another shape between two steps",
        [ensemble(step("a", gives="t"), step("b", takes="t")), {**A, "outputs": [tensor("y", 4)]}, B],
        "ensemble.steps[1]",
        ("FP32[4]", "FP32[1]"),
    ),
    (
        "another shape than the ensemble gives",
        [ensemble(step("a"), outputs=[tensor("y", 2, 2)]), A],
        "ensemble",
        ("FP32[1]", "FP32[2, 2]"),
    ),
    (
        "a version that the step's model does not serve",
        [ensemble(step("a", version=4)), {**A, "versions": {"specific": [1, 2]}}],
        "ensemble.steps[0]",
        ("version 4", "[1, 2]"),
    ),
    ("an ensemble that contains itself", [ensemble(step("e"))], "ensemble.steps[0]", ("circle", "e -> e")),
    (
        "an ensemble in configText that says another scheduler",
        [ensemble(step("a"), configText="dynamic_batching {}"), A],
        "ensemble",
        ("ensemble_scheduling", "dynamic_batching", "remove one"),
    ),
]


@pytest.mark.parametrize(("models", "path", "words"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_it_is_told(models: list[Json], path: str, words: tuple[str, ...]) -> None:
    [problem] = told(*models)
    assert problem.path == f"spec.models[0].{path}"
    for word in words:
        assert word in problem.message


def test_a_circle_over_several_ensembles_is_told_once_with_its_way() -> None:
    [problem] = told(ensemble(step("f"), name="e"), ensemble(step("g"), name="f"), ensemble(step("e"), name="g"))
    assert problem.path == "spec.models[2].ensemble.steps[0]"
    assert "e -> f -> g -> e" in problem.message


def test_many_ways_to_one_model_are_no_circle_and_are_walked_once() -> None:
    """A ladder of 30 ensembles, each with two ways down, has 2^30 paths."""
    both = {"inputs": [tensor("x")], "outputs": [tensor("y")]}
    rungs = [ensemble(step(f"r{n + 1}", gives="t"), step(f"r{n + 1}", takes="t"), name=f"r{n}") for n in range(30)]
    assert told(*rungs, model("r30", **both)) == ()


GOOD: list[tuple[str, list[Json]]] = [
    ("steps in any order", [ensemble(step("b", takes="t"), step("a", gives="t")), A, B]),
    ("steps that declare nothing", [ensemble(step("a")), {"name": "a", "source": {"uri": "pvc://p"}}]),
    ("an optional input left out", [ensemble(step("a")), {**A, "inputs": [tensor("x"), tensor("z", optional=True)]}]),
    ("any size", [ensemble(step("a"), inputs=[tensor("x", -1)]), A]),
    (
        "a batch that is a dimension of a step without batches",
        [ensemble(step("a"), maxBatchSize=8), {**A, "inputs": [tensor("x", -1, 1)], "outputs": [tensor("y", -1, 1)]}],
    ),
    ("a model used twice", [ensemble(step("a", gives="t"), step("a", takes="t")), A]),
    ("an ensemble within another", [ensemble(step("f")), ensemble(step("a"), name="f"), A]),
]


@pytest.mark.parametrize("models", [row[1] for row in GOOD], ids=[row[0] for row in GOOD])
def test_nothing_is_said_about_an_ensemble_that_works(models: list[Json]) -> None:
    assert told(*models) == ()


def test_the_steps_reach_triton_with_the_newest_version_unless_one_is_named() -> None:
    resource = service(models=[ensemble(step("a", gives="t"), step("a", takes="t", version=3), maxBatchSize=8), A])
    rendered = model_config.parse(config.fields_text(read(resource).models[0]))
    assert rendered.platform == "ensemble"
    assert [(one.model_name, one.model_version) for one in rendered.ensemble_scheduling.step] == [("a", -1), ("a", 3)]
    assert dict(rendered.ensemble_scheduling.step[0].output_map) == {"y": "t"}
    assert config.defaults_text(read(resource).models[0]) == "", "an ensemble does not batch, its steps do"
