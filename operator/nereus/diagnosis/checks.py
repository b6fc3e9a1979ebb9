"""Why it is not ready: a chain of sentences about the world, over all pods, the most telling first.

The first check that speaks is the REASON column; all that speak are in `status.reasons`. The order follows the life
of a pod: what keeps it from existing, then from being placed, from starting, from having its models, from staying
alive, from loading, from answering. A new check is a function here and its place in the chain. `progress` holds the
sentences about what is merely under way. Deliberately decides nothing about conditions; see `report`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

from nereus.api import names
from nereus.api.protocol import PATH_STATE, ModelReport, ModelState
from nereus.api.reasons import Reason
from nereus.diagnosis import gpu, words
from nereus.diagnosis.finding import Case, Finding, PodCheck, WorldCheck
from nereus.diagnosis.objects import Container, Ended
from nereus.diagnosis.reading import unix
from nereus.diagnosis.world import World, titled

VOLUME_GRACE = timedelta(seconds=20)
"""Mounting volumes and making the sandbox of a placed pod takes a few seconds when nothing is missing."""
WARNING_GRACE = timedelta(seconds=5)
"""A mount may fail once because the kubelet's cache has not seen a ConfigMap yet; it tries again within a second."""
REPORT_GRACE = timedelta(seconds=60)
"""A sidecar answers about a second after its start; after this long somebody has to look."""
SERVER_GRACE = timedelta(seconds=120)
"""Triton answers its health probe after seconds, on a GPU that is initialised for the first time after tens."""
READY_GRACE = timedelta(seconds=60)
"""Several periods of the readiness probe."""
SAME_MOMENT = timedelta(seconds=15)
"""Between the end of a container and the kubelet's word that the pod is not ready lie a few seconds."""
RECORD_AGE = timedelta(hours=1)
"""How long it is said of a pod that serves that it was killed for memory."""

KILLED = 137
"""128 + SIGKILL: the exit code of a process that somebody killed."""

IMAGE_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
CONFIG_REASONS = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "PreCreateHookError",
        "PreStartHookError",
        "PostStartHookError",
    }
)


# --- the service as a whole


def suspended(world: World) -> Iterator[Finding]:
    """A person stopped reconciliation: whatever else is wrong will not be repaired."""
    if world.service.suspended:
        yield Finding(reason=Reason.SUSPENDED, text="spec.suspend is true: nothing is reconciled")


def apply_failures(world: World) -> Iterator[Finding]:
    """The API server refused an object; its words name the quota, the policy or the field."""
    for failure in world.apply_failures:
        taken = failure.reason == Reason.NAME_TAKEN.value
        text = f"{failure.object}: {words.trimmed(failure.message) or failure.reason}"
        if failure.manager and failure.manager not in text:
            text += f" ({'belongs to' if taken else 'in conflict with'} {failure.manager})"
        yield Finding(reason=Reason.NAME_TAKEN if taken else Reason.APPLY_FAILED, text=text, subject=failure.object)


def pods_refused(world: World) -> Iterator[Finding]:
    """The ReplicaSet may not create pods: quota, limit range or admission, in the API server's words."""
    if world.deployment and (refusal := world.deployment.condition("ReplicaFailure")).is_true:
        yield Finding(
            reason=Reason.PODS_REFUSED,
            text=words.refusal(refusal.message) or refusal.reason or "the ReplicaSet cannot create pods",
            since=refusal.since,
        )


# --- before the containers run


def unschedulable(case: Case) -> Iterator[Finding]:
    """The scheduler found no node: its own words name what is missing."""
    verdict = case.pod.condition("PodScheduled")
    if not verdict.is_false:
        return
    text = words.scheduler(verdict.message) or verdict.reason or "no node was found"
    if "unbound immediate PersistentVolumeClaims" in text and (claims := _sources(case.world, "pvc")):
        text += f" (claims in use: {words.listed(claims)})"
    reason, text = gpu.why_unschedulable(case, text)
    yield case.found(reason, text, since=verdict.since)


def image_pull(case: Case) -> Iterator[Finding]:
    """An image does not come: which, and the container runtime's words."""
    for container in case.containers(lambda one: one.waiting_reason in IMAGE_REASONS):
        why = words.pull(container.waiting_message) or container.waiting_reason
        text = f"image of container {container.name}: {why}"
        if container.image and container.image not in why:
            text = f"image {container.image} of container {container.name}: {why}"
        yield case.found(Reason.IMAGE_PULL_FAILED, text, subject=container.name)


def container_config(case: Case) -> Iterator[Finding]:
    """The kubelet cannot create a container: a missing Secret or key, a bad mount, a bad command."""
    for container in case.containers(lambda one: one.waiting_reason in CONFIG_REASONS):
        why = words.trimmed(container.waiting_message) or container.waiting_reason
        yield case.found(Reason.CONTAINER_CONFIG_ERROR, f"container {container.name}: {why}", subject=container.name)


