"""What a user writes: the spec of a ModelService, typed, with the manual of every field.

The descriptions are the manual (`kubectl explain msvc.spec`): each says what the field does, in which unit, and
what happens when it is absent. Schema bounds stand on the fields; rules over several fields stand on the class
(`rules`, see nereus.api.rules), refused by the API server with a sentence that names the remedy.

No field has a schema default: absent means automatic, resolved when rendered, so that a later release cannot
change what a stored object means.
"""

from __future__ import annotations

import re
from enum import StrEnum
from itertools import combinations
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from nereus.api import names
from nereus.api.rules import Keyed, Rule, broken, with_rules
from nereus.api.values import (
    Affinity,
    Duration,
    EnvVar,
    LocalReference,
    MetricSpec,
    PodSecurityContext,
    Quantity,
    ScalingBehavior,
    SourceUri,
    Toleration,
    TopologySpread,
    Volume,
    VolumeMount,
    Within,
)


class Section(BaseModel):
    """Base of every part of the resource: immutable, camelCase outside, unknown fields refused.

    `rules` are the rules over several fields of the class; the API server and `read` hold to the same ones.
    """

    rules: ClassVar[tuple[Rule, ...]] = ()

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        arbitrary_types_allowed=True,
    )

    @model_validator(mode="after")
    def _holds_to_its_rules(self) -> Self:
        found = [rule.message for rule in self.rules if not rule.holds(self)]
        if found:
            raise broken(*found)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        reference = handler(schema)
        target = handler.resolve_ref_schema(reference)
        target.update(with_rules(target, cls.rules))
        return reference


