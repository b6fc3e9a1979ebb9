"""The HorizontalPodAutoscaler: the actuator that sets how many pods there are.

Here because scaling is a room of its own; under strategy Manual there is none. Whatever a user gives as metrics and
behaviour is handed to Kubernetes as it is, only amounts are written as the API server stores them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nereus.api import names
from nereus.api.children import child
from nereus.api.manifests import Manifest
from nereus.api.problems import Problem
from nereus.api.service import ModelService
from nereus.api.spec.scaling import Strategy
from nereus.api.values import Json, canonical_quantity

DEFAULT_CPU_PERCENT = 70
_AMOUNTS = ("value", "averageValue")


def hpa(service: ModelService) -> Manifest | None:
    """The autoscaler of a service; None under strategy Manual."""
    if service.strategy is Strategy.MANUAL:
        return None
    declared = service.scaling.metrics
    spec: Json = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": service.name},
        "minReplicas": service.min_replicas,
        "maxReplicas": service.max_replicas,
        "metrics": [_cpu_of_triton()] if declared is None else [_canonical_metric(metric) for metric in declared],
    }
    if service.scaling.behavior:
        spec["behavior"] = _canonical_behavior(service.scaling.behavior)
    return child(service, api_version="autoscaling/v2", kind="HorizontalPodAutoscaler", spec=spec)


def problems(service: ModelService) -> tuple[Problem, ...]:
    """Metrics that could never be read: the autoscaler would take them and stay blind."""
    return tuple(_unknown_containers(service))


def _unknown_containers(service: ModelService) -> Iterator[Problem]:
    known = (names.CONTAINER_TRITON, names.CONTAINER_SIDECAR)
    for index, metric in enumerate(service.scaling.metrics or ()):
        source: Any = metric.get("containerResource")
        container = source.get("container") if isinstance(source, dict) else None
        if isinstance(source, dict) and container not in known:
            yield Problem(
                f"spec.scaling.metrics[{index}].containerResource.container",
                f"{container!r} is no container of the pods: write {known[0]} or {known[1]}",
            )


def _cpu_of_triton() -> Json:
    """CPU of Triton alone: the sidecar's tiny request would blur the utilisation of the pod."""
    return {
        "type": "ContainerResource",
        "containerResource": {
            "name": "cpu",
            "container": names.CONTAINER_TRITON,
            "target": {"type": "Utilization", "averageUtilization": DEFAULT_CPU_PERCENT},
        },
    }


def _canonical_metric(metric: Json) -> Json:
    return {key: _canonical_source(value) if isinstance(value, dict) else value for key, value in metric.items()}


def _canonical_source(source: Json) -> Json:
    target: Any = source.get("target")
    if not isinstance(target, dict):
        return source
    amounts = {key: canonical_quantity(target[key]) for key in _AMOUNTS if key in target}
    return {**source, "target": {**target, **amounts}}


def _canonical_behavior(behavior: Json) -> Json:
    return {
        direction: {**rules, "tolerance": canonical_quantity(rules["tolerance"])}
        if isinstance(rules, dict) and "tolerance" in rules
        else rules
        for direction, rules in behavior.items()
    }
