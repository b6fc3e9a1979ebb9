"""What is merely under way, in the order of a pod's life; asked only of pods that nothing else explains.

Why apart from `checks`: these sentences change while all is well, so they name no number that ticks, and none of
them asks for a person. Deliberately without a view on how long is too long; `checks.unhealthy` has that.
"""

from __future__ import annotations

from collections.abc import Iterator

from nereus.api import names
from nereus.api.protocol import ModelState
from nereus.api.reasons import Reason
from nereus.diagnosis import words
from nereus.diagnosis.finding import Case, Finding, PodCheck, WorldCheck
from nereus.diagnosis.world import World, titled

FETCHING = (ModelState.PENDING, ModelState.FETCHING)


def unplaced(case: Case) -> Iterator[Finding]:
    """The scheduler has not looked at the pod yet."""
    if not case.pod.node and case.pod.scheduled_at is None:
        yield case.found(Reason.CREATING, "waits for the scheduler")


def starting(case: Case) -> Iterator[Finding]:
    """Images are pulled and containers start: first the sidecar, then, with the models there, Triton."""
    sidecar, server = case.pod.sidecar, case.pod.server
    if sidecar is None or not sidecar.running:
        yield case.found(Reason.CONTAINERS_STARTING, f"container {names.CONTAINER_SIDECAR} starts")
    elif case.report is None:
        yield case.found(Reason.CONTAINERS_STARTING, "the sidecar runs and has not reported yet")
    elif not _left(case, *FETCHING) and (server is None or not server.running):
        yield case.found(
            Reason.CONTAINERS_STARTING, f"the models are fetched, container {names.CONTAINER_TRITON} starts"
        )


def stale_plan(case: Case) -> Iterator[Finding]:
    """The sidecar has not seen the newest plan: the kubelet brings it, or another pod tries it first."""
    world = case.world
    if case.pod in world.staying and case.pod.name not in world.stage.tries:
        yield case.found(Reason.CHANGING, f"goes on with the former models and settings; {world.stage.message}")
    elif case.report and case.report.revision != case.world.plan_revision:
        yield case.found(Reason.RECONCILING, "has not taken up the newest models and settings yet")


def fetching(case: Case) -> Iterator[Finding]:
    if waiting := _left(case, *FETCHING):
        yield case.found(
            Reason.FETCHING_MODELS, f"fetches {words.listed(map(titled, waiting))}{_how_far(case, waiting)}"
        )


def _how_far(case: Case, waiting: list[str]) -> str:
    """How much has arrived, in steps of a tenth: a number that ticks would be a write of the status each time."""
    reports = [report for name in waiting if (report := case.world.model(case.pod, name)) and report.total_bytes]
    total = sum(report.total_bytes or 0 for report in reports)
    if not total:
        return ""
    tenths = int(10 * sum(report.fetched_bytes or 0 for report in reports) / total)
    return f" ({10 * min(tenths, 10)} % of {words.size(total)})"


def loading(case: Case) -> Iterator[Finding]:
    if waiting := _left(case, ModelState.FETCHED, ModelState.LOADING, ModelState.UNLOADING):
        yield case.found(Reason.LOADING_MODELS, f"loads and warms up {words.listed(waiting)}")
    elif case.report and not case.report.server_live:
        yield case.found(Reason.LOADING_MODELS, "Triton starts")
    elif not case.pod.ready:
        yield case.found(Reason.LOADING_MODELS, "every model is loaded, the readiness probe comes next")


def _left(case: Case, *states: ModelState) -> list[str]:
    """Declared models that are in one of the states in this pod; one that is not reported is pending."""
    reported = {name: case.world.model(case.pod, name) for name in case.world.named}
    return [name for name, model in reported.items() if (model.state if model else ModelState.PENDING) in states]


def rolling_out(world: World) -> Iterator[Finding]:
    """Pods of a former template are being replaced."""
    deployment = world.deployment
    if deployment is None or world.rolled_out:
        return
    if not deployment.observed:
        yield Finding(reason=Reason.ROLLING_OUT, text="the Deployment takes up the new template")
    else:
        yield Finding(
            reason=Reason.ROLLING_OUT,
            text=f"{deployment.updated}/{world.wanted} pods have the new template,"
            f" {max(deployment.total - deployment.updated, 0)} the former one",
        )


def scaling_pods(world: World) -> Iterator[Finding]:
    """There are fewer pods than are wanted: they are being created, the first ones or further ones."""
    if world.deployment is None:
        yield Finding(reason=Reason.CREATING, text="the Deployment is being created")
    elif not world.rolled_out:
        return
    elif not world.live and world.wanted:
        yield Finding(reason=Reason.CREATING, text=f"{words.counted(world.wanted, 'pod')} being created")
    elif len(world.live) != world.wanted:
        yield Finding(reason=Reason.SCALING_PODS, text=f"from {len(world.live)} to {world.wanted} pods")


POD_PROGRESS: tuple[PodCheck, ...] = (unplaced, starting, stale_plan, fetching, loading)
WORLD_PROGRESS: tuple[WorldCheck, ...] = (rolling_out, scaling_pods)