Text = Annotated[str, Field(max_length=1024)]
_QUALIFIED_KEY = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[a-zA-Z0-9]([-_.a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$"
_LABEL_VALUE = r"^([a-zA-Z0-9]([-_.a-zA-Z0-9]*[a-zA-Z0-9])?)?$"
_KEYS_ARE_QUALIFIED = Rule(
    cel=f"self.all(key, size(key) <= 317 && key.matches(r'{_QUALIFIED_KEY}'))",
    message="each key is a name of at most 63 letters, digits, '-', '_' and '.', or PREFIX/NAME with a DNS prefix,"
    " e.g. example.com/team: rename the key",
    holds=lambda entries: all(re.fullmatch(_QUALIFIED_KEY, key) for key in entries),
)
LabelMap = Annotated[
    dict[
        str,
        Annotated[
            str,
            Field(max_length=63),
            Rule(
                cel=f"self.matches(r'{_LABEL_VALUE}')",
                message="a label value is made of letters, digits, '-', '_' and '.', and begins and ends with a letter"
                " or a digit: choose such a value",
                holds=lambda value: re.fullmatch(_LABEL_VALUE, value) is not None,
            ),
        ],
    ],
    Field(max_length=64),
    _KEYS_ARE_QUALIFIED,
]
AnnotationMap = Annotated[dict[str, Annotated[str, Field(max_length=16384)]], Field(max_length=64), _KEYS_ARE_QUALIFIED]


class PullPolicy(StrEnum):
    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class Resources(Section):
    """CPU, memory and devices of a container."""

    requests: Annotated[dict[str, Quantity], Field(max_length=16)] | None = Field(
        None,
        description="What is reserved for the Triton container. When absent: of cpu and memory the limit where there"
        " is one, otherwise cpu 1, memory 2Gi.",
    )
    limits: Annotated[dict[str, Quantity], Field(max_length=16)] | None = Field(
        None,
        description="What the Triton container may use at most. When absent: no limit, except that an extended"
        " resource such as nvidia.com/gpu named here is also its request.",
    )


class Runtime(Section):
    """How the Triton server runs."""

    image: Annotated[str, Field(min_length=1, max_length=512)] | None = Field(
        None,
        description="The Triton image. When absent: the image configured for the operator (chart value triton.image).",
    )
    image_pull_policy: PullPolicy | None = Field(
        None, description="When the kubelet pulls the image. When absent: the Kubernetes default for the tag."
    )
    image_pull_secrets: Annotated[tuple[LocalReference, ...], Field(max_length=16), Keyed(("name",))] | None = Field(
        None, description="Secrets in the same namespace with credentials for the image."
    )
    resources: Resources | None = Field(
        None,
        description="CPU, memory and devices of the Triton container. When absent: requests of cpu 1, memory 2Gi.",
    )
    env: Annotated[tuple[EnvVar, ...], Field(max_length=128), Keyed(("name",))] | None = Field(
        None,
        description="Environment variables of the Triton container and of the sidecar that fetches the models"
        " (a proxy or a CA bundle is needed in both).",
    )
    args: Annotated[tuple[Text, ...], Field(max_length=64)] | None = Field(
        None,
        description="Further arguments of tritonserver, placed after those that Nereus sets. Arguments that Nereus"
        " owns (model repository, control mode, ports, restricted APIs) are refused.",
    )
    volumes: Annotated[tuple[Volume, ...], Field(max_length=32), Keyed(("name",))] | None = Field(
        None, description="Further volumes of the pod. Names that Nereus uses are refused."
    )
    volume_mounts: Annotated[tuple[VolumeMount, ...], Field(max_length=32), Keyed(("mountPath",))] | None = Field(
        None, description="Mounts of those volumes, in the Triton container and in the sidecar."
    )
    node_selector: LabelMap | None = Field(None, description="Labels that a node must have. When absent: any node.")
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] | None = Field(
        None, description="Taints that the pods accept."
    )
    affinity: Affinity | None = Field(None, description="Node and pod affinity of the pods.")
    topology_spread_constraints: (
        Annotated[tuple[TopologySpread, ...], Field(max_length=8), Keyed(("topologyKey", "whenUnsatisfiable"))] | None
    ) = Field(
        None,
        description="How pods spread over zones and nodes. When absent: preferred spreading over nodes.",
    )
    priority_class_name: Annotated[str, Field(max_length=253)] | None = Field(
        None, description="PriorityClass of the pods. When absent: the cluster's default."
    )
    service_account_name: Annotated[str, Field(max_length=253)] | None = Field(
        None,
        description="ServiceAccount of the pods. When absent: the namespace's default, without a mounted token.",
    )
    pod_labels: LabelMap | None = Field(
        None, description="Further labels of the pods. Labels that Nereus uses are refused."
    )
    pod_annotations: AnnotationMap | None = Field(None, description="Further annotations of the pods.")
    security_context: PodSecurityContext | None = Field(
        None,
        description="Security context of the pod; a field given here replaces ours. When absent: user 1000, group"
        " 1000, not root, default seccomp profile.",
    )
    shared_memory: Quantity | None = Field(
        None,
        description="Size of /dev/shm, which python models use for tensors. When absent: 64Mi plus 16Mi for each"
        " declared instance, rounded up to a power of two, at least 256Mi.",
    )
    response_cache_size: Quantity | None = Field(
        None,
        description="Memory of the Triton container that keeps answers of models with a response cache, at least 1Mi."
        " When absent: 64Mi if a model here has responseCache: true, otherwise there is no cache. The first model that"
        " asks for one replaces the pods, unless this size was there before.",
    )
    termination_grace_period: Duration | None = Field(
        None,
        description="How long a pod may take to stop. When absent: drain (connectionAge, connectionAgeGrace and"
        " a margin), plus connectionAgeGrace for Triton's own end, plus 5s. A"
        " shorter one cuts requests off.",
    )
    rules = (
        Rule(
            cel="!has(self.volumeMounts) || self.volumeMounts.all(mount, has(self.volumes)"
            " && self.volumes.exists(volume, volume.name == mount.name))",
            message="runtime.volumeMounts names a volume that runtime.volumes does not declare: declare it, or correct"
            " the name",
            holds=lambda it: (
                {mount.get("name") for mount in it.volume_mounts or ()}
                <= {volume.get("name") for volume in it.volumes or ()}
            ),
        ),
    )


class Source(Section):
    """Where a model's files come from."""

    uri: SourceUri = Field(
        description="configmap://NAME[/PREFIX]: keys become files of version 1 (config.pbtxt the configuration,"
        " vN.FILE a file of version N; with PREFIX only keys PREFIX.*). pvc://CLAIM/PATH: a directory on a claim, read"
        " in place. https://HOST/PATH: a .tar.gz, .tar or .zip of a model directory, or a single model file."
    )


class DataType(StrEnum):
    """Triton's tensor types (model_config.proto, without the TYPE_ prefix)."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    STRING = "STRING"
    BF16 = "BF16"


class Tensor(Section):
    """A tensor that the model takes or gives."""

    name: Annotated[str, Field(min_length=1, max_length=256)] = Field(description="Name of the tensor in the model.")
    data_type: DataType = Field(description="Type of one element.")
    dims: Annotated[tuple[Annotated[int, Field(ge=-1, le=2**53)], ...], Field(min_length=1, max_length=16)] = Field(
        description="Shape without the batch dimension; -1 is a dimension of any size."
    )
    rules = (
        Rule(
            cel="self.dims.all(dim, dim != 0)",
            message="dims holds 0: write -1 for a dimension of any size, otherwise its size",
            holds=lambda it: 0 not in it.dims,
        ),
    )


class InputTensor(Tensor):
    """A tensor that the model takes."""

    optional: bool | None = Field(None, description="Whether a request may leave the input out. When absent: no.")


class BatchingMode(StrEnum):
    DYNAMIC = "Dynamic"
    SEQUENCE = "Sequence"
    OFF = "Off"


class Priorities(Section):
    """Levels of urgency; level 1 is served first and, when the server is saturated, alone."""

    levels: Annotated[int, Field(ge=1, le=64)] = Field(description="Number of levels.")
    default: Annotated[int, Field(ge=1, le=64)] = Field(
        description="Level of a request that names none; at most `levels`."
    )
    rules = (
        Rule(
            cel="self.default <= self.levels",
            message="priorities.default is above priorities.levels: name one of the levels",
            holds=lambda it: it.default <= it.levels,
        ),
    )


class TimeoutAction(StrEnum):
    REJECT = "Reject"
    DELAY = "Delay"


class Queue(Section):
    """What waits, how long, and what happens then."""

    max_size: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None,
        description="Requests that may wait; further ones are refused at once (Triton counts these refusals nowhere)."
        " When absent: no limit.",
    )
    timeout: Duration | None = Field(
        None, description="How long a request may wait before `onTimeout` is applied. When absent: for ever."
    )
    on_timeout: TimeoutAction | None = Field(
        None,
        description="Reject: fail the request. Delay: serve it after all others. When absent: Reject.",
    )
    allow_timeout_override: bool | None = Field(
        None, description="Whether a request may set a shorter timeout of its own. When absent: no."
    )
    rules = (
        Rule(
            cel="!has(self.onTimeout) || has(self.timeout)",
            message="queue.onTimeout has no effect without queue.timeout: set queue.timeout, e.g. 500ms",
            holds=lambda it: it.on_timeout is None or it.timeout is not None,
        ),
    )


class SequenceStrategy(StrEnum):
    DIRECT = "Direct"
    OLDEST = "Oldest"


class ControlKind(StrEnum):
    START = "Start"
    READY = "Ready"
    END = "End"
    CORRELATION_ID = "CorrelationID"


_FLAG_TYPES = (DataType.INT32, DataType.FP32, DataType.BOOL)
_ID_TYPES = (DataType.UINT64, DataType.INT64, DataType.UINT32, DataType.INT32, DataType.STRING)


class SequenceControl(Section):
    """An input with which Triton tells the model where in a sequence a request stands."""

    name: Annotated[str, Field(min_length=1, max_length=256)] = Field(
        description="Name of the input in the model; it is not among `inputs`, clients do not send it."
    )
    kind: ControlKind = Field(
        description="Start: 1 for the first request of a sequence, else 0. End: 1 for the last one. Ready: 1 where the"
        " batch has a request. CorrelationID: the number or text by which the client tells its sequences apart."
    )
    data_type: DataType | None = Field(
        None,
        description="INT32, FP32 or BOOL; for CorrelationID UINT64, INT64, UINT32, INT32 or STRING (not UINT8, UINT16,"
        " INT8, INT16, FP16, FP64, BF16). When absent: INT32, for CorrelationID UINT64.",
    )
    rules = (
        Rule(
            cel="!has(self.dataType) || (self.kind == 'CorrelationID'"
            " ? self.dataType in ['UINT64', 'INT64', 'UINT32', 'INT32', 'STRING']"
            " : self.dataType in ['INT32', 'FP32', 'BOOL'])",
            message="dataType does not fit the kind of control: choose INT32, FP32 or BOOL, and for CorrelationID"
            " UINT64, INT64, UINT32, INT32 or STRING",
            holds=lambda it: (
                it.data_type is None
                or it.data_type in (_ID_TYPES if it.kind is ControlKind.CORRELATION_ID else _FLAG_TYPES)
            ),
        ),
    )


PERCENT_PATTERN = r"^(100|[1-9]?[0-9])%$"


class Sequence(Section):
    """How sequences, requests that belong together and need the same instance, find theirs."""

    strategy: SequenceStrategy | None = Field(
        None,
        description="Direct: a sequence keeps its place in the batch of an instance until it ends. Oldest: an instance"
        " takes batches from up to maxCandidates sequences, the oldest first; the model tells them apart by their"
        " CorrelationID. When absent: as the source says, otherwise Direct.",
    )
    max_idle: Annotated[Duration, Within("1ms", "24h")] | None = Field(
        None,
        description="How long a sequence may be silent before its place is given away; its next request then fails."
        " When absent: as the source says, otherwise 1s.",
    )
    max_candidates: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None,
        description="With Oldest: sequences that an instance works on at a time; others wait. When absent: Direct has"
        " as many as maxBatchSize.",
    )
    min_slot_utilization: (
        Annotated[
            str,
            Field(max_length=4),
            Rule(
                cel=f"self.matches('{PERCENT_PATTERN}')",
                message="is not a share of 0% to 100%: write e.g. 50%",
                holds=lambda share: re.fullmatch(PERCENT_PATTERN, share) is not None,
            ),
        ]
        | None
    ) = Field(
        None,
        description="With Direct: share of the places that must have a request, or maxQueueDelay be over, before the"
        " model runs, e.g. 50%. When absent: 0%, one request is enough.",
    )
    controls: Annotated[tuple[SequenceControl, ...], Field(max_length=4), Keyed(("name",))] | None = Field(
        None,
        description="Inputs with which Triton tells the model about the sequence. When absent: as the source says.",
    )
    rules = (
        Rule(
            cel="(has(self.strategy) && self.strategy == 'Oldest') == has(self.maxCandidates)",
            message="maxCandidates belongs to strategy Oldest, which needs it: set both, or remove both",
            holds=lambda it: (it.strategy is SequenceStrategy.OLDEST) is (it.max_candidates is not None),
        ),
        Rule(
            cel="!has(self.minSlotUtilization) || !has(self.strategy) || self.strategy == 'Direct'",
            message="minSlotUtilization belongs to strategy Direct: remove it",
            holds=lambda it: it.min_slot_utilization is None or it.strategy is not SequenceStrategy.OLDEST,
        ),
        Rule(
            cel="!has(self.controls)"
            " || self.controls.all(one, self.controls.exists_one(other, other.kind == one.kind))",
            message="controls has a kind twice: keep one of each",
            holds=lambda it: len({one.kind for one in it.controls or ()}) == len(it.controls or ()),
        ),
    )


class Batching(Section):
    """How Triton groups waiting requests into one execution."""

    mode: BatchingMode | None = Field(
        None,
        description="Dynamic: group what is waiting, up to maxBatchSize. Sequence: requests with the same correlation"
        " id go to the same instance, in their order. Off: one request at a time, also where the"
        " source says otherwise; backends that complete configurations themselves (e.g. onnxruntime, tensorrt) group"
        " nevertheless unless runtime.args has --disable-auto-complete-config. When absent: as the source says, and"
        " where it says nothing, Dynamic if maxBatchSize is above 1 here.",
    )
    preferred_batch_sizes: (
        Annotated[tuple[Annotated[int, Field(ge=1, le=2**31 - 1)], ...], Field(max_length=32), Keyed()] | None
    ) = Field(
        None,
        description="Sizes to wait for, each at most maxBatchSize. Useful only where the model was built for certain"
        " sizes (TensorRT profiles). When absent: none.",
    )
    max_queue_delay: Duration | None = Field(
        None,
        description="How long a request may wait for others to join, while the model is idle. When absent: 0, take"
        " what is there.",
    )
    preserve_ordering: bool | None = Field(
        None, description="Whether answers leave in the order of the requests. When absent: no."
    )
    priorities: Priorities | None = Field(None, description="Levels of urgency. When absent: one level.")
    queue: Queue | None = Field(None, description="Limits of the queue. When absent: none.")
    sequence: Sequence | None = Field(
        None, description="With mode Sequence: how sequences find their instance. When absent: as the source says."
    )
    rules = (
        Rule(
            cel="!has(self.sequence) || (has(self.mode) && self.mode in ['Sequence', 'Off'])",
            message="batching.sequence has no effect without mode Sequence: set mode Sequence, or remove it",
            holds=lambda it: it.sequence is None or it.mode in (BatchingMode.SEQUENCE, BatchingMode.OFF),
        ),
        Rule(
            cel="!has(self.mode) || self.mode != 'Sequence' || (!has(self.priorities) && !has(self.queue))",
            message="batching.mode Sequence has no priorities and no queue limits: remove priorities and queue",
            holds=lambda it: it.mode is not BatchingMode.SEQUENCE or (it.priorities is None and it.queue is None),
        ),
        Rule(
            cel="!has(self.mode) || self.mode != 'Sequence' || (has(self.sequence) && has(self.sequence.strategy)"
            " && self.sequence.strategy == 'Oldest')"
            " || (!has(self.preferredBatchSizes) && !has(self.preserveOrdering))",
            message="of sequences, only strategy Oldest has preferredBatchSizes and preserveOrdering: remove them, or"
            " set sequence.strategy Oldest",
            holds=lambda it: (
                it.mode is not BatchingMode.SEQUENCE
                or (it.sequence is not None and it.sequence.strategy is SequenceStrategy.OLDEST)
                or (it.preferred_batch_sizes is None and it.preserve_ordering is None)
            ),
        ),
        Rule(
            cel="!has(self.mode) || self.mode != 'Off' || (!has(self.preferredBatchSizes) && !has(self.maxQueueDelay)"
            " && !has(self.preserveOrdering) && !has(self.priorities) && !has(self.queue) && !has(self.sequence))",
            message="batching.mode Off takes no other batching field: remove them or set mode Dynamic",
            holds=lambda it: (
                it.mode is not BatchingMode.OFF or all(value is None for name, value in it if name != "mode")
            ),
        ),
    )


class InstanceKind(StrEnum):
    AUTO = "Auto"
    CPU = "CPU"
    GPU = "GPU"
    MODEL = "Model"


RESOURCE_NAME_PATTERN = r"^[a-zA-Z0-9]([-._a-zA-Z0-9]*[a-zA-Z0-9])?$"


class RateResource(Section):
    """So many units of something that instances share, e.g. memory bandwidth; the units are yours."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=63),
        Rule(
            cel=f"self.matches(r'{RESOURCE_NAME_PATTERN}')",
            message="a resource name is made of letters, digits, '-', '_' and '.': choose such a name",
            holds=lambda name: re.fullmatch(RESOURCE_NAME_PATTERN, name) is not None,
        ),
    ] = Field(description="Name of the resource; models that give the same name share it.")
    is_global: bool | None = Field(
        None,
        alias="global",
        description="true: one amount for the whole server. When absent: one amount for each device.",
    )
    count: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        description="Units that one instance holds while it runs. There are as many as the most demanding instance"
        " holds, unless runtime.args has --rate-limit-resource=NAME:COUNT."
    )


