"""What Triton would only log, or refuse when it loads: found before anything is applied.

Here because Triton answers most of these with "failed to poll from model repository" and keeps the reason in its log.
Each check is a sentence about one model, over its fields merged with its configText; what the source's own
config.pbtxt adds is not known here, so nothing is guessed about it. Rules within one part of the resource are with
the resource (nereus.api); arguments of the server are with the server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from nereus.api.problems import Problem
from nereus.api.service import ModelService
from nereus.api.spec.model import Model
from nereus.api.spec.optimization import Accelerator
from nereus.triton import config, ensembles, limiters, loading, model_config, server
from nereus.triton.model_config import ConfigError, ModelConfig

MAX_WARMUP_BYTES = 2**31
"""One warm-up request; the largest message that protobuf, and so a client, can send."""
MAX_MICROSECONDS = 2**63 // 1000
"""Triton keeps delays and timeouts in signed nanoseconds."""
_BYTES = {"INT8": 1, "UINT8": 1, "BOOL": 1, "INT16": 2, "UINT16": 2, "FP16": 2, "BF16": 2, "INT64": 8, "UINT64": 8}
_DEFAULT_BYTES = {"FP64": 8, "STRING": 4}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One model under check: its fields, its configText and both merged (`config`); `path` is where it stands."""

    service: ModelService
    model: Model
    path: str
    fields: ModelConfig
    text: ModelConfig
    config: ModelConfig

    def place(self, in_fields: Any, field: str) -> str:
        """The path to blame: the field when the fields say it, otherwise configText."""
        return f"{self.path}.{field}" if in_fields else f"{self.path}.configText"

    @property
    def batcher(self) -> ModelConfig | None:
        return self.config.dynamic_batching if self.config.HasField("dynamic_batching") else None

    @property
    def states_batcher(self) -> bool:
        """Whether the fields ask for dynamic batching, rather than configText or a default."""
        return bool(self.fields.HasField("dynamic_batching"))

    @property
    def max_batch_size(self) -> int | None:
        """None when neither the fields nor configText say it."""
        return int(self.config.max_batch_size) if self.config.HasField("max_batch_size") else None


Check = Callable[[Subject], Iterable[Problem]]


def problems(service: ModelService) -> tuple[Problem, ...]:
    """Everything wrong with the models' configuration: first each model's own, in their order, then the ensembles'."""
    found = [subject(service, model, f"spec.models[{index}]") for index, model in enumerate(service.models)]
    subjects = {one.model.name: one for one in found if isinstance(one, Subject)}
    own = [problem for one in found for problem in (_of_model(one) if isinstance(one, Subject) else (one,))]
    return (*own, *_of_ensembles(service, subjects), *_of_limiters(subjects), *_of_order(subjects))


def subject(service: ModelService, model: Model, path: str) -> Subject | Problem:
    """A model made ready for the checks; a Problem when its configText cannot be read at all."""
    try:
        text = model_config.parse(model.config_text or "")
    except ConfigError as error:
        return Problem(f"{path}.configText", f"{error}: correct it, model_config.proto of Triton has all fields")
    fields = config.fields(model)
    merged = model_config.layered(
        defaults=config.defaults(model),
        source=model_config.new(),
        text=text,
        removes=config.removed_paths(model),
        fields=fields,
    )
    return Subject(service=service, model=model, path=path, fields=fields, text=text, config=merged.config)


def _of_model(subject: Subject) -> Iterator[Problem]:
    for check in CHECKS:
        yield from check(subject)


def _of_ensembles(service: ModelService, subjects: Mapping[str, Subject]) -> Iterator[Problem]:
    configs = {name: one.config for name, one in subjects.items()}
    for found in ensembles.findings(configs, declared={model.name for model in service.models}):
        blamed = subjects[found.model]
        field = "ensemble" if found.step is None else f"ensemble.steps[{found.step}]"
        yield Problem(blamed.place(blamed.model.ensemble, field), found.message)


def _of_limiters(subjects: Mapping[str, Subject]) -> Iterator[Problem]:
    for name, message in limiters.conflicts({name: one.config for name, one in subjects.items()}):
        blamed = subjects[name]
        declared = blamed.model.instances and blamed.model.instances.rate_limiter
        yield Problem(blamed.place(declared, "instances.rateLimiter.resources"), message)


