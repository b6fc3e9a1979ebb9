"""The plan that pods carry out: complete, stable, and spread over ConfigMaps that Kubernetes accepts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nereus.api import names
from nereus.api.problems import InvalidSpecError
from nereus.api.protocol import PLAN_KEY, ModelPlan, Plan, digest, model_key
from nereus.api.service import ModelService, read
from nereus.workload.plan import config_maps, model_plan, plan
from tests.harness.resources import many_models, service

CONFIG_MAP_LIMIT = 1024 * 1024


def planned(uri: str, **fields: Any) -> ModelPlan:
    return model_plan(read(service(models=[{"name": "m", "source": {"uri": uri}, **fields}])).models[0])


def large(count: int, *, bytes_each: int) -> ModelService:
    """Models whose parameters weigh about as much as told."""
    text = "x" * 4000
    parameters = {f"p{number:03}": text for number in range(bytes_each // 4000)}
    model = {"source": {"uri": "pvc://store/m"}, "parameters": parameters}
    return read(service(models=[{**model, "name": f"m{number}"} for number in range(count)]))


@pytest.mark.parametrize(
    ("uri", "directory"),
    [
        ("configmap://files", "/nereus/sources/configmap/files"),
        ("configmap://files/prefix", "/nereus/sources/configmap/files"),
        ("pvc://claim", "/nereus/sources/pvc/claim"),
        ("pvc://claim/a/b", "/nereus/sources/pvc/claim/a/b"),
        ("https://example.com/m.zip", ""),
    ],
)
def test_a_mounted_source_is_found_where_it_is_mounted(uri: str, directory: str) -> None:
    made = planned(uri)
    assert (made.source, made.directory) == (uri, directory)


def test_the_plan_of_a_model_holds_everything_that_its_configuration_is_made_of() -> None:
    made = planned("pvc://c", maxBatchSize=4, backend="python", configText="# mine", versions={"specific": [3, 1]})
    assert made.defaults_text.startswith("dynamic_batching")
    assert made.config_text == "# mine"
    assert 'backend: "python"' in made.fields_text
    assert made.versions == (1, 3)
    assert planned("pvc://c", batching={"mode": "Off"}).removes == ("dynamic_batching",)


def test_what_the_sidecar_reads_is_what_was_planned() -> None:
    given = read(many_models(3))
    made, [shard] = plan(given)
    assert Plan.from_json(shard[PLAN_KEY]) == made
    for model in given.models:
        text = shard[model_key(model.name)]
        assert ModelPlan.from_json(text) == model_plan(model)
        assert made.models[model.name] == digest(text)


def test_when_and_how_long_a_model_is_loaded_is_in_its_plan_and_in_no_other() -> None:
    made = planned("https://h/m.zip", load={"order": 2, "timeout": "1m30s", "optional": True})
    assert (made.load_order, made.load_seconds, made.optional) == (2, 90.0, True)
    assert ModelPlan.from_json(made.to_json()) == made
    assert planned("https://h/m.zip", load={}).to_json() == planned("https://h/m.zip").to_json()
    assert not {"load_order", "load_seconds", "optional"} & json.loads(planned("https://h/m.zip").to_json()).keys()


def test_two_hundred_models_fit_into_one_config_map() -> None:
    made, shards = plan(read(many_models(200)))
    assert len(made.models) == 200
    assert len(shards) == 1


def test_a_large_plan_is_spread_and_every_part_is_accepted_by_kubernetes() -> None:
    given = large(5, bytes_each=400_000)
    made, shards = plan(given)
    assert len(shards) == 3
    documents = {key: text for shard in shards for key, text in shard.items()}
    assert len(documents) == sum(len(shard) for shard in shards) == 6
    assert {name: digest(documents[model_key(name)]) for name in made.models} == dict(made.models)
    for manifest in config_maps(given, shards):
        assert len(json.dumps(manifest["data"], ensure_ascii=False).encode()) < CONFIG_MAP_LIMIT
    assert [manifest["metadata"]["name"] for manifest in config_maps(given, shards)] == [
        names.plan_config_map("svc", number) for number in range(3)
    ]


def test_a_plan_that_fits_nowhere_is_refused_with_the_limit() -> None:
    with pytest.raises(InvalidSpecError) as refused:
        plan(large(12, bytes_each=400_000))
    [problem] = refused.value.problems
    assert problem.path == "spec.models"
    assert f"{names.PLAN_SHARDS * names.PLAN_SHARD_BYTES:,}" in problem.message
    assert "divide the models" in problem.message


def test_one_model_that_fits_nowhere_is_named() -> None:
    text = "ü" * 4000  # three bytes for each of two in the text form of JSON
    model = {"name": "m", "source": {"uri": "pvc://c"}, "parameters": {f"p{n:03}": text for n in range(128)}}
    with pytest.raises(InvalidSpecError) as refused:
        plan(read(service(models=[model])))
    [problem] = refused.value.problems
    assert problem.path == "spec.models[0]"
    assert f"{names.PLAN_SHARD_BYTES:,}" in problem.message


def test_the_revision_changes_with_any_model_and_with_nothing_else() -> None:
    before, _ = plan(read(many_models(3)))
    again, _ = plan(read(many_models(3)))
    changed = many_models(3)
    changed["spec"]["models"][1] = {**changed["spec"]["models"][1], "maxBatchSize": 4}
    after, _ = plan(read(changed))
    assert before.revision == again.revision != after.revision
    assert {name for name in before.models if before.models[name] != after.models[name]} == {"m1"}
