"""What the operator answers: the status of a ModelService, typed, with the manual of every field.

It answers two questions by itself: why is it not ready, and why are there N pods. Written whole each time.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from nereus.api.rules import Keyed
from nereus.api.spec.section import Section

Number = Annotated[float, Field(ge=0)]


class ModelStatus(Section):
    """One model over all pods."""

    name: Annotated[str, Field(max_length=128)] = Field(description="Name of the model.")
    state: Annotated[str, Field(max_length=64)] = Field(
        description="The least advanced state over all pods: Pending, Fetching, FetchFailed, ConfigInvalid, Fetched,"
        " Loading, LoadFailed, Ready; Unknown when no pod has reported."
    )
    ready: Annotated[str, Field(max_length=32)] = Field(description="Pods that serve it, of all pods, e.g. 2/3.")
    versions: Annotated[tuple[Annotated[str, Field(max_length=32)], ...], Field(max_length=64)] | None = Field(
        None, description="Versions that are served."
    )
    reason: Annotated[str, Field(max_length=1024)] | None = Field(
        None, description="Why it is not ready, in the words of the source or of Triton."
    )
    load_seconds: Number | None = Field(None, description="Longest load over the pods, warm-up included, in seconds.")


class ReasonStatus(Section):
    """One group of pods with the same trouble."""

    reason: Annotated[str, Field(max_length=64)] = Field(description="CamelCase word, see docs/status.md.")
    count: Annotated[int, Field(ge=1)] = Field(description="How many pods (or objects) it concerns.")
    message: Annotated[str, Field(max_length=2048)] = Field(description="What was seen, and an example pod.")


class Resolved(Section):
    """What was taken where the spec says nothing; stays until the spec changes it."""

    strategy: Annotated[str, Field(max_length=32)] | None = Field(None, description="Scaling strategy in effect.")
    image: Annotated[str, Field(max_length=512)] | None = Field(None, description="Triton image of the pod template.")
    min_replicas: int | None = Field(None, description="Fewest pods in effect.")
    max_replicas: int | None = Field(None, description="Most pods in effect.")


class Phases(Section):
    """Median seconds of each phase of a pod's start."""

    schedule: Number | None = Field(None, description="From the pod's creation to its node.")
    pull: Number | None = Field(None, description="Image pulls and container creation.")
    fetch: Number | None = Field(None, description="Model files, from the sidecar's start.")
    start: Number | None = Field(None, description="Triton's own start.")
    load: Number | None = Field(None, description="Loading all models, warm-up included.")


class ColdStart(Section):
    """How long new pods took, from creation to ready, over the latest starts of this template."""

    samples: Annotated[int, Field(ge=0)] = Field(description="Number of starts measured.")
    p50: Number | None = Field(None, description="Median, in seconds.")
    p95: Number | None = Field(None, description="95th percentile, in seconds.")
    phases: Phases | None = Field(None, description="Median of each phase, in seconds.")


class DecisionStatus(Section):
    """One decision of the past."""

    at: Annotated[str, Field(max_length=64)] = Field(description="When it was made.")
    id: Annotated[str, Field(max_length=64)] = Field(description="Its name in the operator's log.")
    message: Annotated[str, Field(max_length=1024)] = Field(description="What was changed and why.")


class ScalingStatus(Section):
    """Why there are as many pods as there are. Loads are in pods: 2.5 is what two and a half pods sustain."""

    load: Number | None = Field(None, description="Load now, in pods.")
    capacity: Number | None = Field(
        None, description="Inferences per second that one pod sustains within the objective."
    )
    reactive: int | None = Field(None, description="Pods that the present load alone asks for.")
    forecast: Number | None = Field(
        None, description="Upper bound (95 %) of the load until horizonSeconds from now, in pods."
    )
    floor: int | None = Field(None, description="Fewest pods that the autoscaler may have now: what Nereus decided.")
    desired: int | None = Field(None, description="Pods wanted now.")
    limited_by: Annotated[str, Field(max_length=64)] | None = Field(
        None,
        description="What held the decision: Nothing, MinReplicas, MaxReplicas, Schedule, GPULimit"
        " (scaling.limits.gpus), PendingReplicas (pods that find no node) or UnknownLoad.",
    )
    horizon_seconds: Number | None = Field(None, description="How far ahead is forecast, in seconds.")
    forecast_error: Number | None = Field(
        None, description="Mean absolute error of past forecasts, relative to the load."
    )
    message: Annotated[str, Field(max_length=2048)] | None = Field(
        None, description="Who decided it, in a sentence, in the autoscaler's words where it decided."
    )
    metrics: Annotated[tuple[Annotated[str, Field(max_length=256)], ...], Field(max_length=16)] | None = Field(
        None, description="Current value and target of each metric, e.g. cpu 43% of 70%."
    )
    history: Annotated[tuple[DecisionStatus, ...], Field(max_length=10)] | None = Field(
        None, description="The last changes of the floor, the newest first."
    )


