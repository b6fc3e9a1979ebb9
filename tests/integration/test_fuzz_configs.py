"""Arbitrary configurations, drawn from every field: our validation refuses one with a place and a remedy, or a real
tritonserver takes it and serves the model. Never does Triton refuse what we let pass.

Always the same draws. Whoever changes a field or a check may raise MODELS for a search of an hour.
"""

from __future__ import annotations

import random
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from nereus.api.problems import InvalidSpecError
from nereus.api.service import read
from nereus.rendering import render
from tests.harness.rendered import SETTINGS, start
from tests.harness.resources import service
from tests.harness.tritonserver import UnavailableError, installation

pytestmark = pytest.mark.timeout(240)
Json = dict[str, Any]

MODELS = 6
"""As many as are served; each costs the server a process."""
ECHO = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        values = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", value)]) for value in values]
"""
TEXTS = (
    'metric_tags { key: "team" value: "a" }',
    "optimization { priority: PRIORITY_MAX input_pinned_memory { enable: false } }",
    'parameters { key: "p" value { string_value: "" } }',
    "version_policy { all {} }",
    "instance_group [ { count: 2 kind: KIND_CPU } ]",
    "dynamic_batching { preferred_batch_size: [ 2 ] }",
    "sequence_batching { oldest { max_candidate_sequences: 2 } }",
    "max_batch_size: 2",
    "response_cache { enable: true }",
    "model_transaction_policy { decoupled: false }",
)


def drawn(chance: random.Random, number: int) -> Json:
    """A model with any of the fields that a server without a GPU has, set to anything that their types allow."""
    maybe = chance.random
    model: Json = {
        "name": f"m{number}",
        "source": {"uri": "configmap://files/m"},
        "backend": "python",
        "maxBatchSize": chance.choice([0, 1, 4, 16]),
        "inputs": [{"name": "x", "dataType": chance.choice(["FP32", "INT64", "UINT8", "BOOL", "STRING"]), "dims": [1]}],
    }
    model["outputs"] = [{**model["inputs"][0], "name": "y"}]
    if maybe() < 0.7:
        model["batching"] = batching(chance)
    if maybe() < 0.4:
        model["instances"] = {"count": chance.randint(1, 2), "kind": chance.choice(["CPU", "Auto"])}
        if maybe() < 0.5:
            resources: list[Json] = [{"name": "r", "count": 1, **({"global": True} if maybe() < 0.5 else {})}]
            model["instances"]["rateLimiter"] = {"resources": resources, "priority": chance.randint(1, 3)}
    if maybe() < 0.3:
        model["warmup"] = {"requests": chance.randint(1, 2), "batchSize": chance.choice([1, 4])}
    if maybe() < 0.3:
        model["versions"] = chance.choice([{"latest": 1}, {"all": True}, {"specific": [1]}])
    if maybe() < 0.3:
        model["responseCache"] = True
    if maybe() < 0.3:
        model["parameters"] = {"a key": chance.choice(["", "ü \" \\ '", "x" * 50])}
    if maybe() < 0.5:
        model["configText"] = "\n".join(chance.sample(TEXTS, chance.randint(1, 2)))
    return model


def batching(chance: random.Random) -> Json:
    mode = chance.choice(["Off", "Dynamic", "Dynamic", "Dynamic", "Sequence"])
    maybe = chance.random
    if mode == "Sequence":
        strategy = chance.choice(["Direct", "Oldest"])
        controls = [{"name": "START", "kind": "Start"}, {"name": "ID", "kind": "CorrelationID", "dataType": "UINT64"}]
        more: Json = {"controls": controls[: chance.randint(0, 2)]} if maybe() < 0.5 else {}
        if strategy == "Oldest":
            more |= {"maxCandidates": chance.choice([1, 16])}
        return {"mode": mode, "sequence": {"strategy": strategy, "maxIdle": "5s", **more}}
    if mode == "Off":
        return {"mode": mode}
    declared: Json = {"mode": mode} if maybe() < 0.5 else {}
    if maybe() < 0.4:
        declared["preferredBatchSizes"] = chance.sample([1, 2, 4, 8, 16], chance.randint(1, 2))
    if maybe() < 0.4:
        declared["maxQueueDelay"] = chance.choice(["0s", "1us", "2ms", "1h"])
    if maybe() < 0.3:
        declared["preserveOrdering"] = chance.choice([True, False])
    if maybe() < 0.3:
        levels = chance.randint(1, 3)
        declared["priorities"] = {"levels": levels, "default": chance.randint(1, 3)}
    if maybe() < 0.3:
        queue = {"maxSize": chance.choice([1, 100]), "timeout": "1s", "onTimeout": chance.choice(["Reject", "Delay"])}
        declared["queue"] = {**queue, "allowTimeoutOverride": chance.choice([True, False])}
    return declared


def refusal(models: list[Json]) -> InvalidSpecError | None:
    try:
        render(read(service(models=models)), settings=SETTINGS)
    except InvalidSpecError as error:
        return error
    return None


def test_what_our_validation_lets_pass_triton_serves(tmp_path: Path) -> None:
    try:
        installation()
    except UnavailableError as error:
        pytest.skip(f"no real Triton here: {error}")
    chance = random.Random(5)
    accepted: list[Json] = []
    refused: list[InvalidSpecError] = []
    while len(accepted) < MODELS:
        model = drawn(chance, len(accepted))
        wrong = refusal([*accepted, model])
        if wrong is None:
            accepted.append(model)
        else:
            refused.append(wrong)
    print(f"{len(accepted)} served, {len(refused)} refused")
    assert refused, "the draws hold nothing that could be wrong"
    for wrong in refused:
        for problem in wrong.problems:
            assert problem.path.startswith("spec.")
            assert len(problem.message) > 15, problem
    with ExitStack() as stack:
        files = {"kind": "ConfigMap", "metadata": {"name": "files"}, "data": {"m.model.py": ECHO}}
        running = start([files, service(models=accepted)], tmp_path, stack)
        assert [model["name"] for model in accepted if not running.client.is_model_ready(model["name"])] == []
        for model in accepted:
            said = running.client.get_model_config(model["name"])
            assert said["input"][0]["data_type"] == f"TYPE_{model['inputs'][0]['dataType']}"
