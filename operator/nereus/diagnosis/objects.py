"""Kubernetes objects as typed values: pods with their containers, the Deployment, the autoscaler.

Why here: the checks are sentences about these values and nothing else, so that each can be tested with a literal.
Every `read` survives any object: what is missing or of the wrong type reads as empty, zero or None. Deliberately
judges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from nereus.api import names
from nereus.diagnosis.reading import instant, items, mapping, number, text

Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One condition of a Kubernetes object. `since` is when its status last changed."""

    type: str
    status: str = ""
    reason: str = ""
    message: str = ""
    since: datetime | None = None

    @property
    def is_true(self) -> bool:
        return self.status == "True"

    @property
    def is_false(self) -> bool:
        return self.status == "False"


def facts(status: Json) -> dict[str, Fact]:
    """The conditions of a status by type; the last one of a type wins."""
    return {
        text(item.get("type")): Fact(
            type=text(item.get("type")),
            status=text(item.get("status")),
            reason=text(item.get("reason")),
            message=text(item.get("message")),
            since=instant(item.get("lastTransitionTime")),
        )
        for item in items(status.get("conditions"))
    }


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a container ended. `message` is its termination message: the last lines of its log when it failed."""

    exit_code: int
    reason: str = ""
    message: str = ""
    finished_at: datetime | None = None

    @classmethod
    def read(cls, state: Json) -> Ended | None:
        ended = state.get("terminated")
        if not isinstance(ended, Mapping):
            return None
        return cls(
            exit_code=number(ended.get("exitCode")),
            reason=text(ended.get("reason")),
            message=text(ended.get("message")),
            finished_at=instant(ended.get("finishedAt")),
        )

    @property
    def out_of_memory(self) -> bool:
        return self.reason == "OOMKilled"

    @property
    def failed(self) -> bool:
        return self.exit_code != 0 or self.out_of_memory


@dataclass(frozen=True, kw_only=True)
class Container:
    """One container of a pod; `init` is true for init containers, the sidecar among them."""

    name: str
    init: bool = False
    image: str = ""
    memory_limit: str = ""
    waiting: bool = False
    waiting_reason: str = ""
    waiting_message: str = ""
    started_at: datetime | None = None
    ready: bool = False
    restarts: int = 0
    ended: Ended | None = None
    ended_before: Ended | None = None

    @classmethod
    def read(cls, status: Json, *, spec: Json, init: bool) -> Container:
        state = mapping(status.get("state"))
        waiting = mapping(state.get("waiting"))
        limits = mapping(mapping(spec.get("resources")).get("limits"))
        return cls(
            name=text(status.get("name")),
            init=init,
            image=text(spec.get("image")) or text(status.get("image")),
            memory_limit=str(limits.get("memory") or ""),
            waiting="waiting" in state,
            waiting_reason=text(waiting.get("reason")),
            waiting_message=text(waiting.get("message")),
            started_at=instant(mapping(state.get("running")).get("startedAt")),
            ready=status.get("ready") is True,
            restarts=number(status.get("restartCount")),
            ended=Ended.read(state),
            ended_before=Ended.read(mapping(status.get("lastState"))),
        )

    @property
    def running(self) -> bool:
        return self.started_at is not None


@dataclass(frozen=True, kw_only=True)
class Pod:
    """One pod. `template_hash` tells the pods of one ReplicaSet from those of another."""

    name: str
    uid: str = ""
    created_at: datetime | None = None
    deleting: bool = False
    template_hash: str = ""
    node: str = ""
    scheduler: str = ""
    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: Mapping[str, Fact] = field(default_factory=dict)
    containers: tuple[Container, ...] = ()

    @classmethod
    def read(cls, manifest: object) -> Pod:
        pod = mapping(manifest)
        metadata, spec, status = (mapping(pod.get(part)) for part in ("metadata", "spec", "status"))
        containers = []
        for init, specs, statuses in (
            (True, "initContainers", "initContainerStatuses"),
            (False, "containers", "containerStatuses"),
        ):
            by_name = {text(item.get("name")): item for item in items(spec.get(specs))}
            containers += [
                Container.read(item, spec=by_name.get(text(item.get("name")), {}), init=init)
                for item in items(status.get(statuses))
            ]
        return cls(
            name=text(metadata.get("name")),
            uid=text(metadata.get("uid")),
            created_at=instant(metadata.get("creationTimestamp")),
            deleting=bool(metadata.get("deletionTimestamp")),
            template_hash=text(mapping(metadata.get("labels")).get("pod-template-hash")),
            node=text(spec.get("nodeName")),
            scheduler=text(spec.get("schedulerName")),
            phase=text(status.get("phase")),
            reason=text(status.get("reason")),
            message=text(status.get("message")),
            conditions=facts(status),
            containers=tuple(containers),
        )

    def condition(self, kind: str) -> Fact:
        return self.conditions.get(kind) or Fact(type=kind)

    def container(self, name: str) -> Container | None:
        return next((container for container in self.containers if container.name == name), None)

    @property
    def sidecar(self) -> Container | None:
        return self.container(names.CONTAINER_SIDECAR)

    @property
    def server(self) -> Container | None:
        return self.container(names.CONTAINER_TRITON)

    @property
    def finished(self) -> bool:
        """Ended for good (evicted, refused by the kubelet): kept as a record, replaced by its ReplicaSet."""
        return self.phase in ("Failed", "Succeeded")

    @property
    def live(self) -> bool:
        return not self.deleting and not self.finished

    @property
    def ready(self) -> bool:
        return self.condition("Ready").is_true

    @property
    def scheduled_at(self) -> datetime | None:
        fact = self.condition("PodScheduled")
        return fact.since if fact.is_true else None

    @property
    def unready_since(self) -> datetime | None:
        """When a pod that is not ready stopped being ready, or was created if it never was."""
        fact = self.condition("Ready")
        return None if fact.is_true else fact.since or self.created_at


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """The Deployment: what it was told (`replicas`, `generation`) and how far it has come."""

    name: str = ""
    image: str = ""
    replicas: int = 1
    generation: int = 0
    observed_generation: int = 0
    total: int = 0
    updated: int = 0
    ready: int = 0
    available: int = 0
    conditions: Mapping[str, Fact] = field(default_factory=dict)

    @classmethod
    def read(cls, manifest: object) -> Deployment:
        deployment = mapping(manifest)
        metadata, spec, status = (mapping(deployment.get(part)) for part in ("metadata", "spec", "status"))
        pod_spec = mapping(mapping(spec.get("template")).get("spec"))
        images = {text(item.get("name")): text(item.get("image")) for item in items(pod_spec.get("containers"))}
        return cls(
            name=text(metadata.get("name")),
            image=images.get(names.CONTAINER_TRITON, ""),
            replicas=number(spec.get("replicas"), 1),
            generation=number(metadata.get("generation")),
            observed_generation=number(status.get("observedGeneration")),
            total=number(status.get("replicas")),
            updated=number(status.get("updatedReplicas")),
            ready=number(status.get("readyReplicas")),
            available=number(status.get("availableReplicas")),
            conditions=facts(status),
        )

    @property
    def observed(self) -> bool:
        """Whether the numbers below are about what the Deployment was last told."""
        return self.observed_generation >= self.generation

    def condition(self, kind: str) -> Fact:
        return self.conditions.get(kind) or Fact(type=kind)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric of an autoscaler, as text with its unit; `current` is empty while it is unknown."""

    name: str
    current: str
    target: str

    def __str__(self) -> str:
        return f"{self.name} {self.current or 'unknown'} of {self.target or 'unknown'}"


