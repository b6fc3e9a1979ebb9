"""The fields of a declared model as Triton's own configuration.

Here because a user writes fields and Triton reads protobuf. Only what was declared is said: everything else is left to
`config.pbtxt` in the source and to Triton's completion. What a field's absence asks for by its description (batching
for a model that can batch) is kept apart as `defaults`, which stand below the source: a model that came with sequence
batching keeps it.

Does not judge (checks.py does) and does not merge with the source (the sidecar does, it alone has the files).
"""

from __future__ import annotations

from nereus.api.spec.batching import (
    Batching,
    BatchingMode,
    ControlKind,
    Queue,
    Sequence,
    SequenceControl,
    SequenceStrategy,
    TimeoutAction,
)
from nereus.api.spec.instances import InstanceKind, Instances, RateLimiter
from nereus.api.spec.model import Ensemble, Model, Versions, Warmup
from nereus.api.spec.optimization import Accelerator, Optimization, Precision
from nereus.api.spec.tensors import DataType, InputTensor, Tensor
from nereus.triton import model_config
from nereus.triton.ensembles import NEWEST
from nereus.triton.model_config import ModelConfig

ENSEMBLE_PLATFORM = "ensemble"
WARMUP_NAME = "nereus"
BATCHING_PATH = "dynamic_batching"
ONNX_BACKEND = "onnxruntime"
ONNX_PLATFORM = "onnxruntime_onnx"
ARENA_PARAMETER = "gpu_mem_limit"
"""Triton's onnxruntime_backend README, "CUDA Execution Provider": bytes of the memory arena of one session."""

_KINDS = {
    InstanceKind.AUTO: "KIND_AUTO",
    InstanceKind.CPU: "KIND_CPU",
    InstanceKind.GPU: "KIND_GPU",
    InstanceKind.MODEL: "KIND_MODEL",
}
_CONTROLS = {
    ControlKind.START: "CONTROL_SEQUENCE_START",
    ControlKind.READY: "CONTROL_SEQUENCE_READY",
    ControlKind.END: "CONTROL_SEQUENCE_END",
    ControlKind.CORRELATION_ID: "CONTROL_SEQUENCE_CORRID",
}
_FALSE_TRUE = {
    DataType.INT32: "int32_false_true",
    DataType.FP32: "fp32_false_true",
    DataType.BOOL: "bool_false_true",
}
_TIMEOUT_ACTIONS = {TimeoutAction.REJECT: "REJECT", TimeoutAction.DELAY: "DELAY"}
_RANDOM_TYPES = frozenset({DataType.FP16, DataType.FP32, DataType.FP64, DataType.BF16})
"""Types that a warm-up fills with random data. Others get zeros: a random integer is often an index out of range."""


def fields_text(model: Model) -> str:
    """The declared fields as ModelConfig text; the highest layer. The same model gives the same text."""
    return model_config.to_text(fields(model))


def defaults_text(model: Model, arena_bytes: int | None = None) -> str:
    """What absent fields ask for, as ModelConfig text; the lowest layer."""
    return model_config.to_text(defaults(model, arena_bytes))


def removed_paths(model: Model) -> tuple[str, ...]:
    """What must not stay from the source or from configText, because a field says so."""
    if model.batching is not None and model.batching.mode is BatchingMode.OFF:
        return (BATCHING_PATH,)
    return ()


