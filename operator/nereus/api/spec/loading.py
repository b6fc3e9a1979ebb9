"""`spec.models[].load`: when a model is loaded, how long that may take, and whether a pod may serve without it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from nereus.api.spec.section import Section
from nereus.api.values import Duration, Within


class Load(Section):
    """How a model is loaded into a pod."""

    order: Annotated[int, Field(ge=0, le=1000)] | None = Field(
        None,
        description="Models with a smaller number are loaded before those with a larger one, in a starting pod and in"
        " a running one; those with the same number at the same time, as many as runtime.loadThreads says. One that"
        " cannot be fetched or loaded holds up no other. An ensemble may not come before its steps. When absent: 0.",
    )
    timeout: Annotated[Duration, Within("1s", "24h")] | None = Field(
        None,
        description="How long one load may take. After that the model counts as not loaded, the status says so, and"
        " the next models are loaded. Triton cannot stop a load that has begun: when it ends well later, the model is"
        " served. When absent: no limit.",
    )
    optional: bool | None = Field(
        None,
        description="true: a starting pod takes requests for the other models also when this one cannot be fetched or"
        " loaded (within timeout); the status names it all the same, and it is tried again. When absent: a new pod"
        " takes no requests before it serves this model.",
    )
