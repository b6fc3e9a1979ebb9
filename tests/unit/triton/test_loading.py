"""An order in which Triton cannot load the models is told with the remedy."""

from __future__ import annotations

from typing import Any

import pytest

from nereus.api.problems import Problem
from nereus.api.service import read
from nereus.triton import checks, server
from tests.harness.resources import Json, service

TENSORS: Json = {
    "inputs": [{"name": "x", "dataType": "FP32", "dims": [1]}],
    "outputs": [{"name": "y", "dataType": "FP32", "dims": [1]}],
}


def told(ensemble: int | None, step: int | None, **more: Any) -> tuple[Problem, ...]:
    runs = {"steps": [{"model": "a", "inputMap": {"x": "x"}, "outputMap": {"y": "y"}}]}
    pipeline = {"name": "e", **TENSORS, "ensemble": runs, **({} if ensemble is None else {"load": {"order": ensemble}})}
    model = {"name": "a", "source": {"uri": "pvc://p"}, "maxBatchSize": 0, **TENSORS}
    model |= {} if step is None else {"load": {"order": step}}
    return checks.problems(read(service(models=[pipeline, model], **more)))


@pytest.mark.parametrize(("ensemble", "step"), [(None, 3), (2, 3)])
def test_an_ensemble_before_its_step_is_refused(ensemble: int | None, step: int) -> None:
    [problem] = told(ensemble, step)
    assert problem.path == "spec.models[0].load.order"
    assert "'a'" in problem.message
    assert "raise it to 3" in problem.message


@pytest.mark.parametrize(("ensemble", "step"), [(None, None), (3, 3), (4, 3), (1, None)])
def test_an_ensemble_with_or_after_its_steps_passes(ensemble: int | None, step: int | None) -> None:
    assert told(ensemble, step) == ()


@pytest.mark.parametrize(("threads", "expected"), [(None, []), (2, ["--model-load-thread-count=2"])])
def test_triton_loads_as_many_at_once_as_the_sidecar_asks_for(threads: int | None, expected: list[str]) -> None:
    runtime = {} if threads is None else {"loadThreads": threads}
    arguments = server.arguments(read(service(runtime=runtime)))
    assert [argument for argument in arguments if "thread-count" in argument] == expected


def test_two_numbers_of_threads_are_refused() -> None:
    runtime = {"loadThreads": 2, "args": ["--model-load-thread-count=8"]}
    [problem] = server.problems(read(service(runtime=runtime)))
    assert problem.path == "spec.runtime.loadThreads"
    assert "keep one" in problem.message