@dataclass(frozen=True, kw_only=True)
class Autoscaler:
    """The HorizontalPodAutoscaler: its bounds, its last decision, what it reads."""

    name: str = ""
    created_at: datetime | None = None
    min_replicas: int = 1
    max_replicas: int = 0
    current: int = 0
    desired: int = 0
    last_scale: datetime | None = None
    conditions: Mapping[str, Fact] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()

    @classmethod
    def read(cls, manifest: object) -> Autoscaler:
        autoscaler = mapping(manifest)
        metadata, spec, status = (mapping(autoscaler.get(part)) for part in ("metadata", "spec", "status"))
        measured = {_metric_key(item): item for item in items(status.get("currentMetrics"))}
        return cls(
            name=text(metadata.get("name")),
            created_at=instant(metadata.get("creationTimestamp")),
            min_replicas=number(spec.get("minReplicas"), 1),
            max_replicas=number(spec.get("maxReplicas")),
            current=number(status.get("currentReplicas")),
            desired=number(status.get("desiredReplicas")),
            last_scale=instant(status.get("lastScaleTime")),
            conditions=facts(status),
            metrics=tuple(
                Metric(
                    name=" ".join(part for part in _metric_key(item)[1:] if part),
                    current=_amount(mapping(_metric_body(measured.get(_metric_key(item), {})).get("current"))),
                    target=_amount(mapping(_metric_body(item).get("target"))),
                )
                for item in items(spec.get("metrics"))
            ),
        )

    def condition(self, kind: str) -> Fact:
        return self.conditions.get(kind) or Fact(type=kind)


def _metric_body(metric: Json) -> Json:
    kind = text(metric.get("type"))
    return mapping(metric.get(kind[:1].lower() + kind[1:]))


def _metric_key(metric: Json) -> tuple[str, ...]:
    """(type, name, further words that tell two metrics of one name apart)."""
    body = _metric_body(metric)
    name = text(body.get("name")) or text(mapping(body.get("metric")).get("name"))
    described = mapping(body.get("describedObject"))
    place = f"{text(described.get('kind'))}/{text(described.get('name'))}" if described else ""
    return text(metric.get("type")), name, place


def _amount(value: Json) -> str:
    """A current value or a target of autoscaling/v2 as text."""
    if isinstance(value.get("averageUtilization"), int):
        return f"{value['averageUtilization']}%"
    if value.get("averageValue"):
        return f"{value['averageValue']} per pod"
    return str(value.get("value") or "")
