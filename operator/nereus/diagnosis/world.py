"""The observed world of one ModelService: its objects, what its sidecars report, what could not be applied.

Why here: everything that a diagnosis may depend on is in one value, which the controller gathers and a test writes
down. What several checks need to know is worked out once: how many pods are wanted, which are of the template in use,
which serve. Deliberately fetches nothing and finds no fault; `checks` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from nereus.api.decision import ScalingDecision
from nereus.api.protocol import REPOSITORY, ModelReport, ModelState, PodReport
from nereus.api.service import ModelService
from nereus.api.spec.scaling import Strategy
from nereus.diagnosis.alerts import AlertsInUse
from nereus.diagnosis.objects import Autoscaler, Deployment, Pod
from nereus.gpu.choice import Choice
from nereus.gpu.usage import Usage


@dataclass(frozen=True, kw_only=True)
class ApplyFailure:
    """An object that could not be written. `object` is e.g. `Deployment resnet`; `reason` is the API server's word
    (Forbidden, Invalid, Conflict) or `NameTaken` when the object belongs to somebody else; `manager` is the field
    manager that a conflict is with, or the owner of a taken name."""

    object: str
    reason: str
    message: str
    manager: str = ""


@dataclass(frozen=True, kw_only=True)
class TemplateInUse:
    """The stored pod template that the pods are made from; see `rendering.Template`."""

    revision: str = ""
    hash: str = ""
    pending: str = ""


@dataclass(frozen=True, kw_only=True)
class StageInUse:
    """How far a change of models and settings is; see `workload.stages`. `revision` is what every pod runs that tries
    nothing, `next` what is tried (empty: nothing), `tries` the names of the pods that were asked to, `kept` the plans
    that can be rolled back to."""

    revision: str = ""
    next: str = ""
    message: str = ""
    kept: tuple[str, ...] = ()
    tries: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class GpuWorld:
    """What was chosen for a service with `spec.gpu` (see `rendering.GpuPlan`), what the GPU agents see, and what was
    done about it: `evicted` is the last eviction, or why there was none, in words."""

    choice: Choice
    missing: str = ""
    pending: str = ""
    surge: bool = True
    usage: Usage = field(default_factory=Usage)
    evicted: str = ""


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything a diagnosis is made from.

    `deployment` must be at least as new as the last write of the operator (the answer of the apply, not an older
    copy of a watch), otherwise an old rollout is taken for the new one. `reports` and `warnings` are by pod uid;
    a report is kept by the caller while a single poll fails. `warnings` holds the newest Warning event of a pod,
    where events are read: it names what the pod's own status does not (a volume that cannot be mounted).
    `decision` is the newest one on the number of pods and `floor` what it made of the autoscaler's; both None where
    Nereus does not decide. `external_metrics`: the autoscaler reads the decision as a metric, too.
    `template_settled` says that this template was rolled out before and has not changed since.
    """

    service: ModelService
    plan_revision: str
    pods: tuple[Pod, ...] = ()
    deployment: Deployment | None = None
    autoscaler: Autoscaler | None = None
    reports: Mapping[str, PodReport] = field(default_factory=dict)
    warnings: Mapping[str, str] = field(default_factory=dict)
    apply_failures: tuple[ApplyFailure, ...] = ()
    template: TemplateInUse = field(default_factory=TemplateInUse)
    alerts: AlertsInUse = field(default_factory=AlertsInUse)
    template_settled: bool = False
    stage: StageInUse = StageInUse()
    gpu: GpuWorld | None = None
    decision: ScalingDecision | None = None
    floor: int | None = None
    external_metrics: bool = False

    @classmethod
    def read(
        cls,
        service: ModelService,
        *,
        plan_revision: str,
        pods: Iterable[object] = (),
        deployment: object = None,
        autoscaler: object = None,
        reports: Mapping[str, PodReport] | None = None,
        warnings: Mapping[str, str] | None = None,
        apply_failures: Iterable[ApplyFailure] = (),
        template: TemplateInUse | None = None,
        stage: StageInUse | None = None,
        alerts: AlertsInUse | None = None,
        gpu: GpuWorld | None = None,
        decision: ScalingDecision | None = None,
        floor: int | None = None,
        external_metrics: bool = False,
    ) -> World:
        """From manifests; None stands for an object that does not exist."""
        return cls(
            service=service,
            plan_revision=plan_revision,
            pods=tuple(sorted((Pod.read(pod) for pod in pods), key=lambda pod: (pod.name, pod.uid))),
            deployment=None if deployment is None else Deployment.read(deployment),
            autoscaler=None if autoscaler is None else Autoscaler.read(autoscaler),
            reports=reports or {},
            warnings=warnings or {},
            apply_failures=tuple(apply_failures),
            template=template or TemplateInUse(),
            stage=stage or StageInUse(),
            alerts=alerts or AlertsInUse(),
            gpu=gpu,
            decision=decision,
            floor=floor,
            external_metrics=external_metrics,
        )

    @cached_property
    def live(self) -> tuple[Pod, ...]:
        """Pods that are neither being deleted nor ended: a pod on its way out is no trouble of the service."""
        return tuple(pod for pod in self.pods if pod.live)

    @cached_property
    def wanted(self) -> int:
        """How many pods there should be now."""
        service = self.service
        if service.strategy is Strategy.MANUAL:
            return service.manual_replicas
        told = self.deployment.replicas if self.deployment else service.min_replicas
        return max(service.min_replicas, min(told, service.max_replicas))

    @property
    def needed(self) -> int:
        """How many pods must serve for the service to be ready: all under Manual; under an autoscaler the fewest it may
        have, so that a scale-up, which is the service at work, does not make it unready."""
        return self.wanted if self.service.strategy is Strategy.MANUAL else min(self.wanted, self.service.min_replicas)

    @cached_property
    def outdated(self) -> tuple[Pod, ...]:
        """Pods that clients reach and that do not serve the spec as it is now; a pod that only just became ready, and
        has not been asked since, is none."""
        return tuple(
            pod
            for pod in self.live
            if pod.ready and not self.serves(pod) and ((report := self.report(pod)) is None or report.ready)
        )

    @cached_property
    def rolled_out(self) -> bool:
        """Whether every pod comes from the template of the spec."""
        deployment = self.deployment
        if deployment is None or not (deployment.observed or self.template_settled):
            return False
        return deployment.total <= deployment.updated

    @cached_property
    def current(self) -> tuple[Pod, ...]:
        """Live pods of the template in use.

        While a rollout runs the Deployment says only how many there are: they are the pods of the ReplicaSet with
        that many pods, and of the one with the newest pod where two have as many.
        """
        if self.rolled_out or self.deployment is None:
            return self.live
        if self.deployment.observed and self.deployment.updated == 0:
            return ()
        sets: dict[str, list[Pod]] = {}
        for pod in self.live:
            sets.setdefault(pod.template_hash, []).append(pod)
        return tuple(max(sets.values(), key=self._likely_new, default=[]))

    def _likely_new(self, pods: Iterable[Pod]) -> tuple[bool, float, str]:
        same_set = tuple(pods)
        newest = max((pod.created_at.timestamp() for pod in same_set if pod.created_at), default=0.0)
        fits = self.deployment is not None and len(same_set) == self.deployment.updated
        return fits, newest, same_set[0].name

    @cached_property
    def former(self) -> tuple[Pod, ...]:
        """Live pods of a template that is being replaced."""
        current = {id(pod) for pod in self.current}
        return tuple(pod for pod in self.live if id(pod) not in current)

    def report(self, pod: Pod) -> PodReport | None:
        return self.reports.get(pod.uid)

    @cached_property
    def models(self) -> Mapping[str, Mapping[str, ModelReport]]:
        """What is reported of each model: by pod uid, then by the model's name."""
        return {uid: {model.name: model for model in report.models} for uid, report in self.reports.items()}

    @cached_property
    def named(self) -> Mapping[str, str]:
        """What the status speaks of: the source by the name of each declared model. Of a whole repository these are the
        models that the pods found in it, and the repository itself while there is something to say of it."""
        repository = self.service.spec.repository
        if repository is None:
            return self.service.entries
        reports = [model for pod in self.live for model in self.models.get(pod.uid, {}).values()]
        found = sorted({model.name for model in reports if model.name != REPOSITORY})
        done = (ModelState.READY, ModelState.LOADING)
        unsettled = any(model.name == REPOSITORY and model.state not in done for model in reports)
        whole = [REPOSITORY] if unsettled or not found else []
        return dict.fromkeys([*whole, *found], str(repository.uri))

    def model(self, pod: Pod, name: str) -> ModelReport | None:
        return self.models.get(pod.uid, {}).get(name)

    def serves(self, pod: Pod) -> bool:
        """Whether a pod serves every declared model as the current spec has it; what nobody reported is not served."""
        return pod.live and pod.ready and pod.uid in self._complete

    @cached_property
    def _complete(self) -> frozenset[str]:
        """The uids whose sidecar reports the current plan with every declared model loaded. A plan that a user rolled
        back to may know other models than the spec: then what it has counts."""
        declared = set() if self.service.rollback_to else set(self.service.entries)
        return frozenset(
            uid
            for uid, report in self.reports.items()
            if report.revision == self.plan_revision
            and declared <= {model.name for model in report.models if model.state is ModelState.READY}
            and (declared or all(model.state is ModelState.READY for model in report.models))
        )

    @cached_property
    def staying(self) -> tuple[Pod, ...]:
        """Pods that clients reach and that go on with the former plan while others try the changed one."""
        kept = self.stage.revision if self.stage.next else ""
        reports = ((pod, self.report(pod)) for pod in self.live if pod.ready)
        return tuple(pod for pod, report in reports if kept and report and report.revision == kept)

    @cached_property
    def serving(self) -> tuple[Pod, ...]:
        """Pods of the template in use that serve the current spec."""
        return tuple(pod for pod in self.current if self.serves(pod))


def titled(name: str, before: str = "") -> str:
    """How a sentence calls an entry of the plan; `before` stands before the name of a model."""
    return "the repository" if name == REPOSITORY else f"{before}{name}"
