"""What a service asks of GPUs, as numbers, and whether any GPU at all could give it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nereus.api.manifests import digest
from nereus.api.problems import Problem
from nereus.api.service import ModelService
from nereus.api.spec.gpu import Isolation, OnExceed
from nereus.gpu import profiles

MIB = 2**20
GIB = 2**30
LEAST_MEMORY_BYTES = GIB
"""A CUDA context with Triton's pool takes hundreds of MiB before any model (see memory.CONTEXT_BYTES)."""
OWNED_VARIABLES = frozenset(
    {
        "CUDA_DEVICE_MEMORY_LIMIT",
        "CUDA_DEVICE_MEMORY_LIMIT_0",
        "CUDA_DISABLE_CONTROL",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT",
        "CUDA_MPS_PIPE_DIRECTORY",
        "NVIDIA_GPU_MEMORY_LIMIT",
        "NVIDIA_GPU_MEMORY_REQUEST",
        "NVIDIA_VISIBLE_DEVICES",
    }
)
"""Variables that give a container more than its share: all GPUs, no MPS server, no HAMi hook, another limit."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """`memory_bytes` is None when no limit is asked for."""

    count: int = 1
    memory_bytes: int | None = None
    isolation: Isolation = Isolation.AUTO
    product: str = ""
    evict: bool = False

    @property
    def memory_mib(self) -> int:
        """Rounded up; 0 when no limit is asked for."""
        return -(-(self.memory_bytes or 0) // MIB)


def ask_of(service: ModelService) -> Ask | None:
    """None for a service without `spec.gpu`."""
    gpu = service.spec.gpu
    if gpu is None:
        return None
    return Ask(
        count=gpu.count or 1,
        memory_bytes=None if gpu.memory is None else int(gpu.memory.value),
        isolation=gpu.isolation or Isolation.AUTO,
        product=gpu.product or "",
        evict=gpu.on_exceed is OnExceed.EVICT,
    )


def fingerprint(service: ModelService) -> str:
    """A digest of what a choice depends on in the spec; a kept choice holds while it stays the same.

    What happens on excess is no part of it: it changes no pod.
    """
    gpu = service.spec.gpu
    declared = {} if gpu is None else gpu.model_dump(by_alias=True, exclude_none=True, mode="json")
    declared.pop("onExceed", None)
    return digest({"gpu": declared, "rollout": service.rollout_request})


def problems(service: ModelService) -> Iterator[Problem]:
    """What is wrong with `spec.gpu` whatever the nodes offer."""
    ask = ask_of(service)
    if ask is None:
        return
    declared = service.spec.gpu.memory if service.spec.gpu else None
    largest = profiles.largest_gib(ask.product)
    if ask.memory_bytes is not None and ask.memory_bytes < LEAST_MEMORY_BYTES:
        yield Problem(
            "spec.gpu.memory", f"{declared} is below 1Gi, which a CUDA context and Triton's pool take alone: raise it"
        )
    elif ask.memory_bytes is not None and largest is not None and ask.memory_bytes > largest * GIB:
        of = f"a {ask.product}" if ask.product else "the largest GPU that Nereus knows"
        yield Problem("spec.gpu.memory", f"{declared} is above the {largest} GiB of {of}: lower it")
    if ask.isolation is Isolation.MPS and service.runtime.shared_memory is not None:
        yield Problem(
            "spec.runtime.sharedMemory",
            f"{service.runtime.shared_memory} cannot be given with gpu.isolation MPS: /dev/shm is then the MPS server's"
            ", 64Mi for all pods of the node; remove it, or choose another isolation for python models that need more",
        )
    resources = service.runtime.resources
    for field in ("requests", "limits"):
        for name in (getattr(resources, field) if resources else None) or {}:
            if name.startswith("nvidia.com/"):
                yield Problem(
                    f"spec.runtime.resources.{field}.{name}",
                    "stands beside spec.gpu, which sets it: remove one of them",
                )
    for index, variable in enumerate(service.runtime.env or ()):
        if variable.get("name") in OWNED_VARIABLES:
            yield Problem(
                f"spec.runtime.env[{index}]",
                f"{variable.get('name')} decides how much of a GPU a container gets, as spec.gpu does: remove it",
            )