def _of_order(subjects: Mapping[str, Subject]) -> Iterator[Problem]:
    orders = {name: (one.model.load.order or 0) if one.model.load else 0 for name, one in subjects.items()}
    for name, message in loading.findings(orders, {name: one.config for name, one in subjects.items()}):
        yield Problem(f"{subjects[name].path}.load.order", message)


def other_name(subject: Subject) -> Iterator[Problem]:
    """A configuration that names another model is refused by Triton."""
    name = subject.text.name
    if name and name != subject.model.name:
        yield Problem(
            f"{subject.path}.configText", f"name {name!r} is not the model's name {subject.model.name!r}: remove it"
        )


def two_schedulers(subject: Subject) -> Iterator[Problem]:
    """Fields ask for one scheduler where configText has chosen another."""
    said, chosen = (layer.WhichOneof("scheduling_choice") for layer in (subject.fields, subject.text))
    if said and chosen and said != chosen:
        yield Problem(
            f"{subject.path}.{'ensemble' if subject.model.ensemble else 'batching'}",
            f"asks for {said} while configText says {chosen}: a model has one scheduler, remove one of them",
        )


def batching_without_batches(subject: Subject) -> Iterator[Problem]:
    """A batcher for a model that takes no batches."""
    if subject.batcher is not None and subject.max_batch_size == 0:
        yield Problem(
            subject.place(subject.states_batcher, "batching"),
            "dynamic batching needs maxBatchSize of at least 1, which is 0: raise it, or set batching.mode Off",
        )


def preferred_sizes(subject: Subject) -> Iterator[Problem]:
    """Sizes to wait for that can never be reached."""
    limit = subject.max_batch_size
    if subject.batcher is None or not limit:
        return
    stated = subject.states_batcher and subject.fields.dynamic_batching.preferred_batch_size
    for size in subject.batcher.preferred_batch_size:
        if not 1 <= size <= limit:
            yield Problem(
                subject.place(stated, "batching.preferredBatchSizes"),
                f"{size} is outside 1 to maxBatchSize {limit}: change it or raise maxBatchSize",
            )


def priorities(subject: Subject) -> Iterator[Problem]:
    """A default level, or the policy of a level, that does not exist."""
    batcher = subject.batcher
    if batcher is None:
        return
    levels, default = batcher.priority_levels, batcher.default_priority_level
    path = subject.place(subject.states_batcher and subject.model.batching.priorities, "batching.priorities")  # type: ignore[union-attr]
    if levels and not 1 <= default <= levels:
        yield Problem(path, f"default level {default} is outside 1 to {levels}: name one of the levels")
    for level in sorted(batcher.priority_queue_policy):
        if not 1 <= level <= levels:
            yield Problem(
                f"{subject.path}.configText",
                f"priority_queue_policy has level {level} and there are {levels} levels: change the level"
                " or raise priority_levels",
            )


def times(subject: Subject) -> Iterator[Problem]:
    """Delays and timeouts that overflow Triton's clock."""
    batcher = subject.batcher
    if batcher is None:
        return
    policies = {
        "default_queue_policy": batcher.default_queue_policy,
        **{f"priority_queue_policy[{level}]": policy for level, policy in batcher.priority_queue_policy.items()},
    }
    found = {"max_queue_delay_microseconds": batcher.max_queue_delay_microseconds}
    for name, policy in policies.items():
        found[f"{name}.default_timeout_microseconds"] = policy.default_timeout_microseconds
    for name, value in found.items():
        if value > MAX_MICROSECONDS:
            yield Problem(
                f"{subject.path}.configText",
                f"dynamic_batching.{name} {value} is above {MAX_MICROSECONDS}: Triton counts in nanoseconds, lower it",
            )


