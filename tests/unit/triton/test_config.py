"""What the fields of a model become in Triton's own configuration."""

from __future__ import annotations

from typing import Any

import pytest

from nereus.api.service import read
from nereus.api.spec.model import Model
from nereus.triton import config, model_config
from nereus.triton.model_config import ModelConfig
from tests.harness.resources import with_model


def model(**fields: Any) -> Model:
    return read(with_model(**fields)).models[0]


def fields(**declared: Any) -> ModelConfig:
    """The fields as Triton reads them: written as text and parsed again."""
    return model_config.parse(config.fields_text(model(**declared)))


def test_a_model_without_fields_says_nothing() -> None:
    assert config.fields_text(model()) == ""
    assert config.defaults_text(model()) == ""


def test_only_what_is_declared_is_said() -> None:
    assert config.fields_text(model(backend="python", maxBatchSize=0)) == 'max_batch_size: 0\nbackend: "python"\n'


def test_tensors_keep_their_order_types_and_shapes() -> None:
    told = fields(
        inputs=[
            {"name": "B", "dataType": "FP16", "dims": [-1, 3], "optional": True},
            {"name": "A", "dataType": "STRING", "dims": [1]},
        ],
        outputs=[{"name": "OUT", "dataType": "BF16", "dims": [2]}],
    )
    assert [(tensor.name, list(tensor.dims), tensor.optional) for tensor in told.input] == [
        ("B", [-1, 3], True),
        ("A", [1], False),
    ]
    assert "TYPE_BF16" in str(told.output[0])


def test_a_model_declared_to_batch_batches_unless_its_source_says_how() -> None:
    batching = model(maxBatchSize=8)
    assert config.defaults_text(batching) == "dynamic_batching {\n}\n"
    source = model_config.parse("sequence_batching { max_sequence_idle_microseconds: 1 }")
    layers = {"text": model_config.new(), "removes": config.removed_paths(batching), "fields": config.fields(batching)}
    defaults = config.defaults(batching)
    alone = model_config.layered(defaults=defaults, source=model_config.new(), **layers)
    assert alone.config.WhichOneof("scheduling_choice") == "dynamic_batching"
    with_source = model_config.layered(defaults=defaults, source=source, **layers)
    assert with_source.config.WhichOneof("scheduling_choice") == "sequence_batching"
    assert with_source.conflicts == ()


@pytest.mark.parametrize("declared", [{}, {"maxBatchSize": 1}, {"maxBatchSize": 8, "batching": {"mode": "Off"}}])
def test_no_batching_is_asked_for_where_none_is_possible_or_wanted(declared: dict[str, Any]) -> None:
    assert config.defaults_text(model(**declared)) == ""
    assert not fields(**declared).HasField("dynamic_batching")


def test_off_also_removes_the_batching_of_the_source() -> None:
    off = model(batching={"mode": "Off"})
    merged = model_config.layered(
        defaults=config.defaults(off),
        source=model_config.parse("max_batch_size: 8 dynamic_batching { preferred_batch_size: 8 }"),
        text=model_config.parse("dynamic_batching { preserve_ordering: true }"),
        removes=config.removed_paths(off),
        fields=config.fields(off),
    )
    assert not merged.config.HasField("dynamic_batching")
    assert merged.config.max_batch_size == 8


def test_every_batching_field_reaches_triton_in_its_unit() -> None:
    batcher = fields(
        maxBatchSize=8,
        batching={
            "mode": "Dynamic",
            "preferredBatchSizes": [4, 8],
            "maxQueueDelay": "1.5ms",
            "preserveOrdering": True,
            "priorities": {"levels": 3, "default": 2},
            "queue": {"maxSize": 10, "timeout": "2s", "onTimeout": "Delay", "allowTimeoutOverride": True},
        },
    ).dynamic_batching
    policy = batcher.default_queue_policy
    assert list(batcher.preferred_batch_size) == [4, 8]
    assert batcher.max_queue_delay_microseconds == 1500
    assert batcher.preserve_ordering
    assert (batcher.priority_levels, batcher.default_priority_level) == (3, 2)
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (10, 2_000_000)
    assert policy.timeout_action == policy.TimeoutAction.Value("DELAY")
    assert policy.allow_timeout_override


def test_an_explicit_zero_or_false_stands_above_the_source() -> None:
    source = model_config.parse("dynamic_batching { max_queue_delay_microseconds: 9 preserve_ordering: true }")
    told = fields(batching={"maxQueueDelay": "0s", "preserveOrdering": False})
    merged = model_config.merge(source, told).config.dynamic_batching
    assert merged.max_queue_delay_microseconds == 0
    assert not merged.preserve_ordering


def test_instances_without_a_count_leave_it_to_triton() -> None:
    assert config.fields_text(model(instances={"kind": "CPU"})) == "instance_group {\n  kind: KIND_CPU\n}\n"
    assert config.fields_text(model(instances={"count": 3})) == "instance_group {\n  count: 3\n}\n"


def test_the_resources_of_an_instance_reach_triton() -> None:
    limiter = {"resources": [{"name": "R", "global": True, "count": 2}, {"name": "S", "count": 1}], "priority": 3}
    assert fields(instances={"count": 2, "rateLimiter": limiter}) == model_config.parse(
        """instance_group { count: 2 rate_limiter {
          resources { name: "R" global: true count: 2 } resources { name: "S" count: 1 } priority: 3 } }"""
    )