def volumes(case: Case) -> Iterator[Finding]:
    """A placed pod without a sandbox waits for its volumes: the event says which, else the sources that are mounted.

    The kubelet reports a missing ConfigMap or an unbound claim in no field of the pod, only as an event.
    """
    pod, started = case.pod, case.pod.condition("PodReadyToStartContainers")
    begun = started.is_true or any(one.running or one.ended or one.restarts for one in pod.containers)
    if begun or not case.older(pod.scheduled_at, WARNING_GRACE):
        return
    if case.warning:
        text = words.trimmed(case.warning)
        used = [
            f"{model.name} (spec.models[{index}])"
            for index, model in enumerate(case.world.service.models)
            if model.uri and model.uri.is_volume and re.search(rf'"{re.escape(model.uri.name)}"', text)
        ]
        suffix = f"; source of {words.listed(used)}" if used else ""
        yield case.found(Reason.CONTAINER_CONFIG_ERROR, text + suffix, since=pod.scheduled_at)
    elif case.older(pod.scheduled_at, VOLUME_GRACE):
        mounted = [f"ConfigMap {name}" for name in _sources(case.world, "configmap")]
        mounted += [f"PersistentVolumeClaim {name}" for name in _sources(case.world, "pvc")]
        what = f"its volumes; does it exist: {words.listed(mounted, most=5)}?" if mounted else "its volumes or network"
        yield case.found(
            Reason.CONTAINER_CONFIG_ERROR, f"no container can start, the pod waits for {what}", since=pod.scheduled_at
        )


def _sources(world: World, scheme: str) -> list[str]:
    """Names of the volume-backed sources of one scheme, each once, in the order of the models."""
    uris = (source.uri for source in world.service.sources)
    return list(dict.fromkeys(uri.name for uri in uris if uri.scheme == scheme))


# --- the models' files


def fetch_failed(case: Case) -> Iterator[Finding]:
    """The sidecar cannot fetch a model: the last words of the source."""
    for model, uri in _models(case, ModelState.FETCH_FAILED):
        text = f"{titled(model.name, 'model ')}: {words.last_lines(model.message) or 'its files cannot be fetched'}"
        if uri and uri not in text:
            text += f" (from {words.trimmed(uri, 200)})"
        yield case.found(Reason.FETCH_FAILED, text, subject=model.name)


def config_invalid(case: Case) -> Iterator[Finding]:
    """The source's configuration and the resource's do not fit together."""
    for model, _ in _models(case, ModelState.CONFIG_INVALID):
        why = words.trimmed(model.message) or "the model configuration is not valid"
        yield case.found(Reason.MODEL_CONFIG_INVALID, f"model {model.name}: {why}", subject=model.name)


def _models(case: Case, state: ModelState) -> Iterator[tuple[ModelReport, str]]:
    """The declared models that a pod reports in one state, each with the URI that the spec gives."""
    reported = case.report.models if case.report else ()
    found = {model.name: model for model in reported if model.state is state}
    for name, uri in case.world.named.items() if found else ():
        if name in found:
            yield found[name], uri


# --- the processes


def out_of_memory(case: Case) -> Iterator[Finding]:
    """A container was killed at its memory limit."""
    for container, _ in _failures(case, out_of_memory=True):
        yield case.found(Reason.OUT_OF_MEMORY, f"{_killed(container)} and was killed", subject=container.name)


def _killed(container: Container) -> str:
    limit = container.memory_limit
    why = f"reached its memory limit {limit}" if limit else "has no memory limit and the node ran out of memory"
    return f"container {container.name} {why}"


def crashing(case: Case) -> Iterator[Finding]:
    """A container ends: with which exit code, and its last lines."""
    for container, ended in _failures(case, out_of_memory=False):
        reason = "" if ended.reason in ("Error", "Completed") else ended.reason
        said = "; ".join(part for part in (reason, _last_words(case, container, ended)) if part)
        text = f"container {container.name} ended with exit code {ended.exit_code}"
        if ended.exit_code == KILLED:
            text += " (killed from outside, often after failed probes)"
        yield case.found(Reason.CRASHING, f"{text}: {said}" if said else text, subject=container.name)


def _last_words(case: Case, container: Container, ended: Ended) -> str:
    """What a container said last. After an argument that it does not take, tritonserver prints all of its flags, and
    the kubelet keeps only the end of that: then the arguments themselves say more.
    """
    if container.name != names.CONTAINER_TRITON or not words.is_manual(ended.message):
        return words.last_lines(ended.message)
    given = words.trimmed(words.listed(case.world.service.runtime.args or (), most=5), 200)
    whose = f"correct spec.runtime.args ({given})" if given else "this Triton lacks a flag that Nereus sets"
    return f"an argument that it does not take: {whose}; `kubectl logs POD -c {container.name}` begins with its words"


def _failures(case: Case, *, out_of_memory: bool) -> Iterator[tuple[Container, Ended]]:
    """The containers whose end explains why the pod is not ready, with that end."""
    for container in case.pod.containers:
        ended = _failure(case, container)
        if ended and ended.out_of_memory is out_of_memory:
            yield container, ended


