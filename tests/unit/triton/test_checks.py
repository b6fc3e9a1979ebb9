"""What is wrong with a model's configuration is told before anything is applied: field, value and remedy."""

from __future__ import annotations

from typing import Any

import pytest

from nereus.api.service import ModelService, read
from nereus.triton import checks
from tests.harness.resources import service as resource
from tests.harness.resources import with_model

INPUT = {"name": "x", "dataType": "FP32", "dims": [2]}
OLDEST = {"mode": "Sequence", "sequence": {"strategy": "Oldest", "maxCandidates": 4}}
CACHE = {"args": ["--cache-config=local,size=1048576"]}


def warm_up(entry: str) -> str:
    return f"model_warmup {{ batch_size: 1 inputs {{ {entry} }} }}"


def service(**fields: Any) -> ModelService:
    return read(with_model(**fields))


def told(**fields: Any) -> list[str]:
    return [str(problem) for problem in checks.problems(service(**fields))]


# Fact, fields of the model, the path to blame (behind spec.models[0].), words of the sentence.
WRONG: list[tuple[str, dict[str, Any], str, tuple[str, ...]]] = [
    (
        "an unknown field in configText, with its line",
        {"configText": 'backend: "python"\nmax_batchsize: 4'},
        "configText",
        ("line 2", "max_batchsize", "max_batch_size"),
    ),
    ("a configText that is no text form", {"configText": "input ["}, "configText", ("line 1",)),
    (
        "two schedulers in configText",
        {"configText": "dynamic_batching {} sequence_batching {}"},
        "configText",
        ("oneof",),
    ),
    ("the name of another model", {"configText": 'name: "other"'}, "configText", ("'other'", "'m'", "remove")),
    (
        "fields that ask for another scheduler than configText",
        {"batching": {"maxQueueDelay": "1ms"}, "configText": "sequence_batching {}"},
        "batching",
        ("sequence_batching", "remove one"),
    ),
    (
        "a preferred size above the maximum in configText",
        {"batching": {"preferredBatchSizes": [4, 64]}, "configText": "max_batch_size: 32"},
        "batching.preferredBatchSizes",
        ("64", "maxBatchSize 32"),
    ),
    (
        "a preferred size in configText above maxBatchSize",
        {"maxBatchSize": 8, "configText": "dynamic_batching { preferred_batch_size: 16 }"},
        "configText",
        ("16", "maxBatchSize 8"),
    ),
    (
        "batching of a model that takes no batches",
        {"batching": {"mode": "Dynamic"}, "configText": "max_batch_size: 0"},
        "batching",
        ("maxBatchSize of at least 1", "Off"),
    ),
    (
        "a default priority above the levels",
        {"maxBatchSize": 2, "configText": "dynamic_batching { priority_levels: 2 default_priority_level: 3 }"},
        "configText",
        ("default level 3", "1 to 2"),
    ),
    (
        "levels without a default",
        {"maxBatchSize": 2, "configText": "dynamic_batching { priority_levels: 2 }"},
        "configText",
        ("default level 0", "1 to 2"),
    ),
    (
        "the policy of a level that does not exist",
        {
            "maxBatchSize": 2,
            "batching": {"priorities": {"levels": 2, "default": 1}},
            "configText": "dynamic_batching { priority_queue_policy { key: 3 value { max_queue_size: 1 } } }",
        },
        "configText",
        ("level 3", "2 levels"),
    ),
    (
        "a timeout that overflows",
        {
            "maxBatchSize": 2,
            "configText": "dynamic_batching {"
            " default_queue_policy { default_timeout_microseconds: 18446744073709551615 } }",
        },
        "configText",
        ("18446744073709551615", "lower it"),
    ),
    (
        "the same input twice in configText",
        {"configText": 2 * 'input { name: "x" data_type: TYPE_FP32 dims: 1 } '},
        "configText",
        ("input 'x' occurs 2 times", "rename"),
    ),
    (
        "the same output twice in configText",
        {"configText": 2 * 'output { name: "y" data_type: TYPE_FP32 dims: 1 } '},
        "configText",
        ("'y' occurs 2 times",),
    ),
    (
        "a dimension that no tensor has",
        {"configText": 'input { name: "x" data_type: TYPE_FP32 dims: -2 }'},
        "configText",
        ("dimension -2", "-1"),
    ),
    (
        "a warm-up without inputs",
        {"configText": 'model_warmup { name: "w" batch_size: 1 }'},
        "configText",
        ("'w'", "no inputs"),
    ),
    (
        "a warm-up larger than the model's batches",
        {"inputs": [INPUT], "warmup": {"batchSize": 9}, "configText": "max_batch_size: 8"},
        "warmup",
        ("batch size 9", "1 to 8"),
    ),
    (
        "a warm-up that batches a model that does not",
        {"inputs": [INPUT], "warmup": {"batchSize": 2}, "configText": "max_batch_size: 0"},
        "warmup",
        ("batch size 2", "1 to 1"),
    ),
    (
        "a warm-up with an input that the model does not have",
        {
            "inputs": [INPUT],
            "configText": warm_up('key: "z" value { data_type: TYPE_FP32 dims: 2 zero_data: true }'),
        },
        "configText",
        ("input 'z'", "does not have"),
    ),
    (
        "a warm-up with another shape than the model's",
        {
            "inputs": [INPUT],
            "configText": warm_up('key: "x" value { data_type: TYPE_INT8 dims: 2 zero_data: true }'),
        },
        "configText",
        ("INT8[2]", "FP32[2]", "agree"),
    ),
    (
        "a warm-up without data",
        {"configText": warm_up('key: "x" value { data_type: TYPE_FP32 dims: 2 }')},
        "configText",
        ("no data", "zero_data"),
    ),
    (
        "a warm-up without a size",
        {"configText": warm_up('key: "x" value { data_type: TYPE_FP32 dims: -1 zero_data: true }')},
        "configText",
        ("dimension below 1", "size to try"),
    ),
    (
        "a warm-up that no server could hold",
        {"inputs": [{"name": "x", "dataType": "FP64", "dims": [2**40]}], "warmup": {}},
        "warmup",
        ("bytes", "lower"),
    ),
    ("GPU instances without a GPU", {"instances": {"kind": "GPU"}}, "instances.kind", ("nvidia.com/gpu", "CPU")),
    (
        "GPU instances in configText without a GPU",
        {"configText": "instance_group { gpus: [0] }"},
        "configText",
        ("nvidia.com/gpu",),
    ),
    (
        "a rate limiter in configText of a server that has it off",
        {"configText": 'instance_group { rate_limiter { resources { name: "r" count: 1 } } }'},
        "configText",
        ("instances.rateLimiter", "--rate-limit=execution_count"),
    ),
    (
        "an accelerator on GPUs without a GPU",
        {"backend": "onnxruntime", "optimization": {"accelerator": "TensorRT"}},
        "optimization",
        ("TensorRT", "nvidia.com/gpu"),
    ),
    (
        "an accelerator that the backend does not have",
        {"backend": "python", "optimization": {"accelerator": "OpenVINO"}},
        "optimization",
        ("OpenVINO", "onnxruntime", "python", "remove it"),
    ),
    (
        "CUDA graphs of another platform",
        {"platform": "onnxruntime_onnx", "optimization": {"cudaGraphs": True}},
        "optimization",
        ("cudaGraphs", "tensorrt", "onnxruntime"),
    ),
    (
        "the same version twice in configText",
        {"configText": "version_policy { specific { versions: [2, 2] } }"},
        "configText",
        ("version 2 occurs 2 times",),
    ),
    (
        "a version that does not exist",
        {"configText": "version_policy { specific { versions: 0 } }"},
        "configText",
        ("below 1",),
    ),
    (
        "no version at all",
        {"configText": "version_policy { latest { num_versions: 0 } }"},
        "configText",
        ("at least 1",),
    ),
    (
        "an ensemble over a model that is not served",
        {"configText": 'platform: "ensemble" ensemble_scheduling { step { model_name: "absent" model_version: -1 } }'},
        "configText",
        ("'absent'", "spec.models"),
    ),
    (
        "a response cache in a server without one",
        {"configText": "response_cache { enable: true }"},
        "configText",
        ("responseCache: true", "runtime.responseCacheSize"),
    ),
    (
        "a response cache of a model that sends any number of answers",
        {"responseCache": True, "configText": "model_transaction_policy { decoupled: true }"},
        "responseCache",
        ("decoupled", "remove one"),
    ),
    (
        "a response cache of a model whose answers depend on a sequence",
        {"responseCache": True, "batching": {"mode": "Sequence"}},
        "responseCache",
        ("sequence batching", "remove one"),
    ),
    (
        "a preferred size of sequences above the maximum in configText",
        {"batching": {"preferredBatchSizes": [64], **OLDEST}, "configText": "max_batch_size: 32"},
        "batching.preferredBatchSizes",
        ("64", "maxBatchSize 32"),
    ),
    (
        "a control that is an input too",
        {"inputs": [INPUT], "batching": {"mode": "Sequence", "sequence": {"controls": [{"name": "x", "kind": "End"}]}}},
        "batching.sequence.controls",
        ("'x'", "remove it from inputs"),
    ),
    (
        "sequences where configText batches otherwise",
        {"batching": {"mode": "Sequence"}, "configText": "dynamic_batching {}"},
        "batching",
        ("sequence_batching", "dynamic_batching", "remove one"),
    ),
]