class RateLimiter(Section):
    """Which instances, also of different models, may run at the same time."""

    resources: Annotated[tuple[RateResource, ...], Field(max_length=16), Keyed(("name",))] | None = Field(
        None, description="What an instance must hold to run. When absent: nothing, it always may."
    )
    priority: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None,
        description="Weight among instances that wait for a resource: one with priority 2 runs half as often as one"
        " with priority 1. When absent: 1.",
    )


class Instances(Section):
    """Copies of the model in one pod, which run at the same time."""

    count: Annotated[int, Field(ge=1, le=256)] | None = Field(
        None, description="Copies on each device. When absent: Triton's choice for the backend (usually 1)."
    )
    kind: InstanceKind | None = Field(
        None, description="Where they run. When absent: Auto, a GPU when the pod has one, otherwise the CPU."
    )
    rate_limiter: RateLimiter | None = Field(
        None,
        description="Limits which copies run at the same time. The first model that has one replaces the pods, because"
        " the server needs an argument for it. When absent: every copy runs whenever it has work.",
    )


class Warmup(Section):
    """Requests run through the model before it counts as ready, so that no user pays for the first ones."""

    requests: Annotated[int, Field(ge=1, le=1000)] | None = Field(None, description="How many. When absent: 1.")
    batch_size: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        None, description="Batch size of each, at most maxBatchSize. When absent: 1."
    )