def tensors(subject: Subject) -> Iterator[Problem]:
    """Names used twice, and dimensions that no tensor has. The fields are sure of both, configText is not."""
    path = f"{subject.path}.configText"
    for field, listed in (("input", subject.config.input), ("output", subject.config.output)):
        for name, count in Counter(tensor.name for tensor in listed).items():
            if count > 1:
                yield Problem(path, f"{field} {name!r} occurs {count} times: names are unique, rename or remove one")
        for tensor in listed:
            wrong = next((size for size in tensor.dims if size < 1 and size != -1), None)
            if wrong is not None:
                yield Problem(
                    path,
                    f"{field} {tensor.name!r} has dimension {wrong}: write at least 1, or -1 for a dimension of any"
                    " size",
                )


def warmups(subject: Subject) -> Iterator[Problem]:
    """Warm-up requests that the model would refuse."""
    known = {tensor.name: tensor for tensor in subject.config.input}
    largest = max(1, subject.max_batch_size or 0)
    for sample in subject.config.model_warmup:
        path = subject.place(subject.fields.model_warmup, "warmup")
        named = f"warm-up {sample.name!r}"
        if not sample.inputs:
            yield Problem(path, f"{named} has no inputs: declare the inputs of the model")
        if subject.max_batch_size is not None and not 1 <= sample.batch_size <= largest:
            yield Problem(
                path,
                f"{named} has batch size {sample.batch_size}, outside 1 to {largest} (maxBatchSize"
                f" {subject.max_batch_size}): change it or raise maxBatchSize",
            )
        size = 0
        for name, data in sorted(sample.inputs.items()):
            if known and name not in known:
                yield Problem(path, f"{named} gives input {name!r}, which the model does not have: remove or rename it")
            elif known and not _fits(data, known[name]):
                yield Problem(
                    path,
                    f"{named} gives input {name!r} as {_shape(data)} and it is declared as {_shape(known[name])}:"
                    " make them agree",
                )
            if data.WhichOneof("input_data_type") is None:
                yield Problem(path, f"{named} gives input {name!r} no data: write zero_data: true or random_data: true")
            if any(extent < 1 for extent in data.dims):
                yield Problem(path, f"{named} gives input {name!r} a dimension below 1: write the size to try")
            size += _size_bytes(data) * max(1, sample.batch_size)
        if size > MAX_WARMUP_BYTES:
            yield Problem(
                path, f"{named} is a request of {size:,} bytes; at most {MAX_WARMUP_BYTES:,}: lower batchSize or dims"
            )


def gpu_instances(subject: Subject) -> Iterator[Problem]:
    """Instances on a GPU in a pod that has none."""
    if server.has_gpu(subject.service):
        return
    for group in subject.config.instance_group:
        if group.kind == group.Kind.Value("KIND_GPU") or group.gpus:
            yield Problem(
                subject.place(subject.fields.instance_group, "instances.kind"),
                "GPU instances in pods without a GPU: add a device such as nvidia.com/gpu to runtime.resources.limits,"
                " or choose kind CPU",
            )


def accelerators(subject: Subject) -> Iterator[Problem]:
    """What the pods have no GPU for, or what the declared backend would ignore."""
    declared = subject.model.optimization
    if declared is None:
        return
    path = f"{subject.path}.optimization"
    backend = subject.config.backend or subject.config.platform.partition("_")[0]
    wanted = []
    if declared.accelerator is not None:
        wanted.append(
            (f"accelerator {declared.accelerator}", "onnxruntime", declared.accelerator is Accelerator.TENSORRT)
        )
    if declared.cuda_graphs:
        wanted.append(("cudaGraphs", "tensorrt", True))
    for what, served_by, on_gpu in wanted:
        if backend and backend != served_by:
            yield Problem(path, f"{what} is for backend {served_by} and the model's is {backend}: remove it")
        elif on_gpu and not server.has_gpu(subject.service):
            yield Problem(
                path,
                f"{what} in pods without a GPU: add a device such as nvidia.com/gpu to runtime.resources.limits, or"
                " remove it",
            )


def limiter_without_limit(subject: Subject) -> Iterator[Problem]:
    """Resources in a server whose rate limiter is off: Triton reads them and goes on without."""
    on = server.limits_rate(subject.service) or server.says_rate(subject.service)
    if not on and any(group.HasField("rate_limiter") for group in subject.config.instance_group):
        yield Problem(
            f"{subject.path}.configText",
            "rate_limiter has no effect, the server's is off: write instances.rateLimiter instead, or add"
            f" {server.RATE_FLAG}=execution_count to runtime.args",
        )


