"""`spec.models[].batching`: how requests become batches, and how sequences stay together."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from nereus.api.rules import Keyed, Rule, matching
from nereus.api.spec.section import Section
from nereus.api.spec.tensors import DataType
from nereus.api.values import Duration, Within


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
            matching(PERCENT_PATTERN, "is not a share of 0% to 100%: write e.g. 50%"),
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
