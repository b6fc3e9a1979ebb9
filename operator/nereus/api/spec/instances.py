"""`spec.models[].instances`: how often a model runs in one server, and what they share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from nereus.api.rules import Keyed, matching
from nereus.api.spec.section import Section


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
        matching(
            RESOURCE_NAME_PATTERN, "a resource name is made of letters, digits, '-', '_' and '.': choose such a name"
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
