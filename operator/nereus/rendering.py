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
from nereus.api.manifests import Manifest
from nereus.api.problems import InvalidSpecError, Problem
from nereus.api.protocol import Plan
from nereus.api.service import ModelService
from nereus.scaling import hpa as autoscaling
from nereus.triton import checks as triton_checks
from nereus.triton import server
from nereus.workload import checks as workload_checks
from nereus.workload import plan as plans
from nereus.workload import service as services
from nereus.workload import template as templates
from nereus.workload.deployment import deployment
from nereus.workload.disruption import disruption_budget
from nereus.workload.monitor import pod_monitor
from nereus.workload.revision import Template, changes, controller_revision, fresh_template, stored_template
from nereus.workload.service import service_object
from nereus.workload.settings import Settings

__all__ = ["Rendered", "Template", "render"]


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """What a service becomes. `objects` are complete and in the order in which they are applied; `pending` says what
    this release would render differently in the pod template, None when nothing."""

    objects: tuple[Manifest, ...]
    plan: Plan
    template: Template
    pending: str | None


def render(service: ModelService, *, settings: Settings, stored: Sequence[Manifest] = ()) -> Rendered:
    """Every object of the service. `stored` are the ControllerRevisions that it owns.

    Raises InvalidSpecError with every problem found.
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

    body = templates.template(service, settings=settings, image=image)
    template, number = found or fresh_template(service, body, inputs, stored)
    autoscaler = autoscaling.hpa(service)
    selected = dict(settings.rule_labels)
    ruled = settings.prometheus_rule and settings.alert_rules == "Service"
    rule = prometheus_rule(service, labels=selected, pace=settings.alert_pace) if ruled else None
    objects = (
        *plans.config_maps(service, shards),
        controller_revision(service, template, number),
        service_object(service),
        *((services.headless_service(service),) if service.endpoint.headless else ()),
        disruption_budget(service),
        deployment(service, template.body),
        *((autoscaler,) if autoscaler else ()),
        *((pod_monitor(service, labels=selected),) if settings.pod_monitor else ()),
        *((rule,) if rule else ()),
    )
    return Rendered(objects=objects, plan=plan, template=template, pending=changes(template.body, body))


def _image_of(template: Template) -> str:
    return str(template.body["spec"]["containers"][0]["image"])