class TemplateStatus(Section):
    """The pod template in use."""

    revision: Annotated[str, Field(max_length=253)] | None = Field(
        None, description="ControllerRevision that stores it."
    )
    hash: Annotated[str, Field(max_length=64)] | None = Field(None, description="Digest of the template.")
    pending: Annotated[str, Field(max_length=2048)] | None = Field(
        None,
        description="What this release of Nereus would change in the template. Pods are left alone until the spec"
        " changes or the annotation serving.nereus.dev/rollout gets a new value.",
    )


class PlanStatus(Section):
    """What the pods serve: the models and their settings as one revision, and how a change of it gets on."""

    revision: Annotated[str, Field(max_length=64)] = Field(
        description="Revision that every pod runs that tries no other, also a pod that starts now."
    )
    next: Annotated[str, Field(max_length=64)] | None = Field(
        None, description="Revision that is tried by one pod, or by the pods of a new template, before all get it."
    )
    message: Annotated[str, Field(max_length=1024)] | None = Field(
        None, description="Who tries it, and what it waits for."
    )
    kept: Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=10)] | None = Field(
        None,
        description="Former revisions, the newest first. The annotation serving.nereus.dev/rollback-to with one of them"
        " brings it back.",
    )


class GpuStatus(Section):
    """What keeps the pods within their GPU memory, and what was seen of it."""

    mechanism: Annotated[str, Field(max_length=32)] = Field(
        description="What was chosen: Exclusive, MIG, DriverLimit, MPS, HAMi or None."
    )
    enforcement: Annotated[str, Field(max_length=16)] = Field(
        description="Hard: hardware or driver refuse. Soft: refused unless a process escapes. None: nothing refuses."
    )
    requested: Annotated[str, Field(max_length=32)] | None = Field(None, description="spec.gpu.memory.")
    effective_limit: Annotated[str, Field(max_length=32)] | None = Field(
        None, description="The limit really in effect, e.g. the size of the slice; absent when there is none."
    )
    observed_peak: Annotated[str, Field(max_length=32)] | None = Field(
        None, description="The most that one pod was seen to use, by the GPU agents, rounded."
    )
    memory: Annotated[str, Field(max_length=64)] | None = Field(
        None, description="Observed peak / limit in effect, for the column GPUMEM."
    )
    simulated: bool | None = Field(None, description="true: the numbers come from simulated GPUs.")
    pending: Annotated[str, Field(max_length=1024)] | None = Field(
        None, description="A better isolation that the nodes offer by now. Nothing moves to it unasked."
    )
    message: Annotated[str, Field(max_length=2048)] | None = Field(
        None, description="What was chosen and why not the others, what escapes it, and how rollouts are affected."
    )


class ConditionStatus(Section):
    """One statement, as Kubernetes conventions have it."""

    type: Annotated[str, Field(max_length=64)] = Field(description="What the statement is about.")
    status: Annotated[str, Field(pattern="^(True|False|Unknown)$")] = Field(description="True, False or Unknown.")
    observed_generation: int | None = Field(None, description="Generation of the resource it was made from.")
    last_transition_time: Annotated[str, Field(max_length=64)] = Field(description="When status last changed.")
    reason: Annotated[str, Field(max_length=64)] = Field(description="CamelCase word, see docs/status.md.")
    message: Annotated[str, Field(max_length=4096)] = Field(description="A sentence that a person can act on.")


class Status(Section):
    """What is, and why."""

    observed_generation: int | None = Field(None, description="Generation of the resource that this status is about.")
    conditions: Annotated[tuple[ConditionStatus, ...], Field(max_length=16), Keyed(("type",))] | None = Field(
        None,
        description="Ready, Progressing, ModelsLoaded, ScalingActive, AlertsInstalled; MetricsAvailable and"
        " ForecastTrusted where Nereus decides; GPUMemoryEnforced where gpu.memory is set; Stalled while it is true.",
    )
    url: Annotated[str, Field(max_length=512)] | None = Field(
        None, description="Where clients in the cluster send HTTP inference requests."
    )
    replicas: Annotated[str, Field(max_length=32)] | None = Field(None, description="Ready pods / wanted pods.")
    current_replicas: int | None = Field(None, description="Pods that exist (for the scale subresource).")
    selector: Annotated[str, Field(max_length=512)] | None = Field(
        None, description="Label selector of the pods (for the scale subresource)."
    )
    models: Annotated[tuple[ModelStatus, ...], Field(max_length=200), Keyed(("name",))] | None = Field(
        None, description="Every declared model."
    )
    reasons: Annotated[tuple[ReasonStatus, ...], Field(max_length=10)] | None = Field(
        None, description="What is wrong or under way, over all pods, grouped, the most important first."
    )
    resolved: Resolved | None = Field(None, description="What was taken where the spec says nothing.")
    scaling: ScalingStatus | None = Field(None, description="Why there are as many pods as there are.")
    cold_start: ColdStart | None = Field(None, description="How long new pods take.")
    gpu: GpuStatus | None = Field(None, description="The GPU of the pods, where spec.gpu asks for one.")
    template: TemplateStatus | None = Field(None, description="The pod template in use.")
    plan: PlanStatus | None = Field(None, description="The models and settings in use, and a change on its way.")


def to_json(status: Status) -> dict[str, Any]:
    """The status as the API server stores it; absent fields are left out."""
    return status.model_dump(by_alias=True, exclude_none=True, mode="json")
