"""One look at one ModelService: read everything from the store, make everything so, say how it is.

Level-triggered: nothing depends on which event woke it, and doing it twice changes nothing. All decisions are made
elsewhere by pure functions (`rendering`, `diagnosis`, `drift`, `replicas`); here is only their order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

from nereus import rendering
from nereus.alerting import rules
from nereus.alerting.thresholds import thresholds
from nereus.api import names, service
from nereus.api.decision import ScalingDecision
from nereus.api.manifests import Manifest, identity
from nereus.api.problems import InvalidSpecError
from nereus.api.reasons import Reason
from nereus.api.service import ModelService
from nereus.controller import pace, replicas
from nereus.controller.apply import REPLICAS, Applier, LeavingError, RefusedError
from nereus.controller.errors import ApiError, ConflictError, NotFoundError, UnavailableError
from nereus.controller.events import EventPoster
from nereus.controller.gateway import Gateway
from nereus.controller.gpuworld import Gpus
from nereus.controller.kinds import (
    AUTOSCALER,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    MODEL_SERVICE,
    POD,
    PROMETHEUS_RULE,
    Kind,
)
from nereus.controller.loadedrules import LoadedRules, Verdict
from nereus.controller.podstate import WAITED_TRIES, PodStates
from nereus.controller.servicemetrics import ServiceMetrics
from nereus.controller.staging import Staging
from nereus.controller.statuswriter import StatusWriter
from nereus.controller.store import Key, Store, service_owner
from nereus.diagnosis import gpu, report, story
from nereus.diagnosis.alerts import AlertsInUse, Loading
from nereus.diagnosis.reading import mapping, number
from nereus.diagnosis.world import ApplyFailure, TemplateInUse, World
from nereus.workload import keeping
from nereus.workload.settings import Settings, absent_strategy

REPORT_WAIT_SECONDS = 15.0
"""Longer than it takes to hear a pod or to give up on it; both wake the service by themselves."""
RULES_AGAIN_SECONDS = 60.0
"""Refused rules are sent again: an admission webhook that was away comes back without a word."""
KEPT_REVISIONS = 10
PRUNED = (CONTROLLER_REVISION, AUTOSCALER)
"""Kinds of which a service may own something that is no longer wished. Nothing else is ever deleted, and the chart
grants no right to: what serves cannot be lost by a mistake here."""
SCALE_ATTEMPTS = 4
"""The Deployment's controller writes its status several times while it starts."""

log = logging.getLogger(__name__)

_fleet_group = cache(rules.fleet_group)
"""The same for every service."""


@dataclass(frozen=True)
class Outcome:
    """What came of it: a word for the metrics, and when to look again (None: only when something happens)."""

    word: str
    again: float | None = None


@dataclass(frozen=True)
class Leaving:
    """An object of this name is still being deleted."""


@dataclass(frozen=True)
class Made:
    """What the writing half did: what could not be made, and whether to come back although nothing failed.

    Refused alert rules are told apart: a service serves without them.
    """

    failures: tuple[ApplyFailure, ...] = ()
    leaving: bool = False
    rules_refused: str = ""