class Versions(Section):
    """Which versions of the model are served; exactly one of the fields."""

    latest: Annotated[int, Field(ge=1, le=1000)] | None = Field(None, description="The newest N versions.")
    all: bool | None = Field(None, description="true: every version in the source.")
    specific: (
        Annotated[tuple[Annotated[int, Field(ge=1, le=2**53)], ...], Field(min_length=1, max_length=64), Keyed()] | None
    ) = Field(None, description="Exactly these versions.")
    rules = (
        Rule(
            cel="(has(self.latest) ? 1 : 0) + (has(self.all) ? 1 : 0) + (has(self.specific) ? 1 : 0) == 1",
            message="versions takes exactly one of latest, all, specific: remove the others",
            holds=lambda it: sum(value is not None for value in (it.latest, it.all, it.specific)) == 1,
        ),
        Rule(
            cel="!has(self.all) || self.all",
            message="versions.all is either true or absent: remove it, or set it to true",
            holds=lambda it: it.all is not False,
        ),
    )


BACKEND_PATTERN = r"^[a-z0-9_]+$"
BackendName = Annotated[
    str,
    Field(max_length=64),
    Rule(
        cel=f"self.matches('{BACKEND_PATTERN}')",
        message="is a name of small letters, digits and '_': write it as Triton does, e.g. onnxruntime or python",
        holds=lambda name: re.fullmatch(BACKEND_PATTERN, name) is not None,
    ),
]
MODEL_NAME_PATTERN = r"^[a-zA-Z0-9]([-._a-zA-Z0-9]*[a-zA-Z0-9])?$"
ModelName = Annotated[
    str,
    Field(min_length=1, max_length=128),
    Rule(
        cel=f"self.matches(r'{MODEL_NAME_PATTERN}')",
        message="a model name is made of letters, digits, '-', '_' and '.', and begins and ends with a letter or a"
        " digit: choose such a name",
        holds=lambda name: re.fullmatch(MODEL_NAME_PATTERN, name) is not None,
    ),
]


