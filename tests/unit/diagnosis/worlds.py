"""Observed objects as Kubernetes 1.35 writes them, and the scenarios that every property of a status is held against.

A builder for each kind with the fields that the kubelet, the scheduler and the controllers fill in; a scenario is a
world with what a person must read out of it. Deliberately literal: a status text here is what the real part says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from nereus.api.protocol import ModelReport, ModelState, PodReport
from nereus.api.reasons import Reason
from nereus.api.service import ModelService, read
from nereus.diagnosis import ApplyFailure, TemplateInUse, World

Json = dict[str, Any]

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
REVISION = "5f2d7c0a91b34e68"
TEMPLATE = TemplateInUse(revision="resnet-1f6c2a9be0", hash="1f6c2a9be0")
IMAGE = "registry.example/tritonserver:24.10-py3"
SIDECAR_IMAGE = "nereus-sidecar:0.1.0"


def at(seconds: float) -> str:
    """A time, counted from NOW, as Kubernetes writes it."""
    return (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def unix(seconds: float) -> float:
    """The same as Unix seconds, as a sidecar writes it."""
    return (NOW + timedelta(seconds=seconds)).timestamp()


def service(*, models: int = 1, source: str = "https://models.example/resnet.tar.gz", **spec: Any) -> ModelService:
    """A service with models `resnet`, `resnet-1`, ..."""
    names = ["resnet"] + [f"resnet-{index}" for index in range(1, models)]
    return read(
        {
            "metadata": {"name": "resnet", "namespace": "demo", "uid": "7c9e", "generation": 3},
            "spec": spec
            if "repository" in spec
            else {"models": [{"name": name, "source": {"uri": source}} for name in names], **spec},
        }
    )


def condition(kind: str, status: str, *, reason: str = "", message: str = "", since: float = -300) -> Json:
    entry = {"type": kind, "status": status, "lastProbeTime": None, "lastTransitionTime": at(since)}
    return {**entry, **({"reason": reason} if reason else {}), **({"message": message} if message else {})}


def running(since: float = -290) -> Json:
    return {"running": {"startedAt": at(since)}}


def waiting(reason: str, message: str = "") -> Json:
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def terminated(code: int, *, reason: str = "Error", message: str = "", finished: float = -20) -> Json:
    ended = {"exitCode": code, "reason": reason, "startedAt": at(finished - 5), "finishedAt": at(finished)}
    return {"terminated": {**ended, **({"message": message} if message else {}), "containerID": "containerd://9d1c"}}


def pod(
    name: str = "resnet-6d5f9c7b8d-x2k4p",
    *,
    created: float = -300,
    template: str = "6d5f9c7b8d",
    scheduled: Json | None = None,
    node: str = "node-a",
    ready: bool = False,
    ready_since: float = -240,
    sandbox: bool = True,
    sidecar: Json | None = None,
    server: Json | None = None,
    sidecar_more: Json | None = None,
    server_more: Json | None = None,
    limits: Json | None = None,
    phase: str = "",
    deleting: bool = False,
    **status: Any,
) -> Json:
    """A pod; without states its containers wait as they do before the first one starts."""
    placed = scheduled is None
    conditions = [
        condition("PodReadyToStartContainers", "True" if sandbox and placed else "False", since=created + 2),
        condition("Initialized", "True" if sidecar and "running" in sidecar else "False", since=created + 3),
        condition(
            "Ready",
            "True" if ready else "False",
            reason="" if ready else "ContainersNotReady",
            message="" if ready else "containers with unready status: [triton]",
            since=ready_since if ready else created,
        ),
        scheduled or condition("PodScheduled", "True", since=created + 1),
    ]
    sidecar_state = sidecar or waiting("PodInitializing")
    server_state = server or waiting("PodInitializing")
    containers = {
        "initContainerStatuses": [
            {
                "name": "sidecar",
                "image": SIDECAR_IMAGE,
                "state": sidecar_state,
                "lastState": {},
                "ready": ready,
                "started": "running" in sidecar_state,
                "restartCount": 0,
                **(sidecar_more or {}),
            }
        ],
        "containerStatuses": [
            {
                "name": "triton",
                "image": IMAGE,
                "state": server_state,
                "lastState": {},
                "ready": "running" in server_state,
                "started": "running" in server_state,
                "restartCount": 0,
                **(server_more or {}),
            }
        ],
    }
    metadata = {
        "name": name,
        "namespace": "demo",
        "uid": f"uid-{name}",
        "creationTimestamp": at(created),
        "labels": {"app.kubernetes.io/instance": "resnet", "pod-template-hash": template},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**metadata, **({"deletionTimestamp": at(-1)} if deleting else {})},
        "spec": {
            **({"nodeName": node} if placed else {}),
            "initContainers": [{"name": "sidecar", "image": SIDECAR_IMAGE, "restartPolicy": "Always"}],
            "containers": [{"name": "triton", "image": IMAGE, "resources": {"limits": limits or {}}}],
        },
        "status": {
            "phase": phase or ("Running" if server and "running" in server else "Pending"),
            "conditions": conditions,
            **(containers if placed else {}),
            **status,
        },
    }


def serving_pod(name: str = "resnet-6d5f9c7b8d-x2k4p", **more: Any) -> Json:
    return pod(name, **{"ready": True, "sidecar": running(-290), "server": running(-280), **more})


def unscheduled(message: str, *, since: float = -30, **more: Any) -> Json:
    verdict = condition("PodScheduled", "False", reason="Unschedulable", message=message, since=since)
    return pod(created=since, scheduled=verdict, **more)


def report(*models: ModelReport, revision: str = REVISION, **more: Any) -> PodReport:
    """What a sidecar says; without models, that the one model is loaded."""
    loaded = ModelReport(name="resnet", state=ModelState.READY, serving=True, versions=("1",), load_seconds=1.25)
    every = models or (loaded,)
    ready = all(model.state is ModelState.READY for model in every)
    fields: Json = {"ready": ready, "server_live": True, "started_at": unix(-289), "fetched_at": unix(-284)}
    fields |= {"server_live_at": unix(-270), "ready_at": unix(-241) if ready else None}
    return PodReport(revision=revision, models=every, **{**fields, **more})


def model(state: ModelState, message: str = "", *, name: str = "resnet", **more: Any) -> ModelReport:
    return ModelReport(name=name, state=state, message=message, **more)


def deployment(
    replicas: int = 1,
    *,
    total: int | None = None,
    updated: int | None = None,
    ready: int = 0,
    generation: int = 2,
    observed: int = 2,
    conditions: list[Json] | None = None,
) -> Json:
    total = replicas if total is None else total
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "resnet", "namespace": "demo", "generation": generation},
        "spec": {
            "replicas": replicas,
            "template": {"spec": {"containers": [{"name": "triton", "image": IMAGE}]}},
        },
        "status": {
            "observedGeneration": observed,
            "replicas": total,
            "updatedReplicas": total if updated is None else updated,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "conditions": conditions or [],
        },
    }


def autoscaler(
    *,
    created: float = -3600,
    low: int = 1,
    high: int = 5,
    desired: int = 1,
    current: int = 1,
    cpu: int | None = 43,
    conditions: list[Json] | None = None,
) -> Json:
    target = {"name": "cpu", "container": "triton", "target": {"type": "Utilization", "averageUtilization": 70}}
    seen = {"name": "cpu", "container": "triton", "current": {"averageUtilization": cpu, "averageValue": "430m"}}
    sees = [
        condition("AbleToScale", "True", reason="ReadyForNewScale", message="recommended size matches current size"),
        condition(
            "ScalingActive",
            "True",
            reason="ValidMetricFound",
            message="the HPA was able to successfully calculate a replica count from cpu container resource"
            " utilization (percentage of request)",
        ),
        condition(
            "ScalingLimited",
            "False",
            reason="DesiredWithinRange",
            message="the desired count is within the acceptable range",
        ),
    ]
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "resnet", "namespace": "demo", "creationTimestamp": at(created)},
        "spec": {
            "minReplicas": low,
            "maxReplicas": high,
            "metrics": [{"type": "ContainerResource", "containerResource": target}],
        },
        "status": {
            "currentReplicas": current,
            "desiredReplicas": desired,
            "currentMetrics": [] if cpu is None else [{"type": "ContainerResource", "containerResource": seen}],
            "conditions": sees if conditions is None else conditions,
        },
    }


def world(
    pods: list[Json] | None = None,
    reports: Sequence[PodReport | None] = (),
    *,
    of: ModelService | None = None,
    told: Json | None = None,
    hpa: Json | None = None,
    warnings: dict[str, str] | None = None,
    apply_failures: tuple[ApplyFailure, ...] = (),
) -> World:
    """The world of a service; the reports belong to the pods in their order."""
    pods = pods or []
    by_uid = {
        item["metadata"]["uid"]: said
        for item, said in zip(pods, reports or [None] * len(pods), strict=True)
        if said is not None
    }
    live = sum(
        1 for item in pods if item["status"].get("phase") != "Failed" and "deletionTimestamp" not in item["metadata"]
    )
    return World.read(
        of or service(),
        plan_revision=REVISION,
        pods=pods,
        deployment=deployment(max(1, live)) if told is None else told,
        autoscaler=hpa,
        reports=by_uid,
        warnings={f"uid-{name}": message for name, message in (warnings or {}).items()},
        apply_failures=apply_failures,
        template=TEMPLATE,
    )


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A world and what a person must read: the REASON column, words of the message, what GitOps tools make of it."""

    name: str
    world: World
    reason: Reason
    says: tuple[str, ...] = ()
    health: str = "InProgress"
    ready: bool = False
    also: tuple[Reason, ...] = field(default=())

    def __str__(self) -> str:
        return self.name
