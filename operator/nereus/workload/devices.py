"""The GPU part of a pod template: what was chosen becomes resources, environment, placement and a toleration.

Here and not in `template`, because it is laid over the template only where a service has `spec.gpu`. The choice itself
is kept in an annotation of the template: that is how it stays the same when nodes come and go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from nereus.api import names
from nereus.api.service import ModelService
from nereus.api.spec.gpu import Gpu, Isolation
from nereus.api.values import Json
from nereus.gpu.choice import Choice
from nereus.gpu.memory import POOL_BYTES, arena_bytes
from nereus.gpu.offer import Pairs

TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
"""The taint that keeps pods without a GPU off GPU nodes, by NVIDIA's and the clouds' convention."""
POOL_FLAG = "--cuda-memory-pool-byte-size"
SHARED = (Isolation.DRIVER_LIMIT, Isolation.MPS, Isolation.HAMI, Isolation.NONE)
"""What gives a pod a part of a GPU that is less than the memory it could otherwise reach."""


def inputs(gpu: Gpu) -> Json:
    """What of `spec.gpu` a template is made from; must be the same in every release."""
    return gpu.model_dump(by_alias=True, exclude_none=True, mode="json", exclude={"on_exceed"})


def is_limited(service: ModelService) -> bool:
    """Whether a memory limit is asked for and no argument of the user sizes Triton's pool."""
    gpu = service.spec.gpu
    own = any(arg.startswith(POOL_FLAG) for arg in service.runtime.args or ())
    return gpu is not None and gpu.memory is not None and not own


def arena_limit(service: ModelService, choice: Choice) -> int | None:
    """The most bytes of GPU memory that one ONNX model's arena may take; None where the pod has a GPU or a slice of its
    own, whose end the backend sees by itself."""
    gpu = service.spec.gpu
    if gpu is None or gpu.memory is None or choice.mechanism not in SHARED:
        return None
    return arena_bytes(int(gpu.memory.value))


def with_gpu(body: Json, choice: Choice, *, limited: bool) -> Json:
    """The template with the GPU; `limited` adds the size of Triton's pool, so that the arithmetic is about it."""
    result = deepcopy(body)
    result["metadata"]["annotations"][names.ANNOTATION_GPU] = choice.to_json()
    pod = result["spec"]
    triton = next(container for container in pod["containers"] if container["name"] == names.CONTAINER_TRITON)
    limits = {**triton["resources"].get("limits", {}), **dict(choice.resources)}
    triton["resources"] = {**triton["resources"], "limits": dict(sorted(limits.items()))}
    if choice.env:
        triton["env"] = [*triton.get("env", ()), *({"name": name, "value": value} for name, value in choice.env)]
    if limited:
        triton["args"] = [*triton["args"], f"{POOL_FLAG}=0:{POOL_BYTES}"]
    if TOLERATION not in pod.get("tolerations", ()):
        pod["tolerations"] = [*pod.get("tolerations", ()), TOLERATION]
    if choice.mechanism is Isolation.MPS:
        _leave_shared_memory(pod, triton)
    if choice.places:
        pod["affinity"] = _placed(pod.get("affinity") or {}, choice.places)
    return result


def _leave_shared_memory(pod: Json, triton: Json) -> None:
    """Takes our /dev/shm away. NVIDIA's device plug-in mounts the one of its MPS server there, through which CUDA finds
    that server; the kubelet mounts volumes of the pod after it, so ours would hide it."""
    triton["volumeMounts"] = [mount for mount in triton["volumeMounts"] if mount["name"] != names.VOLUME_SHARED_MEMORY]
    pod["volumes"] = [volume for volume in pod["volumes"] if volume["name"] != names.VOLUME_SHARED_MEMORY]


def choice_in(template: Mapping[str, Any]) -> Choice | None:
    """The choice that a template was rendered from."""
    annotations = (template.get("metadata") or {}).get("annotations") or {}
    return Choice.from_json(str(annotations.get(names.ANNOTATION_GPU, "")))


def kept_choice(stored: Iterable[Mapping[str, Any]], asked: str) -> Choice | None:
    """The newest choice in stored templates that was made for the same `spec.gpu`."""
    found = [
        (int(revision.get("revision") or 0), choice)
        for revision in stored
        if (choice := choice_in(revision.get("data") or {})) is not None and choice.asked == asked
    ]
    return max(found, key=lambda entry: entry[0])[1] if found else None


def _placed(affinity: Json, places: Iterable[Pairs]) -> Json:
    """The affinity, with nodes narrowed to these label sets. Terms are alternatives, so each of the user's is combined
    with each of ours."""
    ours = [[{"key": key, "operator": "In", "values": [value]} for key, value in place] for place in places]
    node = affinity.get("nodeAffinity") or {}
    required = (node.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or [{}]
    terms = [
        {**term, "matchExpressions": [*(term.get("matchExpressions") or ()), *place]}
        for term in required
        for place in ours
    ]
    return {
        **affinity,
        "nodeAffinity": {**node, "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}},
    }
