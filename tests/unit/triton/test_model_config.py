"""What a model configuration means when it comes in layers, and what a user reads when it is wrong."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nereus.triton import model_config
from nereus.triton.model_config import ConfigError, merge, parse, to_text


def test_a_higher_layer_replaces_a_value_and_the_difference_is_reported() -> None:
    merged = merge(
        parse("max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 100 preserve_ordering: true }"),
        parse("max_batch_size: 16 dynamic_batching { max_queue_delay_microseconds: 200 }"),
    )
    assert merged.config.max_batch_size == 16
    assert merged.config.dynamic_batching.max_queue_delay_microseconds == 200
    assert merged.config.dynamic_batching.preserve_ordering
    assert merged.conflicts == ("dynamic_batching.max_queue_delay_microseconds", "max_batch_size")


def test_layers_that_agree_are_no_conflict() -> None:
    text = 'backend: "python" max_batch_size: 4 input { name: "x" data_type: TYPE_FP32 dims: [-1, 3] }'
    merged = merge(parse(text), parse(text))
    assert merged.conflicts == ()
    assert to_text(merged.config) == to_text(parse(text))


def test_the_resource_can_switch_off_the_batching_of_the_source() -> None:
    merged = merge(parse("max_batch_size: 8"), parse("max_batch_size: 0"))
    assert "max_batch_size: 0" in to_text(merged.config)
    assert merged.conflicts == ("max_batch_size",)


def test_repeated_fields_are_replaced_as_a_whole() -> None:
    merged = merge(
        parse("instance_group { count: 1 kind: KIND_GPU } instance_group { count: 2 }"),
        parse("instance_group { count: 3 }"),
    )
    assert [group.count for group in merged.config.instance_group] == [3]
    assert merged.conflicts == ("instance_group",)


def test_maps_are_merged_by_key() -> None:
    merged = merge(
        parse(
            'parameters { key: "a" value { string_value: "1" } } parameters { key: "b" value { string_value: "2" } } '
            'metric_tags { key: "team" value: "x" }'
        ),
        parse('parameters { key: "b" value { string_value: "3" } } metric_tags { key: "team" value: "y" }'),
    )
    assert {key: value.string_value for key, value in merged.config.parameters.items()} == {"a": "1", "b": "3"}
    assert merged.conflicts == ('metric_tags["team"]', 'parameters["b"].string_value')


def test_another_kind_of_batching_replaces_the_lower_choice() -> None:
    merged = merge(parse("dynamic_batching { preserve_ordering: true }"), parse("sequence_batching { direct {} }"))
    assert merged.config.WhichOneof("scheduling_choice") == "sequence_batching"
    assert merged.conflicts == ("sequence_batching",)


def test_an_empty_message_is_kept_because_it_means_something() -> None:
    merged = merge(parse('name: "m"'), parse("dynamic_batching {}"))
    assert "dynamic_batching {" in to_text(merged.config)


def test_merging_leaves_the_layers_as_they_are() -> None:
    low, high = parse("dynamic_batching {}"), parse("dynamic_batching { preserve_ordering: true }")
    before = to_text(low), to_text(high)
    merge(low, high).config.dynamic_batching.preserve_ordering = False
    assert (to_text(low), to_text(high)) == before


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("max_batch_size: 8\nmax_batchsize: 3", 2, ['unknown field "max_batchsize"', 'did you mean "max_batch_size"?']),
        ("dynamic_batching {\n  prefered_batch_size: [4]\n}", 2, ["ModelDynamicBatching", "preferred_batch_size"]),
        ('input { name: "x"\n data_type: FP32 }', 2, ['unknown value "FP32"', "TYPE_FP32"]),
        ("max_batch_size: 1\nmax_batch_size: 2", 2, ["multiple", "max_batch_size"]),
        ("max_batch_size: many", 1, ["many"]),
        ("instance_group [ {count: 1}", 1, []),
        ("max_batch_size: 99999999999", 1, ["99999999999"]),
    ],
)
def test_a_wrong_text_is_refused_with_the_place_and_the_name(text: str, line: int, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert caught.value.line == line, caught.value
    for word in words:
        assert word in str(caught.value)


def test_writing_is_deterministic_and_reads_back_the_same() -> None:
    keys = [f"k{number}" for number in range(20)]
    one, other = model_config.new(), model_config.new()
    for key in keys:
        one.parameters[key].string_value = key
    for key in reversed(keys):
        other.parameters[key].string_value = key
    assert to_text(one) == to_text(other)
    assert to_text(parse(to_text(one))) == to_text(one)


def test_text_of_any_language_survives() -> None:
    config = model_config.new()
    config.parameters["ключ"].string_value = 'naïve "quoted" \\ line\nnext'
    assert parse(to_text(config)).parameters["ключ"].string_value == 'naïve "quoted" \\ line\nnext'


def test_enum_fields_take_their_names() -> None:
    config = model_config.new()
    config.input.add(name="x", data_type="TYPE_FP32", dims=[-1, 3])
    config.instance_group.add(count=2, kind="KIND_CPU")
    text = to_text(config)
    assert "data_type: TYPE_FP32" in text
    assert "kind: KIND_CPU" in text


_configs = st.builds(
    lambda size, delay, names, tags: "\n".join(
        [
            *([f"max_batch_size: {size}"] if size is not None else []),
            *([f"dynamic_batching {{ max_queue_delay_microseconds: {delay} }}"] if delay is not None else []),
            *(f'input {{ name: "{name}" }}' for name in names),
            *(f'metric_tags {{ key: "{key}" value: "{value}" }}' for key, value in tags.items()),
        ]
    ),
    st.none() | st.integers(0, 100),
    st.none() | st.integers(0, 100),
    st.lists(st.sampled_from("abc"), max_size=3),
    st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"), max_size=3),
)


@given(low=_configs, high=_configs)
def test_merging_is_total_idempotent_and_the_higher_layer_always_wins(low: str, high: str) -> None:
    merged = merge(parse(low), parse(high))
    again = merge(merged.config, parse(high))
    assert to_text(again.config) == to_text(merged.config)
    assert again.conflicts == ()
    assert to_text(merge(parse(high)).config) == to_text(parse(high))


def test_the_schema_is_loaded_without_grpc_and_numpy() -> None:
    program = (
        "import sys; from nereus.triton import model_config; model_config.parse('max_batch_size: 1');"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'grpc', 'numpy', 'tritonclient'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_nobody_said_is_filled_in_and_what_a_field_forbids_is_taken_out() -> None:
    none = model_config.new()
    batching = model_config.parse("dynamic_batching { max_queue_delay_microseconds: 5 }")
    default = model_config.parse("dynamic_batching { }")

    filled = model_config.layered(defaults=default, source=none, text=none, removes=(), fields=none)
    assert filled.config.HasField("dynamic_batching")

    sequence = model_config.parse("sequence_batching { }")
    kept = model_config.layered(defaults=default, source=sequence, text=none, removes=(), fields=none)
    assert kept.config.WhichOneof("scheduling_choice") == "sequence_batching"
    assert kept.conflicts == ()

    off = model_config.layered(defaults=none, source=batching, text=default, removes=("dynamic_batching",), fields=none)
    assert not off.config.HasField("dynamic_batching")
    assert off.conflicts == ()


def test_the_first_models_that_are_merged_at_the_same_time_keep_their_fields() -> None:
    """In a fresh process, because only the first use makes the message class."""
    program = """
import sys, threading
from nereus.triton import model_config
sys.setswitchinterval(1e-6)
start, found = threading.Barrier(8), []
def merge():
    start.wait()
    found.append(str(model_config.merge(model_config.parse('input { name: "x" dims: [1] }')).config))
threads = [threading.Thread(target=merge) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(found) == 8 and len(set(found)) == 1 and "x" in found[0], set(found)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