def _failure(case: Case, container: Container) -> Ended | None:
    """How a container ended, while that is why the pod is not ready.

    A container that was started again still counts until the pod is ready: between two crashes of a loop it runs
    for a moment, and that moment is no recovery. An end from before the pod was last ready does not count.
    """
    if container.waiting_reason == "CrashLoopBackOff":
        return container.ended_before or Ended(exit_code=0)
    if container.ended:
        return container.ended if container.ended.failed else None
    before = container.ended_before
    if not before or not before.failed or case.pod.ready:
        return None
    unready, finished = case.pod.unready_since, before.finished_at
    return before if not unready or not finished or finished > unready - SAME_MOMENT else None


def load_failed(case: Case) -> Iterator[Finding]:
    """Triton cannot load a model: Triton's words."""
    for model, _ in _models(case, ModelState.LOAD_FAILED):
        why = words.last_lines(model.message) or "Triton cannot load it"
        serving = " (the former version goes on serving)" if model.serving else ""
        yield case.found(Reason.MODEL_LOAD_FAILED, f"model {model.name}: {why}{serving}", subject=model.name)


def taken_back(case: Case) -> Iterator[Finding]:
    """A pod that tried a change serves the former models again, because Triton did not survive it."""
    report, tried = case.report, case.world.stage.next
    if report and tried and report.rejected == tried:
        text = f"{words.trimmed(report.rejected_why, 300)}; it went back to the former models and settings"
        yield case.found(Reason.CHANGE_TAKEN_BACK, text)


# --- what runs and does not answer; asked only of pods that nothing above explains


def unhealthy(case: Case) -> Iterator[Finding]:
    """Everything runs and yet the pod is not ready: which of its parts does not answer."""
    pod, report, sidecar, server = case.pod, case.report, case.pod.sidecar, case.pod.server
    text = ""
    if report is None:
        if sidecar and case.older(sidecar.started_at, REPORT_GRACE):
            text = f"the sidecar runs, but GET {PATH_STATE} has not been answered to the operator (a NetworkPolicy?)"
    elif not report.revision and sidecar and case.older(sidecar.started_at, REPORT_GRACE):
        text = "the sidecar has no plan"
    elif server and not report.server_live and case.older(server.started_at, SERVER_GRACE):
        text = "Triton runs, but does not answer its health probe"
    elif report.ready and case.older(unix(report.ready_at), READY_GRACE) and case.older(pod.unready_since, READY_GRACE):
        fact = pod.condition("Ready")
        said = words.trimmed(fact.message) or fact.reason
        text = "its sidecar says ready, but the kubelet does not" + (f": {said}" if said else "")
    if text:
        for said in (*(report.problems if report else ()), case.warning):
            text += f"; {words.trimmed(said, 300)}" if said else ""
        yield case.found(Reason.UNHEALTHY, text)


def stuck_rollout(world: World) -> Iterator[Finding]:
    """The Deployment gave up waiting and no pod says why."""
    if world.deployment and not world.rolled_out:
        progress = world.deployment.condition("Progressing")
        if progress.is_false and progress.reason == "ProgressDeadlineExceeded":
            yield Finding(reason=Reason.UNHEALTHY, text=words.trimmed(progress.message), since=progress.since)


# --- records of what is over


def evicted(case: Case) -> Iterator[Finding]:
    """The kubelet removed a pod; its record stays until it is collected, the ReplicaSet made another one."""
    pod = case.pod
    if pod.phase == "Failed" and pod.reason and not pod.deleting:
        why = words.trimmed(pod.message)
        yield case.found(Reason.EVICTED, f"{pod.reason}: {why}" if why else pod.reason, subject=pod.reason)


def killed_before(case: Case) -> Iterator[Finding]:
    """A pod that serves again after a container was killed for memory: it will happen again."""
    for container in case.pod.containers if case.pod.ready else ():
        before = container.ended_before
        if before and before.out_of_memory and before.finished_at and not case.older(before.finished_at, RECORD_AGE):
            text = f"{_killed(container)}, was killed and serves again"
            yield case.found(Reason.OUT_OF_MEMORY, text, subject=container.name)


def drifted(case: Case) -> Iterator[Finding]:
    """Somebody changed a model in Triton, past the resource; the sidecar put it right."""
    for model in case.report.models if case.report else ():
        if model.drift:
            text = f"model {model.name}: {words.trimmed(model.drift, 300)}; it was put right"
            yield case.found(Reason.DRIFTED, text, subject=model.name)


WORLD_CHECKS: tuple[WorldCheck, ...] = (suspended, apply_failures, pods_refused)
POD_CHECKS: tuple[PodCheck, ...] = (
    unschedulable,
    image_pull,
    container_config,
    volumes,
    fetch_failed,
    config_invalid,
    out_of_memory,
    crashing,
    load_failed,
    taken_back,
)
POD_SYMPTOMS: tuple[PodCheck, ...] = (unhealthy,)
WORLD_SYMPTOMS: tuple[WorldCheck, ...] = (stuck_rollout,)
RECORDS: tuple[PodCheck, ...] = (*gpu.RECORDS, killed_before, evicted, drifted)