class Accelerator(StrEnum):
    TENSORRT = "TensorRT"
    OPENVINO = "OpenVINO"


class Precision(StrEnum):
    FP32 = "FP32"
    FP16 = "FP16"


class Optimization(Section):
    """How a backend makes the model faster."""

    accelerator: Accelerator | None = Field(
        None,
        description="Library to which backend onnxruntime hands what it can of the model. TensorRT: on GPUs; the engine"
        " is built when the model loads, which may take minutes. OpenVINO: on CPUs. When absent: as the source says,"
        " otherwise none.",
    )
    precision: Precision | None = Field(
        None,
        description="With accelerator TensorRT, what it computes in: FP32 or FP16 (faster, less exact). When absent:"
        " FP32.",
    )
    cuda_graphs: bool | None = Field(
        None,
        description="true: backend tensorrt records the model's GPU work once for each batch size and replays it; more"
        " GPU memory, less overhead for small models. When absent: as the source says, otherwise false.",
    )
    rules = (
        Rule(
            cel="!has(self.precision) || (has(self.accelerator) && self.accelerator == 'TensorRT')",
            message="optimization.precision belongs to accelerator TensorRT: set accelerator TensorRT, or remove it",
            holds=lambda it: it.precision is None or it.accelerator is Accelerator.TENSORRT,
        ),
    )


