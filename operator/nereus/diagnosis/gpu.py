"""GPUs: why a pod finds none, whether its memory limit holds, and whether the models use it at all.

The condition says True only what was seen: by the agent on the pod's own node, for every pod that serves. What was not
looked at is Unknown, what cannot be seen (Soft) or does not exist (None) is False, with the reason in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from nereus.api import names
from nereus.api.conditions import Condition, Truth
from nereus.api.protocol import ModelState
from nereus.api.reasons import ConditionType, Reason
from nereus.api.service import ModelService
from nereus.api.spec.gpu import Isolation
from nereus.api.spec.instances import InstanceKind
from nereus.api.status import GpuStatus
from nereus.diagnosis import words
from nereus.diagnosis.finding import Case, Finding, PodCheck
from nereus.diagnosis.objects import Pod
from nereus.diagnosis.world import GpuWorld, World
from nereus.gpu import memory
from nereus.gpu.mechanisms import mechanism
from nereus.gpu.offer import Strength, gib
from nereus.gpu.usage import PodUsage

NOT_ON_A_CARD = "not yet proven on a real card by this project"
USED_TOLERANCE = 1.02
"""Used memory includes what the driver reserves."""
LIMIT_TOLERANCE = 1.15
"""Without a label a slice is taken for 90 % of its name; the next larger one has a third more at least."""


# --- why a pod finds no GPU


def why_unschedulable(case: Case, said: str) -> tuple[Reason, str]:
    """The scheduler's words, with what no node can give, where that is the GPU."""
    gpu = case.world.gpu
    if gpu is None:
        return Reason.UNSCHEDULABLE, said
    if gpu.choice.mechanism is Isolation.HAMI and case.pod.scheduler in ("", "default-scheduler"):
        return Reason.GPU_UNAVAILABLE, (
            f"HAMi's webhook did not take this pod (its scheduler is {case.pod.scheduler or 'not set'}): check that it"
            f" runs and covers this namespace; the scheduler: {said}"
        )
    if gpu.missing:
        return Reason.GPU_UNAVAILABLE, f"{gpu.missing}; the scheduler: {said}"
    if match := re.search(r"Insufficient (nvidia\.com/[-a-z0-9.]+)", said):
        return Reason.UNSCHEDULABLE, f"{said} (every {match[1]} that fits {gpu.choice.mechanism} is taken)"
    return Reason.UNSCHEDULABLE, said


# --- what is seen of pods that run


def used(world: World, pod: Pod) -> tuple[PodUsage, ...]:
    """What the agent on the pod's node says of it; empty when it says nothing."""
    node = world.gpu.usage.on(pod.node) if world.gpu else None
    return node.of_pod(pod.uid) if node else ()


def total(entries: tuple[PodUsage, ...]) -> int | None:
    """Bytes over all containers and devices of a pod; None while any of them is not known."""
    amounts = [entry.used_bytes for entry in entries]
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known and len(known) == len(amounts) else None


def not_used(case: Case) -> Iterator[Finding]:
    """A model that runs on the CPU although its pod has a GPU, or a pod whose GPU nobody uses."""
    gpu, report = case.world.gpu, case.report
    if gpu is None or report is None or not case.pod.ready:
        return
    on_cpu = {model.name: model for model in case.world.service.models}
    found = [
        model.name
        for model in report.models
        if model.state is ModelState.READY and set(model.kinds) == {"KIND_CPU"} and _wants_gpu(on_cpu.get(model.name))
    ]
    if found:
        plural = "models run" if len(found) > 1 else "model runs"
        text = f"{plural} on the CPU although the pod has a GPU: {words.listed(found, most=5)}"
        yield case.found(Reason.GPU_NOT_USED, text, subject=",".join(found))
    elif (node := gpu.usage.on(case.pod.node)) and not node.trouble and not node.of_pod(case.pod.uid):
        yield case.found(Reason.GPU_NOT_USED, "the GPU agent sees no process of this pod on any GPU")


def _wants_gpu(model: object) -> bool:
    """Whether a declared model may be expected on the GPU: not where CPU is asked for; ensembles run nowhere."""
    instances = getattr(model, "instances", None)
    ensemble = getattr(model, "ensemble", None)
    return model is not None and ensemble is None and not (instances and instances.kind is InstanceKind.CPU)


