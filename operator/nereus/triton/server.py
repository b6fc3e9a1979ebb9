"""How tritonserver is started: its command, its arguments, and which arguments a user may not set.

Here because the flags, the probes and the drain of a pod must agree about ports and times. Triton runs in explicit
mode and starts with no model: the sidecar loads what the plan says. The repository API is closed to clients: its key
is made in the pod by the sidecar and read from a file when the server starts, so it is in no object of the cluster.

Does not build the container (workload) and sets nothing that a user might want different: those flags are theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nereus.api import names
from nereus.api.problems import Problem
from nereus.api.service import ModelService
from nereus.api.values import Quantity

AGE_JITTER = 1.1
"""gRPC closes a connection at its age +-10 % (gRFC A9), so the last one may be asked to leave that much later."""
DRAIN_MARGIN_SECONDS = 5
LEAST_EXIT_SECONDS = 5
"""Triton's clean end takes about 2 s; see `stop` for why it gets more."""
STOP_MARGIN_SECONDS = 5

CACHE_FLAGS = ("--cache-config", "--response-cache-byte-size")
"""Those of the user: they may ask for another cache, e.g. one in Redis. Ours is then not added."""
RATE_FLAG = "--rate-limit"
THREADS_FLAG = "--model-load-thread-count"
DEFAULT_CACHE_BYTES = 64 * 2**20
LEAST_CACHE_BYTES = 2**20

OWNED_FLAGS = (
    "--allow-grpc",
    "--allow-http",
    "--allow-metrics",
    "--exit-timeout-secs",
    "--grpc-address",
    "--grpc-max-connection-age",
    "--grpc-max-connection-age-grace",
    "--grpc-port",
    "--grpc-restricted-protocol",
    "--http-address",
    "--http-port",
    "--http-restricted-api",
    "--load-model",
    "--metrics-address",
    "--metrics-port",
    "--model-control-mode",
    "--model-namespacing",
    "--model-repository",
    "--model-store",
    "--repository-poll-secs",
)

_REMEDIES = {
    "--http-port": "set endpoint.ports.http",
    "--grpc-port": "set endpoint.ports.grpc",
    "--metrics-port": "set endpoint.ports.metrics",
    "--grpc-max-connection-age": "set endpoint.connectionAge",
    "--grpc-max-connection-age-grace": "set endpoint.connectionAgeGrace",
    "--exit-timeout-secs": "set runtime.terminationGracePeriod",
    "--load-model": "list the model in spec.models",
    "--model-repository": "list the models in spec.models",
    "--model-store": "list the models in spec.models",
}

SHELL_COMMAND = (
    "set -eu;"
    f' key="$(cat {names.PATH_ADMIN_KEY})";'
    ' exec tritonserver "--http-restricted-api=model-repository:admin-key=$key"'
    ' "--grpc-restricted-protocol=model-repository:admin-key=$key" "$@"'
)


@dataclass(frozen=True, kw_only=True)
class Stop:
    """How a pod ends, in whole seconds: first it drains, then Triton finishes what is in flight."""

    drain_seconds: int
    exit_seconds: int
    grace_seconds: int


