"""Who sets the number of pods, and when the controller does: pure rules over the spec and the live Deployment.

`replicas` is never part of the applied Deployment: an apply that once held it and then leaves it out falls back to
one pod. Under Manual it is applied by a manager of its own, which never leaves it out. Otherwise the autoscaler
sets it; the controller only lifts it to the floor, at once instead of at the autoscaler's next round, and out of
zero, where an autoscaler does nothing. It never lowers what an autoscaler decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from nereus.api import names
from nereus.api.manifests import Manifest
from nereus.api.service import ModelService
from nereus.api.spec.scaling import Strategy
from nereus.controller.kinds import DEPLOYMENT


class Way(Enum):
    """How a number of pods is written."""

    APPLY = "apply"
    SCALE = "scale"


@dataclass(frozen=True)
class Wish:
    """A number of pods to write, and how."""

    replicas: int
    way: Way


def wish(service: ModelService, deployment: Mapping[str, Any], *, floor: int) -> Wish | None:
    """The number of pods to write now, or None when the live one stands. `floor` is that of the autoscaler."""
    live = (deployment.get("spec") or {}).get("replicas", 1)
    if service.strategy is Strategy.MANUAL:
        return Wish(service.manual_replicas, Way.APPLY) if live != service.manual_replicas else None
    return Wish(floor, Way.SCALE) if live < floor else None


def written_floor(autoscaler: Mapping[str, Any] | None) -> int | None:
    """The floor that was last written; None where no autoscaler reads the decision as a metric."""
    spec = (autoscaler or {}).get("spec") or {}
    external = (metric.get("external") or {} for metric in spec.get("metrics") or ())
    reads = any((metric.get("metric") or {}).get("name") == names.EXTERNAL_METRIC for metric in external)
    floor = spec.get("minReplicas", 1)
    return floor if reads and isinstance(floor, int) else None


def applied(service: ModelService, replicas: int) -> Manifest:
    """The number of pods as the replicas manager applies it, to a Deployment that exists."""
    return {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.kind,
        "metadata": {"name": service.name, "namespace": service.namespace},
        "spec": {"replicas": replicas},
    }


def created(service: ModelService, deployment: Manifest) -> Manifest | None:
    """The Deployment to create first when the number of pods is ours and not the default 1, so that no pod is
    started only to be stopped; applied by the replicas manager, which names only `replicas` from then on."""
    if service.strategy is not Strategy.MANUAL or service.manual_replicas == 1:
        return None
    return {**deployment, "spec": {**deployment["spec"], "replicas": service.manual_replicas}}


def scaled(deployment: Mapping[str, Any], replicas: int) -> Manifest:
    """A patch of the scale subresource; refused when the Deployment changed meanwhile (it may have been raised)."""
    return {
        "metadata": {"resourceVersion": deployment["metadata"]["resourceVersion"]},
        "spec": {"replicas": replicas},
    }