def exceeded(case: Case) -> Iterator[Finding]:
    """A pod uses more than was asked for; under a slice that is larger, that is no trouble of anybody."""
    limit = requested(case.world)
    amount = total(used(case.world, case.pod))
    gpu = case.world.gpu
    if gpu is None or limit is None or amount is None or gpu.choice.strength is Strength.HARD or amount <= limit:
        return
    text = f"uses {gib(amount)} of GPU memory, the limit is {gib(limit)}"
    yield case.found(Reason.GPU_MEMORY_EXCEEDED, f"{text}; {gpu.evicted}" if gpu.evicted else text)


def too_small(case: Case) -> Iterator[Finding]:
    """The fetched files alone do not fit into the limit, while they serve or while one is loaded anew."""
    limit, report = requested(case.world), case.report
    if limit is None or report is None:
        return
    declared = {model.name: model for model in case.world.service.models}
    weights = [
        memory.Weights(
            name=model.name,
            file_bytes=model.version_bytes,
            instances=(spec.instances.count or 1) if spec.instances else 1,
            processes=spec.backend == "python",
        )
        for model in report.models
        if model.version_bytes and (spec := declared.get(model.name)) is not None and _wants_gpu(spec)
    ]
    need = memory.need(weights)
    if weights and (said := memory.verdict(limit, need) or memory.reload_warning(limit, need)):
        yield case.found(Reason.GPU_MEMORY_TOO_SMALL, said, subject="memory")


RECORDS: tuple[PodCheck, ...] = (exceeded, not_used, too_small)


# --- the condition and the status


def requested(world: World) -> int | None:
    """spec.gpu.memory in bytes."""
    gpu = world.service.spec.gpu
    return int(gpu.memory.value) if gpu and gpu.memory else None


def limit_bytes(world: World) -> int | None:
    """What a pod may use: the limit in effect, otherwise the one asked for; None where there is neither."""
    in_effect = world.gpu.choice.effective_bytes if world.gpu else None
    return in_effect if in_effect is not None else requested(world)


def conditions(world: World) -> tuple[Condition, ...]:
    """GPUMemoryEnforced, where a limit is asked for."""
    if world.gpu is None or requested(world) is None:
        return ()
    truth, reason, message = _enforced(world, world.gpu)
    return (Condition(type=ConditionType.GPU_MEMORY_ENFORCED, status=truth, reason=reason, message=message),)


def _enforced(world: World, gpu: GpuWorld) -> tuple[Truth, Reason, str]:
    choice, facts = gpu.choice, mechanism(gpu.choice.mechanism)
    if choice.strength is Strength.NONE:
        return Truth.FALSE, Reason.LIMIT_NOT_ENFORCED, f"isolation None: {facts.escapes}"
    if choice.strength is Strength.SOFT:
        return (
            Truth.FALSE,
            Reason.LIMIT_SOFT,
            f"{choice.mechanism} holds {gib(choice.effective_bytes)}, but {facts.escapes}",
        )
    pods = [pod for pod in world.live if pod.ready]
    unseen = "; ".join(dict.fromkeys(why for pod in pods if (why := _unseen(gpu, pod))))
    wrong = "; ".join(f"pod {pod.name}: {why}" for pod in pods if (why := _contradicted(gpu, pod)))
    what = f"{choice.mechanism} limits each pod to {gib(choice.effective_bytes)}"
    if wrong:
        return Truth.FALSE, Reason.LIMIT_MISSING, words.trimmed(wrong)
    if not pods or unseen:
        why = words.trimmed(unseen) or "no pod is ready yet"
        return Truth.UNKNOWN, Reason.LIMIT_NOT_PROVEN, f"{what}, not seen: {why}"
    simulated = any(node.simulated for pod in pods if (node := gpu.usage.on(pod.node)))
    seen = f"{what}; seen in {words.counted(len(pods), 'pod')}{' (simulated GPUs)' if simulated else ''}"
    return Truth.TRUE, Reason.LIMIT_ENFORCED, seen


def _unseen(gpu: GpuWorld, pod: Pod) -> str:
    """Why nothing is known of a pod; empty when something is."""
    if not gpu.usage.asked:
        return "no GPU agent is installed (chart value gpu.agent.enabled)"
    node = gpu.usage.on(pod.node)
    if node is None:
        return f"no GPU agent answers on node {pod.node}"
    if node.trouble:
        return f"the GPU agent on node {pod.node}: {node.trouble}"
    entries = node.of_pod(pod.uid)
    if not entries:
        return "no process of the pod is on a GPU"
    if gpu.choice.mechanism in (Isolation.MIG, Isolation.DRIVER_LIMIT) and any(e.limit_bytes is None for e in entries):
        # Of a limit in the driver, its absence is what must not be taken for good; see `_contradicted`.
        return "" if gpu.choice.mechanism is Isolation.DRIVER_LIMIT else "its processes are not on a MIG slice"
    return ""