def versions(subject: Subject) -> Iterator[Problem]:
    """A version asked for twice, or one that does not exist. The fields are sure of both, configText is not."""
    path, policy = f"{subject.path}.configText", subject.config.version_policy
    for version, count in sorted(Counter(policy.specific.versions).items()):
        if count > 1:
            yield Problem(path, f"version_policy: version {version} occurs {count} times: name it once")
        if version < 1:
            yield Problem(path, f"version_policy: version {version} is below 1, the first: correct it")
    if policy.HasField("latest") and policy.latest.num_versions < 1:
        yield Problem(path, "version_policy: latest 0 would serve nothing: write at least 1")


def cache_without_cache(subject: Subject) -> Iterator[Problem]:
    """A response cache for a model in a server that keeps none: Triton logs a warning and goes on without."""
    cached = server.cache_bytes(subject.service) is not None or server.brings_cache(subject.service)
    if subject.config.response_cache.enable and not cached:
        yield Problem(
            f"{subject.path}.configText",
            "response_cache is enabled and the server has no cache: write responseCache: true instead, or set"
            " runtime.responseCacheSize, e.g. 64Mi",
        )


def cache_of_a_stream(subject: Subject) -> Iterator[Problem]:
    """Triton caches one answer per request: not those of a decoupled model, nor those that depend on a sequence."""
    if not subject.config.response_cache.enable:
        return
    path = subject.place(subject.model.response_cache, "responseCache")
    if subject.config.model_transaction_policy.decoupled:
        yield Problem(path, "a decoupled model (model_transaction_policy) has no response cache: remove one of them")
    if subject.config.HasField("sequence_batching"):
        yield Problem(path, "a model with sequence batching has no response cache: remove one of them")


def sequence_sizes(subject: Subject) -> Iterator[Problem]:
    """Preferred sizes of a sequence batcher that can never be reached."""
    limit, stated = subject.max_batch_size, subject.fields.sequence_batching.oldest.preferred_batch_size
    for size in subject.config.sequence_batching.oldest.preferred_batch_size:
        if limit is not None and not 1 <= size <= limit:
            yield Problem(
                subject.place(stated, "batching.preferredBatchSizes"),
                f"{size} is outside 1 to maxBatchSize {limit}: change it or raise maxBatchSize",
            )


def sequence_controls(subject: Subject) -> Iterator[Problem]:
    """A control that clients would have to send."""
    inputs = {tensor.name for tensor in subject.config.input}
    for control in subject.config.sequence_batching.control_input:
        if control.name in inputs:
            yield Problem(
                subject.place(subject.fields.sequence_batching.control_input, "batching.sequence.controls"),
                f"{control.name!r} is among the inputs of the model too: Triton gives it and no client, remove it from"
                " inputs",
            )


CHECKS: tuple[Check, ...] = (
    other_name,
    two_schedulers,
    batching_without_batches,
    preferred_sizes,
    priorities,
    times,
    tensors,
    warmups,
    gpu_instances,
    accelerators,
    limiter_without_limit,
    versions,
    cache_without_cache,
    cache_of_a_stream,
    sequence_sizes,
    sequence_controls,
)


def _fits(given: ModelConfig, declared: ModelConfig) -> bool:
    """Whether a warm-up input has the type and shape of the declared one."""
    return given.data_type == declared.data_type and (
        len(given.dims) == len(declared.dims)
        and all(size in (extent, -1) for extent, size in zip(given.dims, declared.dims, strict=True))
    )


def _shape(tensor: ModelConfig) -> str:
    return f"{_type_name(tensor)}{list(tensor.dims)}"


def _type_name(tensor: ModelConfig) -> str:
    values = tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
    return str(values[tensor.data_type].name).removeprefix("TYPE_")


def _size_bytes(data: ModelConfig) -> int:
    elements: int = prod(max(1, int(extent)) for extent in data.dims)
    return elements * {**_DEFAULT_BYTES, **_BYTES}.get(_type_name(data), 4)