TensorName = Annotated[str, Field(min_length=1, max_length=256)]
TensorMap = Annotated[
    dict[str, TensorName],
    Field(min_length=1, max_length=64),
    Rule(
        cel="self.all(key, size(key) >= 1 && size(key) <= 256)",
        message="names a tensor with no or more than 256 characters: write the tensor's name",
        holds=lambda mapped: all(1 <= len(key) <= 256 for key in mapped),
    ),
]


class EnsembleStep(Section):
    """One model that an ensemble runs, and how its tensors are called in the ensemble."""

    model: ModelName = Field(description="Name of a model of this service.")
    version: Annotated[int, Field(ge=1, le=2**53)] | None = Field(
        None, description="Version of that model. When absent: the newest."
    )
    input_map: TensorMap = Field(
        description="For each input of the step's model the tensor of the ensemble that it is: an input of the"
        " ensemble, or an output of another step."
    )
    output_map: TensorMap = Field(
        description="For each output of the step's model that is needed, its name as a tensor of the ensemble."
    )


class Ensemble(Section):
    """Models run one after another, without sending what lies between over the network."""

    steps: Annotated[tuple[EnsembleStep, ...], Field(min_length=1, max_length=64)] = Field(
        description="The models. A step runs as soon as its inputs are there; the order of the list means nothing."
    )