def stop(service: ModelService) -> Stop:
    """The times of a pod's end. A terminationGracePeriod that is too short for all shortens each part.

    Triton waits for idle keep-alive connections until its exit timeout, so that one is no longer than a request may
    take: whatever still runs when the drain is over has been promised connectionAgeGrace, not more.
    """
    exit_seconds = max(LEAST_EXIT_SECONDS, math.ceil(service.connection_age_grace.seconds))
    drain = math.ceil(
        service.connection_age.seconds * AGE_JITTER + service.connection_age_grace.seconds + DRAIN_MARGIN_SECONDS
    )
    period = service.runtime.termination_grace_period
    if period is None:
        return Stop(
            drain_seconds=drain, exit_seconds=exit_seconds, grace_seconds=drain + exit_seconds + STOP_MARGIN_SECONDS
        )
    grace = max(1, math.ceil(period.seconds))
    left = max(0, grace - STOP_MARGIN_SECONDS)
    # A third of what there is for requests in flight: the rest lets clients move away before.
    exit_seconds = max(1, min(exit_seconds, left // 3))
    return Stop(drain_seconds=max(1, min(drain, left - exit_seconds)), exit_seconds=exit_seconds, grace_seconds=grace)


def has_gpu(service: ModelService) -> bool:
    """Whether the pods ask for a GPU: a device of NVIDIA (whole, shared or MIG) or anybody's `…/gpu`."""
    if service.spec.gpu is not None:
        return True
    resources = service.runtime.resources
    if resources is None:
        return False
    return any(_is_gpu(amounts) for amounts in (resources.limits or {}, resources.requests or {}))


def _is_gpu(amounts: Mapping[str, Quantity]) -> bool:
    return any(
        amount.value > 0 and (resource.startswith("nvidia.com/") or resource.endswith("/gpu"))
        for resource, amount in amounts.items()
    )


def cache_bytes(service: ModelService) -> int | None:
    """Size of the response cache that Nereus gives the server; None when nobody asks, or arguments bring another."""
    if brings_cache(service):
        return None
    declared = service.runtime.response_cache_size
    if declared is not None:
        return int(declared.value)
    return DEFAULT_CACHE_BYTES if any(model.response_cache for model in service.models) else None


def brings_cache(service: ModelService) -> bool:
    """Whether the user's own arguments give the server a response cache."""
    return any(arg.startswith(CACHE_FLAGS) for arg in service.runtime.args or ())


def limits_rate(service: ModelService) -> bool:
    """Whether Nereus turns the server's rate limiter on: a model asks, and no argument of the user says how."""
    return not says_rate(service) and any(model.instances and model.instances.rate_limiter for model in service.models)


def says_rate(service: ModelService) -> bool:
    """Whether the user's own arguments say what the rate limiter does."""
    return any(arg.partition("=")[0] == RATE_FLAG for arg in service.runtime.args or ())


def command() -> tuple[str, ...]:
    """The container's command; the arguments follow it. A shell, because the admin key is in a file of the pod."""
    return ("/bin/sh", "-c", SHELL_COMMAND, "tritonserver")


def arguments(service: ModelService) -> tuple[str, ...]:
    """The arguments of tritonserver, those of the user last. Spelled as Triton 2.51 and later take them."""
    ports = service.ports
    owned = (
        f"--model-repository={names.PATH_REPOSITORY}",
        "--model-control-mode=explicit",
        f"--http-port={ports.http}",
        f"--grpc-port={ports.grpc}",
        f"--grpc-max-connection-age={service.connection_age.microseconds // 1000}",
        f"--grpc-max-connection-age-grace={service.connection_age_grace.microseconds // 1000}",
        "--allow-metrics=true",
        f"--metrics-port={ports.metrics}",
        f"--allow-gpu-metrics={'true' if has_gpu(service) else 'false'}",
        f"--exit-timeout-secs={stop(service).exit_seconds}",
    )
    size = cache_bytes(service)
    cache = () if size is None else (f"--cache-config=local,size={size}",)
    rate = (f"{RATE_FLAG}=execution_count",) if limits_rate(service) else ()
    count = service.runtime.load_threads
    threads = () if count is None else (f"{THREADS_FLAG}={count}",)
    return owned + cache + rate + threads + (service.runtime.args or ())


def problems(service: ModelService) -> tuple[Problem, ...]:
    """What cannot be in the arguments: flags of the user that Nereus owns, a second response cache or thread count.

    Triton takes unambiguous beginnings of a flag too (getopt_long).
    """
    return (*_owned(service.runtime.args or ()), *_cache(service), *_threads(service))


def _threads(service: ModelService) -> Iterable[Problem]:
    given = any(arg.partition("=")[0] == THREADS_FLAG for arg in service.runtime.args or ())
    if service.runtime.load_threads is not None and given:
        yield Problem(
            "spec.runtime.loadThreads",
            f"{service.runtime.load_threads} stands beside {THREADS_FLAG} in runtime.args: keep one of them",
        )


def _cache(service: ModelService) -> Iterable[Problem]:
    path, declared = "spec.runtime.responseCacheSize", service.runtime.response_cache_size
    if declared is None:
        return
    if brings_cache(service):
        yield Problem(path, f"{declared} stands beside {CACHE_FLAGS[0]} in runtime.args: keep one of them")
    if declared.value < LEAST_CACHE_BYTES:
        yield Problem(path, f"{declared} is below 1Mi, too small for answers of a model: raise it, e.g. 64Mi")


def _owned(args: Iterable[str]) -> Iterable[Problem]:
    for index, arg in enumerate(args):
        flag = arg.partition("=")[0]
        if not flag.startswith("--") or len(flag) < 4:
            continue
        owned = flag if flag in OWNED_FLAGS else next((name for name in OWNED_FLAGS if name.startswith(flag)), None)
        if owned is not None:
            remedy = _REMEDIES.get(owned, "remove it")
            yield Problem(
                f"spec.runtime.args[{index}]", f"{arg[:120]!r} is an argument that Nereus sets ({owned}): {remedy}"
            )
