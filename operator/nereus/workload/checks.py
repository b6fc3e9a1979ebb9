"""What Kubernetes would refuse in a pod or a Service, or what would collide with what Nereus puts there.

Here because such a refusal would come late and speak of a Deployment that the user never wrote. Each problem names
the field of the ModelService.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nereus.api import names
from nereus.api.problems import Problem
from nereus.api.service import ModelService
from nereus.api.values import Quantity
from nereus.gpu import ask
from nereus.workload import template

_OWN_PREFIX = f"{names.GROUP}/"
_OWN_PATHS = (names.PATH_REPOSITORY, "/nereus", template.PATH_SHARED_MEMORY)
_OWN_VOLUMES = (template.SOURCE_VOLUME_PREFIX, template.SECRET_VOLUME_PREFIX)
LEAST_SHARED_MEMORY = Quantity("1Mi")
LEAST_CACHE = Quantity("1Mi")


def problems(service: ModelService) -> tuple[Problem, ...]:
    """Everything about the pods and the Service that cannot be."""
    return (
        *_volumes(service),
        *_metadata(service),
        *_resources(service),
        *_sizes_and_times(service),
        *ask.problems(service),
    )


def _volumes(service: ModelService) -> Iterator[Problem]:
    for index, volume in enumerate(service.runtime.volumes or ()):
        name = str(volume.get("name", ""))
        if name in template.RESERVED_VOLUMES or name.startswith(_OWN_VOLUMES):
            yield Problem(f"spec.runtime.volumes[{index}].name", f"{name!r} is a name that Nereus uses: choose another")
    seen: set[str] = set()
    for index, mount in enumerate(service.runtime.volume_mounts or ()):
        path = f"spec.runtime.volumeMounts[{index}]"
        where = str(mount.get("mountPath", "")).rstrip("/")
        if any(where == own or where.startswith(f"{own}/") for own in _OWN_PATHS):
            yield Problem(f"{path}.mountPath", f"{where!r} belongs to Nereus: choose another directory")
        if where in seen:
            yield Problem(f"{path}.mountPath", f"{where!r} occurs twice: choose another directory")
        seen.add(where)


def _metadata(service: ModelService) -> Iterator[Problem]:
    own_labels = names.child_labels(service.name)
    for label in service.runtime.pod_labels or {}:
        if label in own_labels or label.startswith(_OWN_PREFIX):
            yield Problem(f"spec.runtime.podLabels.{label}", "is a label that Nereus sets: remove it")
    for field, declared in (
        ("spec.runtime.podAnnotations", service.runtime.pod_annotations),
        ("spec.endpoint.serviceAnnotations", service.endpoint.service_annotations),
    ):
        for annotation in declared or {}:
            if annotation.startswith(_OWN_PREFIX):
                yield Problem(f"{field}.{annotation}", f"annotations under {_OWN_PREFIX} are set by Nereus: remove it")


def _resources(service: ModelService) -> Iterator[Problem]:
    resources = service.runtime.resources
    requests: Mapping[str, Quantity] = (resources.requests if resources else None) or {}
    limits: Mapping[str, Quantity] = (resources.limits if resources else None) or {}
    for name, request in requests.items():
        path = f"spec.runtime.resources.requests.{name}"
        limit = limits.get(name)
        if limit is not None and request.value > limit.value:
            yield Problem(path, f"{request} is above the limit {limit}: lower it or raise the limit")
        elif "/" in name and (limit is None or limit.value != request.value):
            yield Problem(path, f"{request} needs the same amount under limits: Kubernetes does not overcommit {name}")


def _sizes_and_times(service: ModelService) -> Iterator[Problem]:
    shared_memory = service.runtime.shared_memory
    if shared_memory is not None and shared_memory.value < LEAST_SHARED_MEMORY.value:
        yield Problem(
            "spec.runtime.sharedMemory",
            f"{shared_memory} is below {LEAST_SHARED_MEMORY}: one python model alone needs that, write e.g. 256Mi",
        )
    cache = service.runtime.model_cache
    if cache is not None and cache.size.value < LEAST_CACHE.value:
        yield Problem("spec.runtime.modelCache.size", f"{cache.size} is below {LEAST_CACHE}: write e.g. 100Gi")
    period = service.runtime.termination_grace_period
    if period is not None and period.seconds < 1:
        yield Problem(
            "spec.runtime.terminationGracePeriod", f"{period} is below 1s: pods would be killed at once, raise it"
        )