@dataclass(frozen=True)
class Reconciler:
    """Everything that one look needs."""

    gateway: Gateway
    store: Store
    applier: Applier
    statuses: StatusWriter
    events: EventPoster
    pods: PodStates
    staging: Staging
    gpus: Gpus
    settings: Callable[[], Settings]
    loaded: LoadedRules
    figures: ServiceMetrics
    decision: Callable[[Key], ScalingDecision | None] = lambda _: None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def reconcile(self, key: Key) -> Outcome:
        """Raises ApiError when the API server cannot be worked with; the caller tries again later."""
        resource = self.store.get(MODEL_SERVICE, key)
        if resource is None or resource["metadata"].get("deletionTimestamp"):
            self._forget(key)  # its objects go with it: garbage collection needs nobody
            return Outcome("gone")
        previous = mapping(resource.get("status"))
        if self._unheard(key, resource, previous):
            return Outcome("waiting", REPORT_WAIT_SECONDS)
        try:
            wished = service.read(resource, absent_strategy=absent_strategy(self.settings()))
            decision = self.decision(key) if wished.forecasts else None
            rendered = await self._render(wished, decision)
            pods = self._pods(key)
            staged = self.staging.stage(wished, rendered, pods)
        except rendering.GpuUnavailableError as error:
            self.gpus.nodes.missing(key, is_missing=True)
            status = report.invalid(
                resource, error.problems, previous=previous, now=self.now(), reason=Reason.GPU_UNAVAILABLE
            )
            return await self._tell(resource, previous, status, Outcome("invalid"))
        except InvalidSpecError as error:
            status = report.invalid(resource, error.problems, previous=previous, now=self.now())
            return await self._tell(resource, previous, status, Outcome("invalid"))
        made = Made() if wished.suspended else await self._make(wished, staged.rendered)
        pods = self._pods(key)
        self.pods.watch(key, pods, settled=pace.settled(previous) and staged.stage.following is None)
        if not wished.suspended:
            await self.staging.restart(wished, staged.stage)
            await self.staging.tell(key, pods, staged.stage)
        if self.pods.unasked(key, tries=WAITED_TRIES if pace.settled(previous) else 1):
            return Outcome("waiting", REPORT_WAIT_SECONDS)  # an operator that just started knows no report yet
        world = World.read(
            wished,
            plan_revision=staged.wanted,
            stage=staged.in_use,
            pods=pods,
            deployment=self._child(DEPLOYMENT, wished),
            autoscaler=self._child(AUTOSCALER, wished),
            reports=self.pods.reports(key),
            warnings=self.pods.warnings(key),
            apply_failures=made.failures,
            template=TemplateInUse(
                revision=rendered.template.revision, hash=rendered.template.hash, pending=rendered.pending or ""
            ),
            alerts=self._alerts(key, wished, rendered, made.rules_refused),
            gpu=self.gpus.world(wished, rendered.gpu),
            decision=decision,
            floor=rendered.floor if wished.acts else None,
            external_metrics=self.settings().external_metrics,
        )
        status = report.status(world, previous=previous, now=self.now())
        fleet = self.settings().alert_rules == "Fleet"
        self.figures.put(
            key,
            status,
            latency_seconds=wished.latency_objective.seconds,
            limits=rules.limits(thresholds(wished)) if fleet else rules.NO_LIMITS,
            gpu_limit_bytes=gpu.limit_bytes(world),
            forecast_median=decision.forecast if decision else None,
        )
        word = "refused" if made.failures else "suspended" if wished.suspended else "done"
        again = 1.0 if made.leaving else RULES_AGAIN_SECONDS if made.rules_refused else None
        return await self._tell(resource, previous, status, Outcome(word, again))

    def _unheard(self, key: Key, resource: Mapping[str, Any], previous: Mapping[str, Any]) -> bool:
        """Whether this is the first look of an operator that just started at a service that was well, whose pods are
        yet to be asked: a second later everything is looked at once, and not twice (half of what a start cost)."""
        unchanged = previous.get("observedGeneration") == resource["metadata"]["generation"]
        if not unchanged or self.pods.knows(key) or not pace.settled(previous):
            return False
        self.pods.watch(key, self._pods(key), settled=True)
        return self.pods.unasked(key, tries=WAITED_TRIES)

    async def _render(self, wished: ModelService, decision: ScalingDecision | None) -> rendering.Rendered:
        """Raises InvalidSpecError. A template that is not stored is rendered only when the API server, not merely the
        store, knows none for these inputs: a predecessor may have stored it a moment ago, and pods would restart."""
        key = Key(wished.namespace, wished.name)
        nodes = await self.gpus.nodes.current(key) if wished.spec.gpu else None
        live = self._child(AUTOSCALER, wished)
        for looked in (False, True):
            kept = _owned(self.store.children(key, CONTROLLER_REVISION), wished)
            stored = [manifest for manifest in kept if not keeping.is_plan(manifest)]
            try:
                rendered = rendering.render(
                    wished,
                    settings=self.settings(),
                    stored=stored,
                    nodes=nodes,
                    decision=decision,
                    live_floor=number(mapping(live.get("spec")).get("minReplicas"), 1) if live else None,
                )
            except rendering.GpuUnavailableError:
                if looked:
                    raise
            else:
                if rendered.template.revision in {manifest["metadata"]["name"] for manifest in stored} or looked:
                    return rendered
            selector = f"{names.MANAGED_SELECTOR},{names.LABEL_SERVICE}={wished.name}"
            for manifest in await self.gateway.list_objects(
                CONTROLLER_REVISION, namespace=wished.namespace, selector=selector
            ):
                self.store.put(manifest)
        raise AssertionError("the second look returns")

    async def _make(self, wished: ModelService, rendered: rendering.Rendered) -> Made:
        """Every object as it is wished; one that is refused does not keep the others from being made."""
        results: list[ApplyFailure | Leaving | None] = []
        for group in _together(rendered.objects):
            answers = await asyncio.gather(*(self._make_one(each, wished) for each in group), return_exceptions=True)
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
                results.append(answer)
        failures = [result for result in results if isinstance(result, ApplyFailure)]
        refused = [failure for failure in failures if failure.object.startswith(f"{PROMETHEUS_RULE} ")]
        failures = [failure for failure in failures if failure not in refused]
        leaving = any(isinstance(result, Leaving) for result in results)
        if not failures and not leaving:
            await self._prune(wished, rendered)
        try:
            await self._scale(wished, rendered.floor)
        except RefusedError as error:
            failures.append(error.failure)
        except ApiError as error:
            if error.status in (0, 409) or isinstance(error, UnavailableError):
                raise
            failures.append(
                ApplyFailure(object=f"{DEPLOYMENT} {wished.name}", reason=error.reason, message=error.message)
            )
        return Made(tuple(failures), leaving, "; ".join(f"{rule.reason}: {rule.message}" for rule in refused))

    async def _make_one(self, manifest: Manifest, wished: ModelService) -> ApplyFailure | Leaving | None:
        try:
            if manifest["kind"] == DEPLOYMENT.kind:
                await self._prepare(manifest, wished)
            await self.applier.apply(manifest, wished)
        except RefusedError as error:
            return error.failure
        except LeavingError as error:
            log.info("%s; waiting", error, extra={"service": wished.key})
            return Leaving()
        return None

    async def _prepare(self, deployment: Manifest, wished: ModelService) -> None:
        """A Deployment whose number of pods is ours is created with it (see replicas.created)."""
        first = replicas.created(wished, deployment)
        if first is None or self.store.get(DEPLOYMENT, Key(wished.namespace, wished.name)):
            return
        if await self.gateway.get_or_none(DEPLOYMENT, wished.namespace, wished.name) is None:
            self.store.put(await self.gateway.apply(DEPLOYMENT, first, manager=names.REPLICAS_MANAGER))

    async def _scale(self, wished: ModelService, floor: int) -> None:
        """The number of pods, when it is ours to write; looks again when the Deployment changed under our hands."""
        key = Key(wished.namespace, wished.name)
        for attempt in range(1, SCALE_ATTEMPTS + 1):
            deployment = self._child(DEPLOYMENT, wished)
            wish = replicas.wish(wished, deployment, floor=floor) if deployment else None
            if deployment is None or wish is None:
                return
            try:
                await self.applier.heal(
                    DEPLOYMENT,
                    key,
                    f"{wish.replicas}",
                    REPLICAS,
                    partial(self._write_replicas, wished, deployment, wish),
                )
                return
            except ConflictError:
                if attempt == SCALE_ATTEMPTS:
                    raise
                self.store.put(await self.gateway.get(DEPLOYMENT, *key))

    async def _write_replicas(self, wished: ModelService, deployment: Manifest, wish: replicas.Wish) -> None:
        log.info("replicas -> %d (%s)", wish.replicas, wish.way.value, extra={"service": wished.key})
        manager = names.REPLICAS_MANAGER
        if wish.way is replicas.Way.APPLY:
            body = replicas.applied(wished, wish.replicas)
            self.store.put(await self.gateway.apply(DEPLOYMENT, body, manager=manager))
            return
        patch = replicas.scaled(deployment, wish.replicas)
        await self.gateway.merge(DEPLOYMENT, wished.namespace, wished.name, patch, subresource="scale", manager=manager)

    def _alerts(self, key: Key, wished: ModelService, rendered: rendering.Rendered, refused: str) -> AlertsInUse:
        """Whether the alerts of a service are where they work."""
        settings = self.settings()
        count = len(rules.limits(thresholds(wished)))
        if settings.alert_rules == "Fleet":
            group: Mapping[str, Any] | None = _fleet_group(pace=settings.alert_pace, runbooks=settings.runbooks)
        else:
            made = (item for item in rendered.objects if item["kind"] == PROMETHEUS_RULE.kind)
            group = next((item["spec"]["groups"][0] for item in made), None)
        if group and count and not refused:
            verdict = self.loaded.look(key, group)
        else:
            self.loaded.forget(key)
            verdict = Verdict(Loading.UNASKED)
        return AlertsInUse(
            way=settings.alert_rules,
            known=settings.prometheus_rule,
            wished=count,
            refused=refused,
            loading=verdict.loading,
            words=verdict.words,
        )

    async def _prune(self, wished: ModelService, rendered: rendering.Rendered) -> None:
        """Removes what is ours and no longer wished, pod templates beyond the newest ten, and old plans."""
        wanted = {identity(manifest) for manifest in rendered.objects}
        key = Key(wished.namespace, wished.name)
        surplus: list[Manifest] = []
        for kind in PRUNED:
            ours = [child for child in _owned(self.store.children(key, kind), wished) if identity(child) not in wanted]
            if kind is CONTROLLER_REVISION:
                newest = sorted(ours, key=lambda child: int(child.get("revision") or 0), reverse=True)
                plans = [child for child in newest if keeping.is_plan(child)]
                ours = [child for child in newest if not keeping.is_plan(child)][KEPT_REVISIONS - 1 :]
                ours += plans[keeping.KEPT_PLANS :]
            surplus += ours
        for child in surplus:
            if not child["metadata"].get("deletionTimestamp"):
                await self.applier.delete(child)
        if self.settings().prometheus_rule and not any(kind == PROMETHEUS_RULE.kind for kind, _, _ in wanted):
            await self.applier.remove_unwatched(PROMETHEUS_RULE, wished)

    async def _tell(
        self, resource: Mapping[str, Any], previous: Mapping[str, Any], status: Mapping[str, Any], outcome: Outcome
    ) -> Outcome:
        """Writes the status and its story, and says when to look again."""
        key = Key(resource["metadata"]["namespace"], resource["metadata"]["name"])
        try:
            wait = await self.statuses.write(key, status, uid=resource["metadata"]["uid"])
        except NotFoundError:
            return Outcome("gone")
        if wait is None:
            await self.events.post(resource, story.events(previous, status))
        again = [outcome.again, wait, pace.again(status, now=self.now())]
        return Outcome(outcome.word, min(moment for moment in again if moment is not None))

    def _pods(self, key: Key) -> list[Manifest]:
        """The pods of the Deployment; a pod that somebody labelled like ours is none of them."""
        return [pod for pod in self.store.children(key, POD) if _made_by_deployment(pod, key.name)]

    def _child(self, kind: Kind, wished: ModelService) -> Manifest | None:
        found = self.store.get(kind, Key(wished.namespace, wished.name))
        return found if found is not None and _owned([found], wished) else None

    def _forget(self, key: Key) -> None:
        self.pods.forget(key)
        self.gpus.forget(key)
        self.applier.forget(key)
        self.statuses.forget(key)
        self.events.forget(key)
        self.loaded.forget(key)
        self.figures.forget(key)


def _together(objects: Sequence[Manifest]) -> Iterator[Sequence[Manifest]]:
    """Objects that may be written at the same time: what the Deployment needs, itself, and what needs it."""
    kinds = [manifest["kind"] for manifest in objects]
    middle = kinds.index(DEPLOYMENT.kind)
    yield from (objects[:middle], objects[middle : middle + 1], objects[middle + 1 :])


def _owned(manifests: Sequence[Manifest], wished: ModelService) -> list[Manifest]:
    return [manifest for manifest in manifests if (service_owner(manifest) or {}).get("uid") == wished.uid]


def _made_by_deployment(pod: Mapping[str, Any], name: str) -> bool:
    references = pod["metadata"].get("ownerReferences") or ()
    return any(
        reference.get("kind") == "ReplicaSet" and str(reference.get("name", "")).startswith(f"{name}-")
        for reference in references
    )
