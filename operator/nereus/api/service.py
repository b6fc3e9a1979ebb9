"""A ModelService read from the API server: its identity, its typed spec, and what is taken where the spec is silent.

`read` is the only way in; it raises InvalidSpecError with every problem found. Nothing here decides what a field
means to Triton or to Kubernetes: that is for the rooms that render.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from nereus.api import names
from nereus.api.objective import LATENCY_SECONDS
from nereus.api.problems import InvalidSpecError, Problem
from nereus.api.protocol import REPOSITORY
from nereus.api.spec import Spec
from nereus.api.spec.alerts import Alerts
from nereus.api.spec.endpoint import Endpoint
from nereus.api.spec.forecasting import Mode
from nereus.api.spec.model import Model, Source
from nereus.api.spec.runtime import Runtime
from nereus.api.spec.scaling import Scaling, Strategy
from nereus.api.values import Duration

DEFAULT_CONNECTION_AGE = Duration.of_seconds(30)
DEFAULT_CONNECTION_GRACE = Duration.of_seconds(10)
DEFAULT_LATENCY_OBJECTIVE = Duration.of_seconds(LATENCY_SECONDS)
SURGE_PERCENT = 25
"""Pods that a rollout adds, of those there are, rounded up: one even for a single one."""
_NO_RUNTIME, _NO_ENDPOINT, _NO_SCALING, _NO_ALERTS = (
    Runtime.model_construct(),
    Endpoint.model_construct(),
    Scaling.model_construct(),
    Alerts.model_construct(),
)
"""Made once: they are immutable, and a rendering asks for them dozens of times."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """The ports in effect."""

    http: int = 8000
    grpc: int = 8001
    metrics: int = 8002


@dataclass(frozen=True, kw_only=True)
class ModelService:
    """One ModelService, as the rooms see it. `uid` is empty when it is not stored yet (`nereus render`)."""

    name: str
    namespace: str
    uid: str
    generation: int
    spec: Spec
    rollout_request: str = ""
    rollback_to: str = ""
    """Revision of the kept plan that pods shall run instead of `spec.models`; empty when they run those."""
    absent_strategy: Strategy = Strategy.METRICS
    """Taken where spec.scaling.strategy is absent: see `read`."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def models(self) -> tuple[Model, ...]:
        """The declared models; none for a whole repository, whose models only the pods know."""
        return self.spec.models or ()

    @property
    def sources(self) -> tuple[Source, ...]:
        """Everything that is fetched or mounted: of each model, or the whole repository."""
        found = [model.source for model in self.models if model.source is not None]
        return (*found, self.spec.repository) if self.spec.repository is not None else tuple(found)

    @property
    def entries(self) -> dict[str, str]:
        """What a pod is told to serve: the URI (empty for an ensemble) by the name of its entry in the plan."""
        if self.spec.repository is not None:
            return {REPOSITORY: str(self.spec.repository.uri)}
        return {model.name: str(model.uri or "") for model in self.models}

    @property
    def runtime(self) -> Runtime:
        return self.spec.runtime or _NO_RUNTIME

    @property
    def endpoint(self) -> Endpoint:
        return self.spec.endpoint or _NO_ENDPOINT

    @property
    def scaling(self) -> Scaling:
        return self.spec.scaling or _NO_SCALING

    @property
    def alerts(self) -> Alerts:
        return self.spec.alerts or _NO_ALERTS

    @property
    def latency_objective(self) -> Duration:
        """How fast a request must be answered."""
        objective = self.scaling.objective
        return self.alerts.latency or (objective.latency if objective else None) or DEFAULT_LATENCY_OBJECTIVE

    @property
    def suspended(self) -> bool:
        return bool(self.spec.suspend)

    @property
    def ports(self) -> Ports:
        ports = self.endpoint.ports
        if ports is None:
            return Ports()
        return Ports(http=ports.http or 8000, grpc=ports.grpc or 8001, metrics=ports.metrics or 8002)

    @property
    def strategy(self) -> Strategy:
        return self.scaling.strategy or self.absent_strategy

    @property
    def forecasts(self) -> bool:
        """Whether Nereus itself decides, or would decide, how many pods there are."""
        return self.strategy in (Strategy.PREDICTIVE, Strategy.REACTIVE)

    @property
    def acts(self) -> bool:
        """Whether what Nereus decides is carried out."""
        return self.forecasts and self.scaling.mode is not Mode.ADVISE

    @property
    def min_replicas(self) -> int:
        return self.scaling.min_replicas or min(1, self.scaling.max_replicas or 1)

    @property
    def max_replicas(self) -> int:
        """The most that is declared, as far as it fits into the limit of GPUs."""
        return self._most_declared if self.gpu_bound is None else min(self._most_declared, self.gpu_bound)

    @property
    def _most_declared(self) -> int:
        return self.scaling.max_replicas or self.min_replicas

    @property
    def gpu_bound(self) -> int | None:
        """Pods that fit into scaling.limits.gpus; None without that limit."""
        limits, gpu = self.scaling.limits, self.spec.gpu
        return None if limits is None else limits.gpus // ((gpu.count if gpu else None) or 1)

    @property
    def gpu_limited(self) -> bool:
        """Whether the limit of GPUs, rather than maxReplicas, is what pods cannot exceed."""
        return self.gpu_bound is not None and self.gpu_bound < self._most_declared

    @property
    def surge_fits_gpus(self) -> bool:
        """Whether the pods that a rollout adds stay within the limit of GPUs, also when all others are there."""
        surge = -(-self.max_replicas * SURGE_PERCENT // 100)
        return self.gpu_bound is None or self.max_replicas + surge <= self.gpu_bound

    @property
    def manual_replicas(self) -> int:
        return 1 if self.scaling.replicas is None else self.scaling.replicas

    @property
    def connection_age(self) -> Duration:
        return self.endpoint.connection_age or DEFAULT_CONNECTION_AGE

    @property
    def connection_age_grace(self) -> Duration:
        return self.endpoint.connection_age_grace or DEFAULT_CONNECTION_GRACE

    @property
    def owner_reference(self) -> dict[str, Any]:
        """Makes an object ours: garbage collection removes it with the ModelService, no finalizer needed."""
        return {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }


_TAKEN_WHEN_ABSENT = (Strategy.METRICS, Strategy.PREDICTIVE)


def _absent_strategy(resource: Mapping[str, Any], fresh: Strategy) -> Strategy:
    """What was taken before stays, whatever the installation would choose today."""
    status = resource.get("status")
    resolved = status.get("resolved") if isinstance(status, Mapping) else None
    taken = resolved.get("strategy") if isinstance(resolved, Mapping) else None
    return next((strategy for strategy in _TAKEN_WHEN_ABSENT if strategy.value == taken), fresh)


def read(resource: Mapping[str, Any], *, absent_strategy: Strategy = Strategy.METRICS) -> ModelService:
    """A ModelService from the object that the API server (or a file) holds.

    `absent_strategy` is taken where neither the spec nor the stored status names a strategy.
    Raises InvalidSpecError when it cannot be understood; every problem names its field, value and remedy.
    """
    metadata = resource.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        raise InvalidSpecError((Problem("metadata", f"{metadata!r:.60} is not an object: write name: NAME"),))
    # Strict JSON, as the API server reads it: no "4" for 4, no true for "true". YAML's dates are texts here.
    document = json.dumps(_as_stored(resource.get("spec") or {}), default=str)
    problems = list(_name_problems(str(metadata.get("name") or "")))
    try:
        spec = Spec.model_validate_json(document, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        # pydantic reports a list as too short when its items are wrong: the items say it better.
        found = [item for item in error.errors() if not (item["type"] == "too_short" and item["input"])]
        raise InvalidSpecError((*problems, *(_problem(item) for item in found))) from None
    if problems:
        raise InvalidSpecError(tuple(problems))
    return ModelService(
        name=str(metadata["name"]),
        namespace=str(metadata.get("namespace") or "default"),
        uid=str(metadata.get("uid", "")),
        generation=int(metadata.get("generation") or 0),
        spec=spec,
        rollout_request=str((metadata.get("annotations") or {}).get(names.ANNOTATION_ROLLOUT, "")),
        rollback_to=str((metadata.get("annotations") or {}).get(names.ANNOTATION_ROLLBACK, "")),
        absent_strategy=_absent_strategy(resource, absent_strategy),
    )


def _as_stored(value: Any) -> Any:
    """The value as the API server would store it: null fields are dropped, and 4.0 is 4."""
    if isinstance(value, Mapping):
        return {str(key): _as_stored(child) for key, child in value.items() if child is not None}
    if isinstance(value, (list, tuple)):
        return [_as_stored(child) for child in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _name_problems(name: str) -> Iterator[Problem]:
    if not name:
        yield Problem("metadata.name", "is required")
    elif len(name) > names.MAX_NAME_LENGTH:
        yield Problem("metadata.name", f"{name!r} has {len(name)} characters: {names.NAME_TOO_LONG}")
    elif not re.fullmatch(names.NAME_PATTERN, name):
        yield Problem("metadata.name", f"{name!r} is refused: {names.NAME_NOT_DNS}")


def _problem(error: Mapping[str, Any]) -> Problem:
    """A pydantic error in our words: the path as the user writes it, the value, the remedy."""
    path = "spec"
    for part in error["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    if error["type"] == "extra_forbidden":
        return Problem(path, "no such field; `kubectl explain msvc.spec --recursive` lists the fields")
    if error["type"] == "missing":
        return Problem(path, "is required")
    if error["type"] == "rule":
        return Problem(path, str(error["msg"]))
    message = str(error["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    shown = repr(error["input"])
    return Problem(path, message if shown in message else f"{shown[:120]} is refused: {message}")
