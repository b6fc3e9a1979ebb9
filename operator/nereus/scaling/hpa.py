"""The HorizontalPodAutoscaler: the actuator that sets how many pods there are.

Here because scaling is a room of its own; under strategy Manual there is none. Whatever a user gives as metrics and
behaviour is handed to Kubernetes as it is, only amounts are written as the API server stores them.

Where Nereus decides, the autoscaler gets the decision twice: as its floor, which it carries out without reading any
metric, and as an external metric, without which nothing scales down. A third metric (CPU, or the user's own) scales up
when nobody decides any more. The facts behind each field stand beside it; measured on Kubernetes 1.35.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nereus.api import names
from nereus.api.children import child
from nereus.api.decision import ScalingDecision
from nereus.api.manifests import Manifest
from nereus.api.problems import Problem
from nereus.api.service import ModelService
from nereus.api.spec.scaling import Strategy
from nereus.api.values import Json, canonical_quantity
from nereus.scaling import goal

DEFAULT_CPU_PERCENT = 70
EMERGENCY_CPU_PERCENT = 90
"""High, because it shall speak only when the decision is missing or wrong."""
DOWN_SECONDS = 30
"""Long enough to ignore one dip of a metric, short enough that the decision is carried out within two rounds."""
_AMOUNTS = ("value", "averageValue")


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Fewest and most pods of the autoscaler at this moment."""

    floor: int
    most: int


def bounds(service: ModelService, *, decision: ScalingDecision | None = None, live_floor: int | None = None) -> Bounds:
    """The autoscaler's bounds. `live_floor` is its present floor: it stands while nothing is known."""
    if decision is None or not service.acts:
        held = live_floor if service.acts and live_floor is not None else service.min_replicas
        return Bounds(
            floor=min(max(held, service.min_replicas), service.max_replicas), most=max(service.max_replicas, 1)
        )
    most = max(1, min(decision.most, service.max_replicas))
    wished = decision.replicas if decision.known or live_floor is None else max(live_floor, decision.least)
    return Bounds(floor=max(1, min(max(wished, min(decision.least, most)), most)), most=most)


def hpa(
    service: ModelService,
    *,
    decision: ScalingDecision | None = None,
    live_floor: int | None = None,
    external: bool = False,
    tolerance: bool = False,
) -> Manifest | None:
    """The autoscaler of a service; None under strategy Manual.

    `external`: the decision can be read as an external metric. `tolerance`: the API server knows
    `behavior.*.tolerance`.
    """
    if service.strategy is Strategy.MANUAL:
        return None
    within = bounds(service, decision=decision, live_floor=live_floor)
    declared = service.scaling.metrics
    percent = EMERGENCY_CPU_PERCENT if service.acts else DEFAULT_CPU_PERCENT
    own = [_cpu_of_triton(percent)] if declared is None else [_canonical_metric(metric) for metric in declared]
    spec: Json = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": service.name},
        "minReplicas": within.floor,
        "maxReplicas": within.most,
        "metrics": [_decided(service), *own] if service.acts and external else own,
    }
    behavior = {**(_behavior(tolerance) if service.acts else {}), **(service.scaling.behavior or {})}
    if behavior:
        spec["behavior"] = _canonical_behavior(behavior)
    return child(service, api_version="autoscaling/v2", kind="HorizontalPodAutoscaler", spec=spec)


def _decided(service: ModelService) -> Json:
    """AverageValue 1 makes the autoscaler compute exactly the number served; `Value` would run away with the pods."""
    return {
        "type": "External",
        "external": {
            "metric": {"name": names.EXTERNAL_METRIC, "selector": {"matchLabels": {names.LABEL_SERVICE: service.name}}},
            "target": {"type": "AverageValue", "averageValue": "1"},
        },
    }


def _behavior(tolerance: bool) -> Json:
    """The decision at once, in both directions.

    Any behaviour brings a default of 4 pods or 100 % per 15 s upwards, of which a jump of the floor uses up all: so
    both are given wide. A tolerance of 10 % would ignore one pod of twelve.
    """
    exact = {"tolerance": "0"} if tolerance else {}
    return {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [
                {"type": "Percent", "value": 900, "periodSeconds": 15},
                {"type": "Pods", "value": 100, "periodSeconds": 15},
            ],
            **exact,
        },
        "scaleDown": {
            "stabilizationWindowSeconds": DOWN_SECONDS,
            "selectPolicy": "Max",
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
            **exact,
        },
    }


def problems(service: ModelService) -> tuple[Problem, ...]:
    """Metrics that could never be read, since the autoscaler would take them and stay blind; and what `goal` finds."""
    return (*_unknown_containers(service), *goal.problems(service))


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


def _cpu_of_triton(percent: int) -> Json:
    """CPU of Triton alone: the sidecar's tiny request would blur the utilisation of the pod."""
    return {
        "type": "ContainerResource",
        "containerResource": {
            "name": "cpu",
            "container": names.CONTAINER_TRITON,
            "target": {"type": "Utilization", "averageUtilization": percent},
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
