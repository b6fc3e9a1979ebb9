"""Carries out a staged change: reads what surrounds it, tells the pods, replaces them where they must be.

The decision is made elsewhere (nereus.workload.stages); here is what it needs from the store and what it asks of the
API server beyond the objects of the service.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nereus.api import names
from nereus.api.manifests import Manifest
from nereus.api.problems import InvalidSpecError
from nereus.api.protocol import PodReport
from nereus.api.service import ModelService
from nereus.api.stages import bundle, next_bundle
from nereus.controller import drift
from nereus.controller.errors import ApiError
from nereus.controller.gateway import Gateway
from nereus.controller.kinds import CONFIG_MAP, CONTROLLER_REVISION, DEPLOYMENT, POD
from nereus.controller.podstate import PodStates
from nereus.controller.store import Key, Store, service_owner
from nereus.diagnosis.objects import Deployment, Pod
from nereus.diagnosis.world import StageInUse
from nereus.rendering import Rendered
from nereus.triton import server
from nereus.workload import keeping, stages
from nereus.workload.plan import config_maps, packed
from nereus.workload.stages import RunningPod, Situation, Stage

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Staged:
    """A rendered service with the plan that its pods shall run now: `rendered` has the ConfigMaps of the stage."""

    rendered: Rendered
    stage: Stage
    wanted: str
    kept: tuple[str, ...] = ()

    @property
    def in_use(self) -> StageInUse:
        """What a status says of it."""
        following = self.stage.following
        return StageInUse(
            revision=self.stage.stable.revision,
            next=following.plan.revision if following else "",
            message=self.stage.message,
            kept=self.kept,
            tries=frozenset(self.stage.first),
        )


@dataclass(frozen=True)
class Staging:
    """Everything that a stage needs."""

    gateway: Gateway
    store: Store
    pods: PodStates

    def stage(self, wished: ModelService, rendered: Rendered, pods: Sequence[Manifest]) -> Staged:
        """Who gets which plan now. Raises InvalidSpecError when the user rolls back to a plan that is not kept."""
        key = Key(wished.namespace, wished.name)
        live = self._live(wished)
        stored = self.store.children(key, CONTROLLER_REVISION)
        kept = [item for item in stored if keeping.is_plan(item) and _uid_of_owner(item) == wished.uid]
        shards = tuple(manifest["data"] for manifest in rendered.objects if manifest["kind"] == CONFIG_MAP.kind)
        wanted = bundle({name: text for shard in shards for name, text in shard.items()})
        if wanted is None:
            raise InvalidSpecError(())  # a rendered plan is whole
        if wished.rollback_to:
            data = {name: text for shard in live for name, text in shard.items()}
            tried = next_bundle(data)
            wanted = keeping.asked_for(wished, (wanted, bundle(data), tried[1] if tried else None), kept)
            shards = packed(wanted.plan, wanted.documents)
        stage = stages.decide(wanted, shards, live, self._situation(wished, rendered, pods))
        if stage.message and stage.phase is stages.Phase.DONE:
            log.info("models and settings %s go to all pods: %s", wanted.revision, stage.message)
        keeper = keeping.kept(wished, stage.kept, kept) if stage.kept else None
        objects = (
            *config_maps(wished, stage.data),
            *([keeper] if keeper else ()),
            *(manifest for manifest in rendered.objects if manifest["kind"] != CONFIG_MAP.kind),
        )
        return Staged(
            rendered=replace(rendered, objects=objects),
            stage=stage,
            wanted=wanted.revision,
            kept=keeping.revisions(kept),
        )

    async def tell(self, key: Key, pods: Iterable[Manifest], stage: Stage) -> None:
        """Tells the kubelet to bring a new plan now: it syncs a pod that changed (see names.ANNOTATION_NUDGE)."""
        reports = self.pods.reports(key)
        for pod in pods:
            metadata = pod["metadata"]
            revision = stage.revision_of(metadata["name"])
            told = (metadata.get("annotations") or {}).get(names.ANNOTATION_NUDGE)
            known = reports.get(metadata["uid"])
            # A pod that has not reported yet started with the plan of now.
            if known is None or revision in (known.revision, told) or metadata.get("deletionTimestamp"):
                continue
            patch = {"metadata": {"uid": metadata["uid"], "annotations": {names.ANNOTATION_NUDGE: revision}}}
            try:
                self.store.put(await self.gateway.merge(POD, metadata["namespace"], metadata["name"], patch))
            except ApiError as error:
                if error.status not in (404, 409):  # the pod is gone, or another took its name
                    raise

    async def restart(self, wished: ModelService, stage: Stage) -> None:
        """Replaces the pods one after the other where a change asks for it; the Deployment does it, once per plan."""
        live = self.store.get(DEPLOYMENT, Key(wished.namespace, wished.name))
        if not stage.restart or live is None or _restarted(live) == stage.restart:
            return
        log.info("replacing the pods: %s", stage.message, extra={"service": wished.key})
        annotations = {names.ANNOTATION_RESTART: stage.restart}
        body = {
            "apiVersion": DEPLOYMENT.api_version,
            "kind": DEPLOYMENT.kind,
            "metadata": {"name": wished.name, "namespace": wished.namespace},
            "spec": {"template": {"metadata": {"annotations": annotations}}},
        }
        self.store.put(await self.gateway.apply(DEPLOYMENT, body, manager=names.RESTART_MANAGER))

    def _live(self, wished: ModelService) -> tuple[Mapping[str, str], ...]:
        """The data of the plan's ConfigMaps as they are, as far as they are ours, without gaps."""
        found: list[Mapping[str, str]] = []
        for number in range(names.PLAN_SHARDS):
            item = self.store.get(CONFIG_MAP, Key(wished.namespace, names.plan_config_map(wished.name, number)))
            if item is None or _uid_of_owner(item) not in ("", wished.uid):
                break
            data = item.get("data")
            found.append(data if isinstance(data, dict) else {})
        return tuple(found)

    def _situation(self, wished: ModelService, rendered: Rendered, pods: Sequence[Manifest]) -> Situation:
        key = Key(wished.namespace, wished.name)
        reports = self.pods.reports(key)
        live = self.store.get(DEPLOYMENT, key)
        desired = next(manifest for manifest in rendered.objects if manifest["kind"] == DEPLOYMENT.kind)
        deployment = Deployment.read(live) if live else None
        resources = wished.runtime.resources
        limit = ((resources.limits if resources else None) or {}).get("memory")
        return Situation(
            pods=tuple(found for pod in pods if (found := _running(pod, reports)) is not None),
            template_changes=live is not None and _applied(live) != _applied(drift.stamped(desired)),
            rolling=deployment.total > deployment.updated if deployment and deployment.observed else None,
            restarted=_restarted(live) if live else "",
            memory_limit_bytes=int(limit.value) if limit and not server.has_gpu(wished) else None,
        )


def _running(manifest: Manifest, reports: Mapping[str, PodReport]) -> RunningPod | None:
    pod = Pod.read(manifest)
    if not pod.live:
        return None
    metadata = manifest["metadata"]
    return RunningPod(
        name=pod.name,
        prefix=str(metadata.get("generateName") or ""),
        created=str(metadata.get("creationTimestamp") or ""),
        ready=pod.ready,
        report=reports.get(pod.uid),
    )


def _uid_of_owner(manifest: Mapping[str, Any]) -> str:
    return str((service_owner(manifest) or {}).get("uid", ""))


def _applied(manifest: Mapping[str, Any]) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get(names.ANNOTATION_APPLIED, ""))


def _restarted(deployment: Mapping[str, Any]) -> str:
    template = ((deployment.get("spec") or {}).get("template") or {}).get("metadata") or {}
    return str((template.get("annotations") or {}).get(names.ANNOTATION_RESTART, ""))
