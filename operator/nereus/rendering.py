"""A ModelService in, every object it becomes out: the one door to the rooms that render.

Here because two things are decided over all rooms: whether a spec can be rendered at all (every problem at once), and
which pod template is in effect. A stored template stays in use until the part of the spec that it was made from
changes, so that a new release of the operator touches no running pod.

Pure: talks to nobody, and the same input gives the same objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nereus.alerting.rules import prometheus_rule
from nereus.api.decision import ScalingDecision
from nereus.api.manifests import Manifest
from nereus.api.problems import InvalidSpecError, Problem
from nereus.api.protocol import Plan
from nereus.api.service import ModelService
from nereus.api.spec.gpu import Isolation
from nereus.api.spec.scaling import Strategy
from nereus.gpu.ask import Ask, ask_of, fingerprint
from nereus.gpu.choice import Choice, Unavailable, better, choose, missing, units
from nereus.gpu.nodes import NodeGpus
from nereus.scaling import hpa as autoscaling
from nereus.triton import checks as triton_checks
from nereus.triton import server
from nereus.workload import checks as workload_checks
from nereus.workload import devices
from nereus.workload import plan as plans
from nereus.workload import service as services
from nereus.workload import template as templates
from nereus.workload.deployment import deployment
from nereus.workload.disruption import disruption_budget
from nereus.workload.monitor import pod_monitor
from nereus.workload.revision import Template, changes, controller_revision, fresh_template, stored_template
from nereus.workload.service import service_object
from nereus.workload.settings import Settings

__all__ = ["GpuPlan", "GpuUnavailableError", "Rendered", "Template", "render"]


class GpuUnavailableError(InvalidSpecError):
    """No node can ever give the GPU that is asked for, and none was chosen before."""


@dataclass(frozen=True, kw_only=True)
class GpuPlan:
    """What the pods of a service with `spec.gpu` get. `missing` is why no node offers it now, `pending` what would be
    chosen today instead (both empty when nothing is to be said), `surge` whether a rollout may add a pod."""

    choice: Choice
    missing: str = ""
    pending: str = ""
    surge: bool = True


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """What a service becomes. `objects` are complete and in the order in which they are applied; `pending` says what
    this release would render differently in the pod template, None when nothing. `floor` is the fewest pods that the
    autoscaler is told; without meaning under strategy Manual."""

    objects: tuple[Manifest, ...]
    plan: Plan
    template: Template
    pending: str | None
    gpu: GpuPlan | None = None
    floor: int = 1


def render(
    service: ModelService,
    *,
    settings: Settings,
    stored: Sequence[Manifest] = (),
    nodes: Sequence[NodeGpus] | None = None,
    decision: ScalingDecision | None = None,
    live_floor: int | None = None,
) -> Rendered:
    """Every object of the service. `stored` are the ControllerRevisions that it owns, `nodes` those with GPUs (None:
    nobody may look); only a service with `spec.gpu` depends on them. `decision` is the newest one on its number of
    pods, `live_floor` the floor that its autoscaler has now.

    Raises InvalidSpecError with every problem found, GpuUnavailableError when only the GPU is missing.
    """
    inputs = templates.template_inputs(service)
    found = stored_template(stored, inputs)
    problems = [
        *triton_checks.problems(service),
        *server.problems(service),
        *workload_checks.problems(service),
        *services.problems(service),
        *autoscaling.problems(service),
    ]
    image = service.runtime.image or settings.triton_image or (_image_of(found[0]) if found else "")
    if not image:
        problems.append(
            Problem("spec.runtime.image", "is required: this installation of Nereus has no default Triton image")
        )
    try:
        plan, shards = plans.plan(service)
    except InvalidSpecError as error:
        raise InvalidSpecError((*problems, *error.problems)) from None
    if problems:
        raise InvalidSpecError(tuple(problems))

    gpu = _gpu(service, stored=stored, found=found[0] if found else None, nodes=nodes)
    if gpu is not None and (arena := devices.arena_limit(service, gpu.choice)) is not None:
        plan, shards = plans.plan(service, arena_bytes=arena)
    body = templates.template(service, settings=settings, image=image, gpu=gpu.choice if gpu else None)
    template, number = found or fresh_template(service, body, inputs, stored)
    selected = dict(settings.rule_labels)
    ruled = settings.prometheus_rule and settings.alert_rules == "Service"
    rule = (
        prometheus_rule(service, labels=selected, pace=settings.alert_pace, runbooks=settings.runbooks)
        if ruled
        else None
    )
    autoscaler = autoscaling.hpa(
        service,
        decision=decision,
        live_floor=live_floor,
        external=settings.external_metrics,
        tolerance=settings.hpa_tolerance,
    )
    objects = (
        *plans.config_maps(service, shards),
        controller_revision(service, template, number),
        service_object(service),
        *((services.headless_service(service),) if service.endpoint.headless else ()),
        disruption_budget(service),
        deployment(service, template.body, surge=gpu is None or gpu.surge),
        *((autoscaler,) if autoscaler else ()),
        *((pod_monitor(service, labels=selected),) if settings.pod_monitor else ()),
        *((rule,) if rule else ()),
    )
    return Rendered(
        objects=objects,
        plan=plan,
        template=template,
        pending=changes(template.body, body),
        gpu=gpu,
        floor=autoscaling.bounds(service, decision=decision, live_floor=live_floor).floor,
    )


def _gpu(
    service: ModelService, *, stored: Sequence[Manifest], found: Template | None, nodes: Sequence[NodeGpus] | None
) -> GpuPlan | None:
    """What was chosen before for this `spec.gpu`, also when the rest of the spec changed; otherwise a choice of now."""
    ask = ask_of(service)
    if ask is None:
        return None
    asked = fingerprint(service)
    choice = devices.choice_in(found.body) if found else None
    choice = choice or devices.kept_choice(stored, asked)
    if choice is None:
        fresh = choose(ask, nodes, asked=asked)
        if isinstance(fresh, Unavailable):
            raise GpuUnavailableError((Problem("spec.gpu", fresh.message),))
        choice = fresh
    return GpuPlan(
        choice=choice,
        missing=missing(choice, ask, nodes),
        pending=better(choice, ask, nodes) if ask.isolation is Isolation.AUTO else "",
        surge=_surges(service, choice, ask, nodes),
    )


def _surges(service: ModelService, choice: Choice, ask: Ask, nodes: Sequence[NodeGpus] | None) -> bool:
    """Whether nodes and the limit of GPUs allow one pod more than the service may have; yes when that is not known."""
    if not service.surge_fits_gpus:
        return False
    room = units(choice, ask, nodes)
    if room is None or (room == 0 and choice.assumed):
        return True
    pods = service.manual_replicas if service.strategy is Strategy.MANUAL else service.max_replicas
    return room > pods


def _image_of(template: Template) -> str:
    return str(template.body["spec"]["containers"][0]["image"])