class Model(Section):
    """One model that every pod of the service serves."""

    name: ModelName = Field(description="The name that clients send; unique in the service.")
    source: Source | None = Field(
        None, description="Where the files come from. When absent: the model is an `ensemble`, which has none."
    )
    backend: BackendName | None = Field(
        None,
        description="Triton backend that runs the model, e.g. onnxruntime, python, tensorrt, pytorch. When absent: as"
        " the configuration in the source says, or as Triton recognises by the file name.",
    )
    platform: BackendName | None = Field(
        None,
        description="Older way to name the backend, e.g. tensorrt_plan. Only one of backend and platform.",
    )
    max_batch_size: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        None,
        description="Largest batch that the model takes; 0: the model does not batch. When absent: as the"
        " configuration in the source says, or as Triton completes it.",
    )
    inputs: Annotated[tuple[InputTensor, ...], Field(max_length=128), Keyed(("name",))] | None = Field(
        None, description="Inputs of the model. When absent: from the source, or completed by Triton."
    )
    outputs: Annotated[tuple[Tensor, ...], Field(max_length=128), Keyed(("name",))] | None = Field(
        None, description="Outputs of the model. When absent: from the source, or completed by Triton."
    )
    batching: Batching | None = Field(None, description="How requests are grouped. When absent: see batching.mode.")
    instances: Instances | None = Field(None, description="Copies in one pod. When absent: Triton's choice.")
    warmup: Warmup | None = Field(
        None, description="Requests before the model counts as ready; needs `inputs`. When absent: none."
    )
    versions: Versions | None = Field(None, description="Which versions are served. When absent: the newest.")
    ensemble: Ensemble | None = Field(
        None,
        description="Makes this model a pipeline of others in the service. It has `inputs` and `outputs` but no"
        " source, batching, instances, warm-up or versions of its own: its steps have. When absent: the model is"
        " loaded from its source.",
    )
    response_cache: bool | None = Field(
        None,
        description="true: a request with the same inputs as an earlier one is answered from memory (see"
        " runtime.responseCacheSize), without running the model. Right only for a model whose answer depends on"
        " nothing but its inputs. When absent: as the source says, normally false.",
    )
    optimization: Optimization | None = Field(
        None,
        description="Accelerators of the backend. Checked against Triton's schema only: no test of Nereus runs them,"
        " its test server has neither a GPU nor these backends. When absent: as the source says, otherwise none.",
    )
    parameters: (
        Annotated[
            dict[str, Annotated[str, Field(max_length=4096)]],
            Field(max_length=128),
            Rule(
                cel="self.all(key, size(key) >= 1 && size(key) <= 256)",
                message="parameters has a key that is empty or longer than 256 characters: shorten it",
                holds=lambda parameters: all(1 <= len(key) <= 256 for key in parameters),
            ),
        ]
        | None
    ) = Field(None, description="Parameters handed to the backend, as text.")
    config_text: Annotated[str, Field(max_length=65536)] | None = Field(
        None,
        description="Triton model configuration in protobuf text form, for what has no field here. It stands above"
        " config.pbtxt in the source and below the fields of this resource.",
    )
    rules = (
        Rule(
            cel="has(self.source) || has(self.ensemble)",
            message="source is required: set source.uri, or describe an ensemble",
            holds=lambda it: it.source is not None or it.ensemble is not None,
        ),
        Rule(
            cel="!has(self.ensemble) || !(has(self.source) || has(self.backend) || has(self.platform)"
            " || has(self.batching) || has(self.instances) || has(self.warmup) || has(self.versions)"
            " || has(self.optimization))",
            message="an ensemble takes no source, backend, platform, batching, instances, warmup, versions or"
            " optimization, its steps do: remove them, or remove ensemble",
            holds=lambda it: (
                it.ensemble is None
                or {
                    it.source,
                    it.backend,
                    it.platform,
                    it.batching,
                    it.instances,
                    it.warmup,
                    it.versions,
                    it.optimization,
                }
                == {None}
            ),
        ),
        Rule(
            cel="!has(self.ensemble) || (has(self.inputs) && size(self.inputs) > 0"
            " && has(self.outputs) && size(self.outputs) > 0)",
            message="an ensemble needs to say what it takes and gives: declare inputs and outputs",
            holds=lambda it: it.ensemble is None or bool(it.inputs and it.outputs),
        ),
        Rule(
            cel="!has(self.backend) || !has(self.platform)",
            message="backend and platform exclude each other: keep one",
            holds=lambda it: it.backend is None or it.platform is None,
        ),
        Rule(
            cel="!has(self.warmup) || (has(self.inputs) && size(self.inputs) > 0)",
            message="warmup needs the shapes of the inputs: declare inputs",
            holds=lambda it: it.warmup is None or bool(it.inputs),
        ),
        Rule(
            cel="!has(self.maxBatchSize) || !has(self.batching) || !has(self.batching.preferredBatchSizes)"
            " || self.batching.preferredBatchSizes.all(size, size <= self.maxBatchSize)",
            message="batching.preferredBatchSizes holds a size above maxBatchSize: lower it or raise maxBatchSize",
            holds=lambda it: it.max_batch_size is None or max(it.preferred_batch_sizes, default=0) <= it.max_batch_size,
        ),
        Rule(
            cel="!has(self.maxBatchSize) || !has(self.warmup) || !has(self.warmup.batchSize)"
            " || self.warmup.batchSize <= (self.maxBatchSize > 1 ? self.maxBatchSize : 1)",
            message="warmup.batchSize is above maxBatchSize: lower it or raise maxBatchSize",
            holds=lambda it: (
                it.max_batch_size is None
                or it.warmup is None
                or (it.warmup.batch_size or 1) <= max(1, it.max_batch_size)
            ),
        ),
        Rule(
            cel="!has(self.maxBatchSize) || self.maxBatchSize > 0 || !has(self.batching)"
            " || (has(self.batching.mode) && self.batching.mode in ['Off', 'Sequence'])",
            message="batching needs maxBatchSize of at least 1: raise it, or set batching.mode Off",
            holds=lambda it: (
                it.max_batch_size is None
                or it.max_batch_size > 0
                or it.batching is None
                or it.batching.mode in (BatchingMode.OFF, BatchingMode.SEQUENCE)
            ),
        ),
    )

    @property
    def uri(self) -> SourceUri | None:
        """Where the files come from; None for an ensemble, which has no files."""
        return self.source.uri if self.source is not None else None

    @property
    def preferred_batch_sizes(self) -> tuple[int, ...]:
        return (self.batching.preferred_batch_sizes if self.batching else None) or ()


Port = Annotated[int, Field(ge=1024, le=65535)]


_PORTS = (
    "(has(self.http) ? self.http : 8000)",
    "(has(self.grpc) ? self.grpc : 8001)",
    "(has(self.metrics) ? self.metrics : 8002)",
    str(names.SIDECAR_PORT),
)