def _contradicted(gpu: GpuWorld, pod: Pod) -> str:
    """What shows that the limit does not hold; empty when nothing does."""
    node = gpu.usage.on(pod.node)
    limit = gpu.choice.effective_bytes
    if node is None or node.trouble or limit is None:
        return ""
    for entry in node.of_pod(pod.uid):
        if gpu.choice.mechanism is Isolation.EXCLUSIVE and node.others_on(entry.device, pod.uid):
            return f"another pod uses its GPU {entry.device}"
        if gpu.choice.mechanism is Isolation.DRIVER_LIMIT and entry.limit_bytes is None:
            return "the driver has no limit for its container: is the container toolkit older than 1.20.1?"
        if entry.limit_bytes is not None and entry.limit_bytes > limit * LIMIT_TOLERANCE:
            return f"the limit in effect is {gib(entry.limit_bytes)}, not {gib(limit)}"
        if (entry.peak_bytes or 0) > max(limit, entry.limit_bytes or 0) * USED_TOLERANCE:
            return f"it used {gib(entry.peak_bytes)}, more than {gib(limit)}"
    return ""


def status(world: World, before: GpuStatus | None) -> GpuStatus | None:
    """The section of the status; the peak of this template is kept when its pods are gone."""
    gpu, spec = world.gpu, world.service.spec.gpu
    if gpu is None or spec is None:
        return None
    choice = gpu.choice
    peak = _larger(_peak(world), before.observed_peak if before else None)
    effective = None if choice.effective_bytes is None else gib(choice.effective_bytes)
    simulated = any(node.simulated for pod in world.live if (node := gpu.usage.on(pod.node)))
    return GpuStatus(
        mechanism=choice.mechanism.value,
        enforcement=choice.strength.word,
        requested=str(spec.memory) if spec.memory else None,
        effective_limit=effective,
        observed_peak=peak,
        memory=f"{peak or '?'}/{effective or 'no limit'} {choice.strength.word}" if spec.memory or peak else None,
        simulated=simulated or None,
        pending=words.trimmed(gpu.pending, 1000) or None,
        message=words.trimmed(_message(gpu, world.service), 2000),
    )


def _message(gpu: GpuWorld, service: ModelService) -> str:
    choice, facts = gpu.choice, mechanism(gpu.choice.mechanism)
    parts = [f"{choice.mechanism} ({choice.strength.word}{f', {choice.detail}' if choice.detail else ''})"]
    if choice.assumed:
        parts.append("taken at its word: no node was seen that offers it")
    parts += [f"{name}: {why}" for name, why in choice.others]
    if facts.escapes:
        parts.append(f"what escapes: {facts.escapes}")
    if not facts.isolates_faults:
        parts.append("a fault of another pod on the same GPU can end this one")
    if not gpu.surge:
        who = "the nodes take" if service.surge_fits_gpus else "scaling.limits.gpus allows"
        parts.append(f"{who} no further pod, so a rollout takes one pod away before it adds one")
    if not facts.proven_on_card:
        parts.append(NOT_ON_A_CARD)
    if gpu.evicted:
        parts.append(gpu.evicted)
    return "; ".join(parts)


def _peak(world: World) -> int | None:
    """The most that one Triton container was seen to use, over all pods."""
    peaks = [
        entry.peak_bytes
        for pod in world.live
        for entry in used(world, pod)
        if entry.container in ("", names.CONTAINER_TRITON) and entry.peak_bytes is not None
    ]
    return max(peaks, default=None)


def _larger(peak: int | None, kept: str | None) -> str | None:
    """As text, rounded to a tenth of a GiB: what changes at every look would be a status write at every look."""
    if kept is None:
        return None if peak is None else gib(peak)
    before = float(kept.removesuffix("Gi")) if re.fullmatch(r"[0-9.]+Gi", kept) else 0.0
    return gib(peak) if peak is not None and round(peak / 2**30, 1) > before else kept
