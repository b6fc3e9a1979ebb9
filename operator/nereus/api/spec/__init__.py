"""What a user writes: the spec of a ModelService, typed, with the manual of every field.

The descriptions are the manual (`kubectl explain msvc.spec`): each says what the field does, in which unit, and
what happens when it is absent. Schema bounds stand on the fields; rules over several fields stand on the class
(`rules`, see nereus.api.rules), refused by the API server with a sentence that names the remedy.

No field has a schema default: absent means automatic, resolved when rendered, so that a later release cannot
change what a stored object means.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from nereus.api.rules import Keyed, Rule
from nereus.api.spec.alerts import Alerts
from nereus.api.spec.endpoint import Endpoint
from nereus.api.spec.gpu import Gpu
from nereus.api.spec.model import Model, Repository
from nereus.api.spec.runtime import Runtime
from nereus.api.spec.scaling import Scaling
from nereus.api.spec.section import Section


class Spec(Section):
    """What a ModelService asks for."""

    models: Annotated[tuple[Model, ...], Field(min_length=1, max_length=200), Keyed(("name",))] | None = Field(
        None,
        description="The models that every pod serves, 1 to 200, told apart by name. When absent: those of"
        " `repository`.",
    )
    repository: Repository | None = Field(
        None,
        description="An existing Triton model repository: one directory per model, with its config.pbtxt and numbered"
        " versions. Every model in it is served as its own configuration says. Models that are added to or removed"
        " from a claim are noticed; elsewhere a changed uri, revision or checksum fetches anew. Exactly one of models"
        " and repository. When absent: models.",
    )
    runtime: Runtime | None = Field(None, description="How the Triton server runs. When absent: see its fields.")
    gpu: Gpu | None = Field(None, description="The GPU of each pod. When absent: none, unless runtime.resources asks.")
    endpoint: Endpoint | None = Field(None, description="How clients reach it. When absent: see its fields.")
    scaling: Scaling | None = Field(None, description="How many pods. When absent: one, no scaling.")
    alerts: Alerts | None = Field(
        None,
        description="From when on the service is in trouble. When absent: see its fields; the alerts are there anyway"
        " where the cluster has prometheus-operator.",
    )
    suspend: bool | None = Field(
        None,
        description="true: Nereus stops changing anything of this service; objects and pods stay as they are.",
    )
    rules = (
        Rule(
            cel="has(self.models) != has(self.repository)",
            message="exactly one of models and repository is required: set models, or keep one of them",
            holds=lambda it: (it.models is None) != (it.repository is None),
        ),
        Rule(
            cel="!has(self.scaling) || !has(self.scaling.limits) || has(self.gpu)",
            message="scaling.limits.gpus counts the GPUs of spec.gpu, which is absent: add gpu, or remove"
            " scaling.limits",
            holds=lambda it: it.scaling is None or it.scaling.limits is None or it.gpu is not None,
        ),
        Rule(
            cel="!has(self.scaling) || !has(self.scaling.limits) ||"
            " (has(self.scaling.minReplicas) ? self.scaling.minReplicas : 1)"
            " * (has(self.gpu) && has(self.gpu.count) ? self.gpu.count : 1) <= self.scaling.limits.gpus",
            message="scaling.limits.gpus is less than scaling.minReplicas pods of gpu.count GPUs take: raise it, or"
            " lower scaling.minReplicas",
            holds=lambda it: (
                it.scaling is None
                or it.scaling.limits is None
                or (it.scaling.min_replicas or 1) * ((it.gpu.count if it.gpu else None) or 1) <= it.scaling.limits.gpus
            ),
        ),
    )