def fields(model: Model) -> ModelConfig:
    """The declared fields as a message."""
    config = model_config.new()
    _set_signature(config, model)
    if model.batching is not None and model.batching.mode is BatchingMode.SEQUENCE:
        _set_sequences(config.sequence_batching, model.batching)
    elif model.batching is not None and model.batching.mode is not BatchingMode.OFF and _states(model.batching):
        _set_batching(config.dynamic_batching, model.batching)
    if model.ensemble is not None:
        config.platform = ENSEMBLE_PLATFORM
        _set_ensemble(config.ensemble_scheduling, model.ensemble)
    if model.instances is not None:
        _add_instances(config, model.instances)
    if model.warmup is not None:
        _add_warmup(config, model.warmup, model.inputs or ())
    if model.versions is not None:
        _set_versions(config.version_policy, model.versions)
    if model.optimization is not None:
        _set_optimization(config.optimization, model.optimization)
    if model.response_cache is not None:
        config.response_cache.enable = model.response_cache
    for key, value in sorted((model.parameters or {}).items()):
        config.parameters[key].string_value = value
    return config


def defaults(model: Model, arena_bytes: int | None = None) -> ModelConfig:
    """What absent fields ask for, as a message: a model declared to batch gets Triton's dynamic batcher, an ONNX model
    on a shared GPU a limit of its memory arena (`arena_bytes`)."""
    config = model_config.new()
    if model.ensemble is not None:
        return config
    silent = model.batching is None or model.batching.mode is None
    if silent and (model.max_batch_size or 0) > 1:
        config.dynamic_batching.SetInParent()
    if arena_bytes is not None and _is_onnx(model):
        config.parameters[ARENA_PARAMETER].string_value = str(arena_bytes)
    return config


def _is_onnx(model: Model) -> bool:
    """Whether the spec says that ONNX Runtime runs it; what only the source says is not known here."""
    return model.backend == ONNX_BACKEND or model.platform == ONNX_PLATFORM


def _states(batching: Batching) -> bool:
    return bool(batching.model_dump(exclude_none=True))


def _set_signature(config: ModelConfig, model: Model) -> None:
    """What runs the model, and what it takes and gives."""
    if model.backend is not None:
        config.backend = model.backend
    if model.platform is not None:
        config.platform = model.platform
    if model.max_batch_size is not None:
        config.max_batch_size = model.max_batch_size
    for declared in model.inputs or ():
        _add_tensor(config.input, declared)
    for output in model.outputs or ():
        _add_tensor(config.output, output)


def _add_instances(config: ModelConfig, instances: Instances) -> None:
    group = config.instance_group.add()
    if instances.count is not None:
        group.count = instances.count
    if instances.kind is not None:
        group.kind = group.Kind.Value(_KINDS[instances.kind])
    if instances.rate_limiter is not None:
        _set_rate_limiter(group.rate_limiter, instances.rate_limiter)


def _set_optimization(target: ModelConfig, declared: Optimization) -> None:
    if declared.accelerator is Accelerator.TENSORRT:
        accelerator = target.execution_accelerators.gpu_execution_accelerator.add(name="tensorrt")
        accelerator.parameters["precision_mode"] = (declared.precision or Precision.FP32).value
    elif declared.accelerator is Accelerator.OPENVINO:
        target.execution_accelerators.cpu_execution_accelerator.add(name="openvino")
    if declared.cuda_graphs is not None:
        target.cuda.graphs = declared.cuda_graphs


def _set_rate_limiter(limiter: ModelConfig, declared: RateLimiter) -> None:
    limiter.SetInParent()
    for one in declared.resources or ():
        resource = limiter.resources.add(name=one.name, count=one.count)
        if one.is_global is not None:
            setattr(resource, "global", one.is_global)
    if declared.priority is not None:
        limiter.priority = declared.priority


def _add_tensor(tensors: ModelConfig, declared: Tensor) -> None:
    tensor = tensors.add(name=declared.name, data_type=f"TYPE_{declared.data_type}", dims=declared.dims)
    if isinstance(declared, InputTensor) and declared.optional is not None:
        tensor.optional = declared.optional


