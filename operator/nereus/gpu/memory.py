"""The arithmetic of a GPU memory limit: what a Triton pod needs at least, and whether a live reload fits beside it.

Weights are taken from the size of the fetched sources: no format needs less than its file, most need more (work
spaces, activations). So the result is a lower bound: it can say that a limit is too small, never that it is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nereus.gpu.ask import MIB
from nereus.gpu.offer import gib

CONTEXT_BYTES = 256 * MIB
"""What one CUDA process takes before its first allocation. NVIDIA measured 256 MiB (MPS client, 5 GiB limit: 4864 MiB
left) to 816 MiB (driver limit of 30000 MiB: 29184 MiB left) on an RTX PRO 6000 with driver 615 (ai-dynamo's page on
GPU limits); the smaller one, because this is a lower bound. Not measured by us."""
POOL_BYTES = 64 * MIB
"""Triton's CUDA memory pool for each GPU, its default; rendered explicitly where a limit is set, so that the server
and this sum cannot disagree."""


LEAST_ARENA_BYTES = 256 * MIB
"""So that a small limit with a large context never becomes an arena of nothing."""


def arena_bytes(limit_bytes: int) -> int:
    """The most that the memory arena of one ONNX model may grow to under a limit: what the context and Triton's pool
    leave. An upper bound for one model: several together may still reach more."""
    return max(limit_bytes - CONTEXT_BYTES - POOL_BYTES, LEAST_ARENA_BYTES)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One model on the GPU: the size of its files, its instances, and whether each is a process of its own."""

    name: str
    file_bytes: int
    instances: int = 1
    processes: bool = False


@dataclass(frozen=True, kw_only=True)
class Need:
    """Lower bounds in bytes: while all models serve, and while the largest of them is loaded anew beside itself."""

    serving: int
    reload: int
    largest: str


def need(models: Sequence[Weights]) -> Need:
    """What the models of one pod take at least.

    A python model has a process, and so a CUDA context and weights, for each instance. Other backends share weights
    between instances where they can, so theirs count once. Triton loads a changed model behind the one that serves.
    """
    sizes = {model.name: _size(model) for model in models}
    largest = max(sizes, key=lambda name: (sizes[name], name), default="")
    base = CONTEXT_BYTES + POOL_BYTES
    serving = base + sum(sizes.values())
    return Need(serving=serving, reload=serving + sizes.get(largest, 0), largest=largest)


def _size(model: Weights) -> int:
    if not model.processes:
        return model.file_bytes
    return model.instances * (model.file_bytes + CONTEXT_BYTES)


def verdict(limit_bytes: int, wanted: Need) -> str:
    """What is wrong with a limit, in words; empty when nothing is certain."""
    if wanted.serving > limit_bytes:
        return (
            f"the models take at least {gib(wanted.serving)} (files, a CUDA context of {gib(CONTEXT_BYTES)} and the"
            f" pool of {gib(POOL_BYTES)}), and the limit is {gib(limit_bytes)}: raise gpu.memory, or serve fewer models"
        )
    return ""


def reload_warning(limit_bytes: int, wanted: Need) -> str:
    """Why a change of a model's configuration cannot be loaded live; empty when nothing is certain."""
    if wanted.serving <= limit_bytes < wanted.reload:
        return (
            f"while {wanted.largest} is loaded anew, old and new take at least {gib(wanted.reload)} of"
            f" {gib(limit_bytes)}: a change of it fails and the old one goes on serving; raise gpu.memory to change it"
            " live, or replace the pods (annotation serving.nereus.dev/rollout)"
        )
    return ""
