"""Every way to write a config.pbtxt that Triton's documentation and tests use is taken as `configText`, and comes out
meaning the same: nothing lost, nothing added, nothing refused.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import nereus.sidecar.fetch  # noqa: F401 - the package that the modules below belong together with
from nereus.api.service import read
from nereus.rendering import render
from nereus.sidecar import configure
from nereus.sidecar.layout import Layout
from nereus.triton import model_config
from nereus.workload.plan import model_plan
from nereus.workload.settings import Settings
from tests.harness.resources import service

SETTINGS = Settings(sidecar_image="sidecar:1", triton_image="triton:1")
RUNTIME = {"responseCacheSize": "64Mi", "args": ["--rate-limit=execution_count"]}
"""Of a server that has what some of the texts need."""
INCOMPLETE = ("an ensemble", "several kinds of instances")
"""Texts that need other models or a GPU: rightly refused as they stand alone."""
IO = """
input [ { name: "IN" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 4 ] } ]
"""
SHAPES = {
    "comments, commas and colons before braces": """
        # a comment
        backend: "onnxruntime", max_batch_size: 8,
        input: [ { name: "IN", data_type: TYPE_FP32, format: FORMAT_NCHW, dims: [ 3, 224, 224 ] } ]  # another
        output: { name: "OUT", data_type: TYPE_FP32, dims: [ 1000 ], label_filename: "labels.txt" }
        """,
    "one field over and over instead of a list": """
        platform: "onnxruntime_onnx" max_batch_size: 1
        input { name: "A" data_type: TYPE_INT32 dims: 16 } input { name: "B" data_type: TYPE_INT32 dims: 4 dims: 4 }
        output { name: "OUT" data_type: TYPE_INT32 dims: -1 }
        """,
    "texts in single quotes and in pieces": """
        backend: 'python' parameters { key: 'note' value { string_value: 'two ' 'parts' } }
        """,
    "a reshape to nothing": """
        platform: "tensorrt_plan" max_batch_size: 8
        input { name: "IN" data_type: TYPE_FP32 dims: [ 1 ] reshape: { shape: [ ] } }
        output { name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ 1, 1 ] } }
        """,
    "shape tensors and optional inputs": """
        platform: "tensorrt_plan" max_batch_size: 4
        input [ { name: "IN" data_type: TYPE_FP16 dims: [ -1, 8 ] },
                { name: "SHAPE" data_type: TYPE_INT32 dims: [ 2 ] is_shape_tensor: true optional: true } ]
        output [ { name: "OUT" data_type: TYPE_BF16 dims: [ -1 ] is_shape_tensor: true } ]
        """,
    "several kinds of instances": IO
    + """
        platform: "pytorch_libtorch"
        instance_group [ { count: 2 kind: KIND_GPU gpus: [ 0, 1 ] }, { name: "cpu" count: 4 kind: KIND_CPU
          host_policy: "p0" },
                         { kind: KIND_GPU profile: [ "0", "2" ] passive: true } ]
        """,
    "a rate limiter with global resources": IO
    + """
        backend: "python"
        instance_group [ { count: 1 kind: KIND_CPU rate_limiter {
          resources [ { name: "R1" count: 4 }, { name: "R2" global: True count: 2 } ] priority: 2 } } ]
        """,
    "preferred sizes, a delay and kept order": IO
    + """
        backend: "python" max_batch_size: 16
        dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 preserve_ordering: true }
        """,
    "priorities with queue policies of their own": IO
    + """
        backend: "python" max_batch_size: 16
        dynamic_batching { priority_levels: 2 default_priority_level: 2
          default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 5000
          allow_timeout_override: true max_queue_size: 64 }
          priority_queue_policy { key: 1 value: { timeout_action: REJECT default_timeout_microseconds: 1000 } } }
        """,
    "sequences in slots": IO
    + """
        backend: "python" max_batch_size: 8
        sequence_batching { max_sequence_idle_microseconds: 5000000 direct { max_queue_delay_microseconds: 10
          minimum_slot_utilization: 0.5 }
          control_input [ { name: "START" control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } ] },
                          { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] }
          ] } ] }
        """,
    "sequences, the oldest first, with a correlation id": IO
    + """
        backend: "python" max_batch_size: 8
        sequence_batching { oldest { max_candidate_sequences: 4 preferred_batch_size: [ 2 ] }
          control_input { name: "END" control { kind: CONTROL_SEQUENCE_END bool_false_true: [ false, true ] } }
          control_input { name: "ID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } } }
        """,
    "state that Triton keeps": IO
    + """
        platform: "onnxruntime_onnx" max_batch_size: 8
        sequence_batching { state [ { input_name: "S_IN" output_name: "S_OUT" data_type: TYPE_INT32 dims: [ -1 ]
          initial_state: { data_type: TYPE_INT32 dims: [ 1 ] zero_data: true name: "zero" } } ] }
        """,
    "an ensemble": IO
    + """
        platform: "ensemble"
        ensemble_scheduling { step [
          { model_name: "first" model_version: -1 input_map { key: "X" value: "IN" } output_map { key: "Y"
          value: "between" } },
          { model_name: "second" input_map: { key: "X", value: "between" } output_map: { key: "Y", value: "OUT"
          } } ] }
        """,
    "warm-up with drawn, zero and stored data": IO
    + """
        backend: "python" max_batch_size: 4
        model_warmup [ { name: "drawn" batch_size: 4 count: 2 inputs { key: "IN" value { data_type: TYPE_FP32
          dims: [ 4 ] random_data: true } } },
                       { name: "zero" batch_size: 1 inputs: { key: "IN", value: { data_type: TYPE_FP32, dims:
          4, zero_data: true } } },
                       { name: "file" batch_size: 1 inputs { key: "IN" value { data_type: TYPE_FP32 dims: [ 4 ]
          input_data_file: "raw" } } } ]
        """,
    "accelerators with parameters": IO
    + """
        platform: "onnxruntime_onnx"
        optimization { graph { level: 1 } priority: PRIORITY_MAX execution_accelerators {
          gpu_execution_accelerator : [ { name : "tensorrt" parameters { key: "precision_mode" value: "FP16" }
                                          parameters { key: "max_workspace_size_bytes" value: "1073741824" } } ]
          cpu_execution_accelerator : [ { name : "openvino" } ] } }
        """,
    "CUDA graphs for given shapes": IO
    + """
        platform: "tensorrt_plan" max_batch_size: 8
        optimization { cuda { graphs: true busy_wait_events: true graph_spec [ { batch_size: 4 input { key:
          "IN" value: { dim: [ 4 ] } }
          graph_lower_bound { batch_size: 2 input { key: "IN" value { dim: 4 } } } } ] output_copy_stream: true }
          input_pinned_memory { enable: false } output_pinned_memory { enable: true }
          gather_kernel_buffer_threshold: 4 eager_batching: true }
        """,
    "all versions": IO + 'backend: "python" version_policy: { all { } }',
    "the latest two versions": IO + 'backend: "python" version_policy { latest: { num_versions: 2 } }',
    "given versions": IO + 'backend: "python" version_policy: { specific: { versions: [ 1, 3 ] } }',
    "answers that stream": IO + 'backend: "vllm" model_transaction_policy { decoupled: True }',
    "a response cache": IO + 'backend: "python" max_batch_size: 8 response_cache { enable: true }',
    "parameters of a backend, environment and all": IO
    + """
        backend: "python"
        parameters: { key: "EXECUTION_ENV_PATH", value: { string_value: "$$TRITON_MODEL_DIRECTORY/env.tar.gz" } }
        parameters [ { key: "a" value { string_value: "" } }, { key: "ü" value { string_value: "\\n\\"\\\\" } } ]
        """,
    "ragged batches and what tells them apart": """
        backend: "tensorrt" max_batch_size: 16
        input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true } ]
        output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] } ]
        batch_input [ { kind: BATCH_ACCUMULATED_ELEMENT_COUNT target_name: "INDEX" data_type: TYPE_FP32
          source_input: "IN" } ]
        batch_output [ { kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: "OUT" source_input: "IN" } ]
        dynamic_batching { }
        """,
    "file names, tags, agents and libraries": IO
    + """
        platform: "tensorrt_plan" default_model_filename: "model.plan" cc_model_filenames [ { key: "7.5" value:
          "t4.plan" } ]
        metric_tags { key: "team" value: "vision" } model_operations { op_library_filename: [ "one.so", "two.so" ] }
        model_repository_agents { agents [ { name: "checksum" parameters { key: "MD5:1/model.plan" value: "0" } } ] }
        """,
    "latency buckets of newer servers": IO
    + """
        backend: "python"
        model_metrics { metric_control [ { metric_identifier { family: "nv_inference_first_response_histogram_ms" }
          histogram_options { buckets: [ 1.5, 10, 2e2 ] } } ] }
        """,
    "runtime and platform written out": IO + 'backend: "python" runtime: "python" platform: "" max_batch_size: 0',
    "nothing but the backend": 'backend: "python"',
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_text_comes_out_of_the_whole_way_meaning_the_same(shape: str, tmp_path: Path) -> None:
    text = SHAPES[shape]
    parsed = read(service(models=[{"name": "m", "source": {"uri": "pvc://c/m"}, "configText": text}], runtime=RUNTIME))
    if shape not in INCOMPLETE:
        render(parsed, settings=SETTINGS)  # nothing in it is refused
    plan = model_plan(parsed.models[0])
    (tmp_path / "1").mkdir()
    layout = Layout(config=None, entries={"1": tmp_path / "1"}, versions=(1,))
    made = configure.publication(plan, layout, identity="x", source="", empty=tmp_path)
    wanted, got = model_config.parse(text), model_config.parse(made.config_text)
    assert got.name == "m"
    got.ClearField("name")
    if not wanted.HasField("dynamic_batching"):
        got.ClearField("dynamic_batching")  # what is absent means dynamic batching; the only thing that is added
    assert model_config.to_text(got) == model_config.to_text(wanted)
    assert made.conflicts == ()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_text_as_a_source_means_the_same(shape: str, tmp_path: Path) -> None:
    text = SHAPES[shape]
    (tmp_path / "config.pbtxt").write_text(text)
    (tmp_path / "1").mkdir()
    layout = Layout(config=tmp_path / "config.pbtxt", entries={"1": tmp_path / "1"}, versions=(1,))
    plan = model_plan(read(service(models=[{"name": "m", "source": {"uri": "pvc://c/m"}}])).models[0])
    made = configure.publication(plan, layout, identity="x", source="", empty=tmp_path)
    wanted, got = model_config.parse(text), model_config.parse(made.config_text)
    got.ClearField("name")
    if not wanted.HasField("dynamic_batching"):
        got.ClearField("dynamic_batching")
    assert model_config.to_text(got) == model_config.to_text(wanted)