def _set_batching(batcher: ModelConfig, batching: Batching) -> None:
    batcher.SetInParent()
    batcher.preferred_batch_size.extend(batching.preferred_batch_sizes or ())
    if batching.max_queue_delay is not None:
        batcher.max_queue_delay_microseconds = batching.max_queue_delay.microseconds
    if batching.preserve_ordering is not None:
        batcher.preserve_ordering = batching.preserve_ordering
    if batching.priorities is not None:
        batcher.priority_levels = batching.priorities.levels
        batcher.default_priority_level = batching.priorities.default
    if batching.queue is not None:
        _set_queue(batcher.default_queue_policy, batching.queue)


def _set_sequences(sequences: ModelConfig, batching: Batching) -> None:
    sequences.SetInParent()
    declared = batching.sequence or Sequence.model_construct()
    if declared.max_idle is not None:
        sequences.max_sequence_idle_microseconds = declared.max_idle.microseconds
    for control in declared.controls or ():
        _add_control(sequences.control_input, control)
    delay = batching.max_queue_delay
    if declared.strategy is SequenceStrategy.OLDEST:
        oldest = sequences.oldest
        oldest.max_candidate_sequences = declared.max_candidates
        oldest.preferred_batch_size.extend(batching.preferred_batch_sizes or ())
        if batching.preserve_ordering is not None:
            oldest.preserve_ordering = batching.preserve_ordering
        if delay is not None:
            oldest.max_queue_delay_microseconds = delay.microseconds
        return
    if declared.strategy is SequenceStrategy.DIRECT:
        sequences.direct.SetInParent()
    if declared.min_slot_utilization is not None:
        sequences.direct.minimum_slot_utilization = int(declared.min_slot_utilization.removesuffix("%")) / 100
    if delay is not None:
        sequences.direct.max_queue_delay_microseconds = delay.microseconds


def _add_control(inputs: ModelConfig, declared: SequenceControl) -> None:
    control = inputs.add(name=declared.name).control.add(kind=_CONTROLS[declared.kind])
    if declared.kind is ControlKind.CORRELATION_ID:
        name = f"TYPE_{declared.data_type or DataType.UINT64}"
        control.data_type = control.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_name[name].number
    else:
        getattr(control, _FALSE_TRUE[declared.data_type or DataType.INT32]).extend((0, 1))


def _set_queue(policy: ModelConfig, queue: Queue) -> None:
    policy.SetInParent()
    if queue.max_size is not None:
        policy.max_queue_size = queue.max_size
    if queue.timeout is not None:
        policy.default_timeout_microseconds = queue.timeout.microseconds
    if queue.on_timeout is not None:
        policy.timeout_action = policy.TimeoutAction.Value(_TIMEOUT_ACTIONS[queue.on_timeout])
    if queue.allow_timeout_override is not None:
        policy.allow_timeout_override = queue.allow_timeout_override


def _add_warmup(config: ModelConfig, warmup: Warmup, inputs: tuple[InputTensor, ...]) -> None:
    sample = config.model_warmup.add(name=WARMUP_NAME, batch_size=warmup.batch_size or 1)
    if warmup.requests is not None:
        sample.count = warmup.requests
    for tensor in inputs:
        data = sample.inputs[tensor.name]
        data.data_type = (
            data.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_name[f"TYPE_{tensor.data_type}"].number
        )
        data.dims.extend(1 if size < 0 else size for size in tensor.dims)
        if tensor.data_type in _RANDOM_TYPES:
            data.random_data = True
        else:
            data.zero_data = True


def _set_ensemble(scheduling: ModelConfig, ensemble: Ensemble) -> None:
    for declared in ensemble.steps:
        version = NEWEST if declared.version is None else declared.version
        step = scheduling.step.add(model_name=declared.model, model_version=version)
        step.input_map.update(declared.input_map)
        step.output_map.update(declared.output_map)


def _set_versions(policy: ModelConfig, versions: Versions) -> None:
    if versions.latest is not None:
        policy.latest.num_versions = versions.latest
    elif versions.specific is not None:
        policy.specific.versions.extend(sorted(versions.specific))
    else:
        policy.all.SetInParent()