@pytest.mark.parametrize(("fields", "path", "words"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_it_is_told(fields: dict[str, Any], path: str, words: tuple[str, ...]) -> None:
    [problem] = checks.problems(service(**fields))
    assert problem.path == f"spec.models[0].{path}"
    for word in words:
        assert word in problem.message


def test_every_check_is_shown_by_a_case_above() -> None:
    """A check that no case reaches could be empty."""
    speaking = {check.__name__ for check in checks.CHECKS if any(_speaks(check, row[1]) for row in WRONG)}
    assert speaking == {check.__name__ for check in checks.CHECKS}


def _speaks(check: checks.Check, fields: dict[str, Any]) -> bool:
    given = service(**fields)
    subject = checks.subject(given, given.models[0], "spec.models[0]")
    return isinstance(subject, checks.Subject) and any(check(subject))


GOOD: list[dict[str, Any]] = [
    {},
    {"responseCache": True},
    {"responseCache": False},
    {"backend": "onnxruntime", "optimization": {"accelerator": "OpenVINO", "cudaGraphs": False}},
    {"optimization": {"accelerator": "OpenVINO"}},
    {"instances": {"rateLimiter": {"resources": [{"name": "R", "count": 1}]}}},
    {"maxBatchSize": 8, "batching": {"preferredBatchSizes": [8], **OLDEST}},
    {"maxBatchSize": 0, "batching": {"mode": "Sequence"}},
    {"maxBatchSize": 0, "batching": {"mode": "Off"}, "configText": "dynamic_batching { preferred_batch_size: 99 }"},
    {"maxBatchSize": 8, "configText": "sequence_batching { max_sequence_idle_microseconds: 5000000 }"},
    {"maxBatchSize": 8, "batching": {"preferredBatchSizes": [1, 8], "priorities": {"levels": 2, "default": 2}}},
    {"batching": {"preferredBatchSizes": [1000]}},
    {"inputs": [INPUT], "warmup": {"batchSize": 64}},
    {"inputs": [{**INPUT, "dims": [-1]}], "warmup": {"requests": 3}},
    {"configText": 'name: "m"'},
    {"versions": {"specific": [1, 2]}, "instances": {"count": 4, "kind": "CPU"}},
]


@pytest.mark.parametrize("fields", GOOD)
def test_nothing_is_said_about_a_configuration_that_works(fields: dict[str, Any]) -> None:
    assert told(**fields) == []


def test_an_ensemble_over_served_models_and_a_cache_that_exists_pass() -> None:
    step = """platform: "ensemble" ensemble_scheduling { step { model_name: "a" model_version: -1
      input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } } }"""
    models = [
        {"name": "a", "source": {"uri": "pvc://p"}, "configText": "response_cache { enable: true }"},
        {"name": "e", "source": {"uri": "pvc://p"}, "configText": step},
    ]
    assert checks.problems(read(resource(models=models, runtime=CACHE))) == ()


def test_problems_of_all_models_are_told_at_once() -> None:
    models = [
        {"name": "a", "source": {"uri": "pvc://p"}, "configText": "nonsense: 1"},
        {"name": "b", "source": {"uri": "pvc://p"}},
        {"name": "c", "source": {"uri": "pvc://p"}, "instances": {"kind": "GPU"}, "configText": 'name: "b"'},
    ]
    assert [problem.path for problem in checks.problems(read(resource(models=models)))] == [
        "spec.models[0].configText",
        "spec.models[2].configText",
        "spec.models[2].instances.kind",
    ]


def test_a_resource_of_the_rate_limiter_is_shared_in_one_way_by_all_models() -> None:
    def limited(name: str, **more: object) -> dict[str, object]:
        limiter = {"resources": [{"name": "bandwidth", "count": 1, **more}]}
        return {"name": name, "source": {"uri": "pvc://models/m"}, "instances": {"rateLimiter": limiter}}

    assert checks.problems(read(resource(models=[limited("a"), limited("b", count=2)]))) == ()
    [problem] = checks.problems(read(resource(models=[limited("a"), limited("b", **{"global": True})])))
    assert problem.path == "spec.models[1].instances.rateLimiter.resources"
    assert "'bandwidth' is for the whole server and in model 'a' per device" in problem.message
