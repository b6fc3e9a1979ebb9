"""`spec.gpu`: which part of a GPU each pod gets, and what holds it there."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from nereus.api.rules import Rule
from nereus.api.spec.section import Section
from nereus.api.values import Quantity


class Isolation(StrEnum):
    """How a pod is kept within its GPU memory."""

    AUTO = "Auto"
    EXCLUSIVE = "Exclusive"
    MIG = "MIG"
    DRIVER_LIMIT = "DriverLimit"
    MPS = "MPS"
    HAMI = "HAMi"
    NONE = "None"


class OnExceed(StrEnum):
    """What happens to a pod that stays above its limit where nothing holds it."""

    ALERT = "Alert"
    EVICT = "Evict"


NEED_MEMORY = (Isolation.MIG, Isolation.DRIVER_LIMIT, Isolation.HAMI)
WHOLE = (None, Isolation.AUTO, Isolation.EXCLUSIVE)


class Gpu(Section):
    """The GPU of each pod."""

    count: Annotated[int, Field(ge=1, le=16)] | None = Field(
        None, description="GPUs of each pod; more than one are always whole ones. When absent: 1."
    )
    memory: Quantity | None = Field(
        None,
        description="GPU memory that each pod may use at most, at least 1Gi, e.g. 8Gi. status.gpu says which limit is"
        " really in effect and what enforces it. When absent: no limit is asked for, and Auto takes a whole GPU.",
    )
    isolation: Isolation | None = Field(
        None,
        description="What keeps a pod within its memory. Exclusive: a whole GPU. MIG: a hardware slice. DriverLimit: a"
        " limit in the driver (615 or later). MPS: a share of NVIDIA's MPS. HAMi: a library in the process. None: a"
        " time-slicing share that nothing limits. When absent: Auto, the strongest that the nodes offer, with the"
        " least waste; chosen once and kept until spec.gpu changes or a rollout is asked for.",
    )
    product: Annotated[str, Field(min_length=1, max_length=63)] | None = Field(
        None,
        description="GPU model, as in the node label nvidia.com/gpu.product without -SHARED or -MIG-..., e.g."
        " NVIDIA-H100-80GB-HBM3. When absent: any.",
    )
    on_exceed: OnExceed | None = Field(
        None,
        description="What happens to a pod that stays above `memory` where the isolation does not hold it (Soft or"
        " None). Alert: it is reported. Evict: after a while (30 s, chart value gpu.evictAfterSeconds) it is evicted,"
        " one pod at a time, never against the disruption budget; needs the GPU agent. When absent: Alert.",
    )
    rules = (
        Rule(
            cel="!has(self.memory) || !has(self.count) || self.count == 1",
            message="gpu.memory limits a part of one GPU, and gpu.count above 1 means whole GPUs: remove gpu.memory, or"
            " set gpu.count to 1",
            holds=lambda it: it.memory is None or it.count in (None, 1),
        ),
        Rule(
            cel="!has(self.count) || self.count == 1 || !has(self.isolation)"
            " || self.isolation in ['Auto', 'Exclusive']",
            message="gpu.isolation shares one GPU, and gpu.count is above 1: set gpu.isolation to Exclusive, or"
            " gpu.count to 1",
            holds=lambda it: it.count in (None, 1) or it.isolation in WHOLE,
        ),
        Rule(
            cel="has(self.memory) || !has(self.isolation) || !(self.isolation in ['MIG', 'DriverLimit', 'HAMi'])",
            message="gpu.isolation MIG, DriverLimit and HAMi need gpu.memory to know how much: set e.g. memory: 8Gi",
            holds=lambda it: it.memory is not None or it.isolation not in NEED_MEMORY,
        ),
        Rule(
            cel="has(self.memory) || !has(self.onExceed)",
            message="gpu.onExceed is about gpu.memory, which is absent: add e.g. memory: 8Gi, or remove onExceed",
            holds=lambda it: it.memory is not None or it.on_exceed is None,
        ),
    )