def test_accelerators_and_precision_are_those_of_the_schema() -> None:
    assert fields(optimization={"accelerator": "TensorRT", "precision": "FP16"}) == model_config.parse(
        """optimization { execution_accelerators { gpu_execution_accelerator {
          name: "tensorrt" parameters { key: "precision_mode" value: "FP16" } } } }"""
    )
    assert fields(optimization={"accelerator": "OpenVINO"}) == model_config.parse(
        'optimization { execution_accelerators { cpu_execution_accelerator { name: "openvino" } } }'
    )
    assert fields(optimization={"cudaGraphs": True}) == model_config.parse("optimization { cuda { graphs: true } }")


def test_a_warm_up_has_every_input_with_a_size_and_harmless_data() -> None:
    told = fields(
        maxBatchSize=4,
        inputs=[
            {"name": "IMAGE", "dataType": "FP32", "dims": [3, -1, -1]},
            {"name": "IDS", "dataType": "INT64", "dims": [-1]},
            {"name": "TEXT", "dataType": "STRING", "dims": [2]},
        ],
        warmup={"requests": 7, "batchSize": 4},
    )
    [sample] = told.model_warmup
    assert (sample.count, sample.batch_size) == (7, 4)
    assert {name: list(data.dims) for name, data in sample.inputs.items()} == {
        "IMAGE": [3, 1, 1],
        "IDS": [1],
        "TEXT": [2],
    }
    assert sample.inputs["IMAGE"].random_data
    # A random integer is often an index that no table has; a random string is no text.
    assert sample.inputs["IDS"].zero_data
    assert sample.inputs["TEXT"].zero_data


@pytest.mark.parametrize(
    ("versions", "text"),
    [
        ({"latest": 2}, "latest { num_versions: 2 }"),
        ({"all": True}, "all { }"),
        ({"specific": [3, 1]}, "specific { versions: 1 versions: 3 }"),
    ],
)
def test_each_choice_of_versions_is_a_policy(versions: dict[str, Any], text: str) -> None:
    assert fields(versions=versions) == model_config.parse(f"version_policy {{ {text} }}")


def test_sequences_keep_their_place_with_the_controls_that_the_model_takes() -> None:
    told = fields(
        batching={
            "mode": "Sequence",
            "maxQueueDelay": "2ms",
            "sequence": {
                "strategy": "Direct",
                "maxIdle": "5s",
                "minSlotUtilization": "50%",
                "controls": [
                    {"name": "START", "kind": "Start"},
                    {"name": "READY", "kind": "Ready", "dataType": "FP32"},
                    {"name": "END", "kind": "End", "dataType": "BOOL"},
                    {"name": "ID", "kind": "CorrelationID"},
                ],
            },
        }
    )
    assert told == model_config.parse(
        """sequence_batching {
          max_sequence_idle_microseconds: 5000000
          direct { max_queue_delay_microseconds: 2000 minimum_slot_utilization: 0.5 }
          control_input { name: "START" control { kind: CONTROL_SEQUENCE_START int32_false_true: [0, 1] } }
          control_input { name: "READY" control { kind: CONTROL_SEQUENCE_READY fp32_false_true: [0, 1] } }
          control_input { name: "END" control { kind: CONTROL_SEQUENCE_END bool_false_true: [false, true] } }
          control_input { name: "ID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } }
        }"""
    )


def test_the_oldest_sequences_first_with_the_fields_of_a_batcher() -> None:
    told = fields(
        batching={
            "mode": "Sequence",
            "preferredBatchSizes": [4],
            "preserveOrdering": True,
            "maxQueueDelay": "1ms",
            "sequence": {"strategy": "Oldest", "maxCandidates": 16},
        }
    )
    assert told == model_config.parse(
        """sequence_batching { oldest { max_candidate_sequences: 16 preferred_batch_size: 4
          max_queue_delay_microseconds: 1000 preserve_ordering: true } }"""
    )


def test_sequences_without_further_words_leave_the_strategy_to_the_source() -> None:
    source = model_config.parse("sequence_batching { oldest { max_candidate_sequences: 2 } }")
    merged = model_config.merge(source, fields(maxBatchSize=8, batching={"mode": "Sequence"}))
    assert merged.config.sequence_batching.oldest.max_candidate_sequences == 2
    assert merged.conflicts == ()


def test_a_response_cache_is_asked_for_or_refused() -> None:
    assert config.fields_text(model(responseCache=True)) == "response_cache {\n  enable: true\n}\n"
    source = model_config.parse("response_cache { enable: true }")
    merged = model_config.merge(source, fields(responseCache=False)).config
    assert not merged.response_cache.enable


def test_parameters_are_texts_in_a_stable_order() -> None:
    parameters = {"z": 'a "quoted"\nline', "a": "ß", "m": ""}
    told = fields(parameters=parameters)
    assert {key: value.string_value for key, value in told.parameters.items()} == parameters
    reordered = dict(reversed(parameters.items()))
    assert config.fields_text(model(parameters=parameters)) == config.fields_text(model(parameters=reordered))