class Ports(Section):
    """Ports of the pods and of the Service; all different, 8003 belongs to the sidecar."""

    http: Port | None = Field(None, description="HTTP inference port. When absent: 8000.")
    grpc: Port | None = Field(None, description="gRPC inference port. When absent: 8001.")
    metrics: Port | None = Field(None, description="Prometheus metrics port. When absent: 8002.")
    rules = (
        Rule(
            cel=" && ".join(f"{one} != {other}" for one, other in combinations(_PORTS, 2)),
            message="endpoint.ports: http [8000], grpc [8001] and metrics [8002] must differ from each other and from"
            f" {names.SIDECAR_PORT}, the sidecar's port: choose other numbers",
            holds=lambda it: (
                len({it.http or 8000, it.grpc or 8001, it.metrics or 8002, names.SIDECAR_PORT}) == len(_PORTS)
            ),
        ),
    )


class ServiceType(StrEnum):
    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"


class Endpoint(Section):
    """How clients reach the service."""

    ports: Ports | None = Field(None, description="Port numbers. When absent: 8000, 8001, 8002.")
    service_type: ServiceType | None = Field(None, description="Type of the Service. When absent: ClusterIP.")
    service_annotations: AnnotationMap | None = Field(
        None, description="Annotations of the Service, e.g. for a load balancer."
    )
    connection_age: Annotated[Duration, Within("1s", "10m")] | None = Field(
        None,
        description="After this time a gRPC client is asked to reconnect, so that it moves to other pods before one"
        " stops; between 1s and 10m. Longer makes every scale-down longer, shorter costs reconnects. When absent: 30s.",
    )
    connection_age_grace: Annotated[Duration, Within("1s", "10m")] | None = Field(
        None,
        description="How long a gRPC call that is running may go on after connectionAge; between 1s and 10m. The"
        " longest request that survives a scale-down. When absent: 10s.",
    )


class Strategy(StrEnum):
    METRICS = "Metrics"
    MANUAL = "Manual"


class Scaling(Section):
    """How many pods."""

    strategy: Strategy | None = Field(
        None,
        description="Metrics: a HorizontalPodAutoscaler with `metrics`. Manual: exactly `replicas`, also by kubectl"
        " scale. When absent: Metrics.",
    )
    replicas: Annotated[int, Field(ge=0, le=10000)] | None = Field(
        None, description="Number of pods under strategy Manual; 0 stops all. When absent: 1."
    )
    min_replicas: Annotated[int, Field(ge=1, le=10000)] | None = Field(
        None, description="Fewest pods under strategy Metrics. When absent: 1."
    )
    max_replicas: Annotated[int, Field(ge=1, le=10000)] | None = Field(
        None, description="Most pods under strategy Metrics. When absent: minReplicas, that is, no scaling."
    )
    metrics: Annotated[tuple[MetricSpec, ...], Field(min_length=1, max_length=16)] | None = Field(
        None,
        description="Metrics of the HorizontalPodAutoscaler (autoscaling/v2). When absent: CPU of the Triton container"
        " at 70 % of its request.",
    )
    behavior: ScalingBehavior | None = Field(
        None, description="Pace of scaling up and down (autoscaling/v2). When absent: the Kubernetes default."
    )
    rules = (
        Rule(
            cel="!has(self.replicas) || (has(self.strategy) && self.strategy == 'Manual')",
            message="scaling.replicas is for strategy Manual: set strategy Manual, or use minReplicas and maxReplicas",
            holds=lambda it: it.replicas is None or it.strategy is Strategy.MANUAL,
        ),
        Rule(
            cel="!has(self.strategy) || self.strategy != 'Manual' || (!has(self.minReplicas) && !has(self.maxReplicas)"
            " && !has(self.metrics) && !has(self.behavior))",
            message="strategy Manual takes only scaling.replicas: remove minReplicas, maxReplicas, metrics, behavior",
            holds=lambda it: (
                it.strategy is not Strategy.MANUAL
                or all(value is None for value in (it.min_replicas, it.max_replicas, it.metrics, it.behavior))
            ),
        ),
        Rule(
            cel="!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
            message="scaling.minReplicas is above scaling.maxReplicas: lower it or raise maxReplicas",
            holds=lambda it: it.min_replicas is None or it.max_replicas is None or it.min_replicas <= it.max_replicas,
        ),
    )


class Spec(Section):
    """What a ModelService asks for."""

    models: Annotated[tuple[Model, ...], Field(min_length=1, max_length=200), Keyed(("name",))] = Field(
        description="The models that every pod serves, 1 to 200, told apart by name."
    )
    runtime: Runtime | None = Field(None, description="How the Triton server runs. When absent: see its fields.")
    endpoint: Endpoint | None = Field(None, description="How clients reach it. When absent: see its fields.")
    scaling: Scaling | None = Field(None, description="How many pods. When absent: one, no scaling.")
    suspend: bool | None = Field(
        None,
        description="true: Nereus stops changing anything of this service; objects and pods stay as they are.",
    )
