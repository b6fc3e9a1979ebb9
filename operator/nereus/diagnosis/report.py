"""The status of a ModelService, whole, from the observed world: the room's main entrance.

Why here: conditions, reasons and numbers are made in one place from one set of findings, so that they cannot
contradict each other. No sentence holds an age: what changes at every look would be a status write at every look.
Deliberately writes nothing; the controller writes what changed, and `story.significant` says how soon.

Ready is True when the needed pods (`World.needed`) and every other pod that clients reach serve the current generation:
right template, right models, ready for the kubelet. Where further pods are wanted, the reason of a Ready service says
what they wait for. A rollout that fails makes it False although former pods may serve; the message says how many do.
Stalled (kstatus: Failed) is there only while a person is needed, see `reasons.PATIENCE`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from nereus.api import names
from nereus.api.conditions import Condition, Truth, merged
from nereus.api.problems import Problem
from nereus.api.reasons import ConditionType, Reason
from nereus.api.service import ModelService
from nereus.api.spec.scaling import Strategy
from nereus.api.status import ConditionStatus, PlanStatus, ReasonStatus, Resolved, Status, TemplateStatus, to_json
from nereus.diagnosis import alerts, autoscaling, coldstart, decided, gpu, models, words
from nereus.diagnosis.chain import findings
from nereus.diagnosis.reading import instant, items, mapping, number, stamp, text
from nereus.diagnosis.reasons import MESSAGE_LIMIT, Group, entries, grouped
from nereus.diagnosis.world import World

Json = dict[str, Any]


def status(world: World, *, previous: Mapping[str, Any], now: datetime) -> Json:
    """The complete status. `previous` is the stored one ({} when there is none): transition times come from it."""
    before = _kept(previous)
    world = replace(world, template_settled=_settled(world, before))
    groups = grouped(findings(world, now))
    model_statuses = models.statuses(world)
    service = world.service
    ready = _ready(world, groups)
    conditions = [
        ready,
        *_underway(ready, groups, before=before, now=now),
        models.condition(world, groups, model_statuses),
        autoscaling.condition(world, now),
        alerts.condition(world.alerts, name=service.name),
        *gpu.conditions(world),
        *decided.conditions(world),
    ]
    same_template = before.template is not None and before.template.hash == (world.template.hash or None)
    return to_json(
        Status(
            observed_generation=service.generation,
            conditions=_stored(conditions, before=before, generation=service.generation, now=now),
            url=f"http://{service.name}.{service.namespace}.svc:{service.ports.http}",
            replicas=f"{sum(pod.ready for pod in world.live)}/{world.wanted}",
            current_replicas=len(world.live),
            selector=",".join(f"{key}={value}" for key, value in names.selector_labels(service.name).items()),
            models=model_statuses,
            reasons=entries(groups) or None,
            resolved=Resolved(
                strategy=service.strategy.value,
                image=(world.deployment.image[:512] if world.deployment else "") or None,
                min_replicas=service.min_replicas if _autoscaled(service) else None,
                max_replicas=service.max_replicas if _autoscaled(service) else None,
            ),
            scaling=decided.status(world, autoscaling.status(world), before=before.scaling),
            # Measurements of this template stay when the pods they were made on are gone.
            cold_start=coldstart.cold_start(world) or (before.cold_start if same_template else None),
            gpu=gpu.status(world, before.gpu if same_template else None),
            template=_template(world),
            plan=_plan(world),
        )
    )


def _template(world: World) -> TemplateStatus | None:
    template = world.template
    if not (template.revision or template.hash or template.pending):
        return None
    return TemplateStatus(
        revision=template.revision or None,
        hash=template.hash or None,
        pending=words.trimmed(template.pending, 2000) or None,
    )


def _plan(world: World) -> PlanStatus | None:
    stage = world.stage
    if not stage.revision:
        return None
    message = stage.message
    if world.service.rollback_to and not message:
        message = (
            f"rolled back; spec.models is in effect again when the annotation {names.ANNOTATION_ROLLBACK} is removed"
        )
    return PlanStatus(
        revision=stage.revision,
        next=stage.next or None,
        message=words.trimmed(message, 1000) or None,
        kept=stage.kept[:10] or None,
    )


def _settled(world: World, before: Status) -> bool:
    """Whether this template was rolled out before: then a Deployment that was only scaled is not rolling out."""
    was_ready = any(
        item.type == ConditionType.READY.value and item.status == "True" for item in before.conditions or ()
    )
    template = before.template.hash if before.template else None
    return was_ready and template is not None and template == world.template.hash


def _ready(world: World, groups: tuple[Group, ...]) -> Condition:
    """The summary: whether every wanted pod serves the current generation, and if not, the first reason why."""
    wanted, serving = world.wanted, len(world.serving)
    held = world.service.suspended or bool(world.apply_failures)
    first = groups[0] if groups else None
    if not held and world.deployment is not None and world.rolled_out:
        if wanted == 0 and not world.live:
            return _said(Truth.TRUE, Reason.SCALED_TO_ZERO, "no pod is wanted: spec.scaling.replicas is 0")
        if wanted and serving >= world.needed and not world.outdated:
            models_served = words.counted(len(world.named), "model")
            count = f"{min(serving, wanted)}/{wanted} {'pod serves' if wanted == 1 else 'pods serve'} {models_served}"
            if serving < wanted and first is not None:
                return _said(Truth.TRUE, first.reason, f"{count}; {first.message}")
            return _said(Truth.TRUE, Reason.SERVING, count)
    reason = first.reason if first else Reason.RECONCILING
    message = f"{serving}/{wanted} pods serve"
    if former := sum(pod.ready for pod in world.former):
        message += f" this spec, {former} of the former template still {'serves' if former == 1 else 'serve'}"
    elif staying := len(world.staying):
        message += f" this spec, {staying} still {'serves' if staying == 1 else 'serve'} the former one"
    return _said(Truth.FALSE, reason, f"{message}; {first.message if first else reason.meaning}")


def _said(truth: Truth, reason: Reason, message: str) -> Condition:
    return Condition(type=ConditionType.READY, status=truth, reason=reason, message=message)


def _underway(ready: Condition, groups: tuple[Group, ...], *, before: Status, now: datetime) -> tuple[Condition, ...]:
    """Progressing, and Stalled when the first reason has stood for so long that a person is needed."""
    progressing = Condition(
        type=ConditionType.PROGRESSING, status=Truth.FALSE, reason=Reason.COMPLETE, message=Reason.COMPLETE.meaning
    )
    if ready.status is Truth.TRUE and ready.reason in (Reason.SERVING, Reason.SCALED_TO_ZERO):
        return (progressing,)
    first = groups[0] if groups else None
    if ready.status is Truth.TRUE:
        stuck = first is not None and first.stalled(fallback=now, now=now)
        return (
            replace(
                progressing, status=Truth.FALSE if stuck else Truth.TRUE, reason=ready.reason, message=ready.message
            ),
        )
    if first is None or not first.stalled(fallback=_unready_since(before) or now, now=now):
        return (replace(progressing, status=Truth.TRUE, reason=ready.reason, message=ready.message),)
    return (
        replace(progressing, reason=ready.reason, message=ready.message),
        _stalled(first.reason, first.message),
    )


def _stalled(reason: Reason, message: str) -> Condition:
    return Condition(
        type=ConditionType.STALLED, status=Truth.TRUE, reason=reason, message=f"{message}. {reason.remedy}"
    )


def _unready_since(before: Status) -> datetime | None:
    for item in before.conditions or ():
        if item.type == ConditionType.READY.value and item.status == "False":
            return instant(item.last_transition_time)
    return None


def invalid(
    resource: Mapping[str, Any],
    problems: tuple[Problem, ...],
    *,
    previous: Mapping[str, Any],
    now: datetime,
    reason: Reason = Reason.INVALID_SPEC,
) -> Json:
    """The status of a spec that cannot be rendered: what runs goes on and stays described, Ready is False.

    Every problem is named, up to the length of a message.
    """
    before = _kept(previous)
    message = words.trimmed("; ".join(str(problem) for problem in problems), 3 * MESSAGE_LIMIT)
    message = message or reason.meaning
    progressing = Condition(type=ConditionType.PROGRESSING, status=Truth.FALSE, reason=reason, message=message)
    generation = number(mapping(resource.get("metadata")).get("generation"))
    replaced = _stored(
        [_said(Truth.FALSE, reason, message), progressing, _stalled(reason, message)],
        before=before,
        generation=generation,
        now=now,
    )
    stated = {item.type for item in replaced}
    entry = ReasonStatus(
        reason=reason.value, count=max(1, len(problems)), message=words.trimmed(message, MESSAGE_LIMIT)
    )
    return to_json(
        before.model_copy(
            update={
                "observed_generation": generation,
                "conditions": replaced + tuple(item for item in before.conditions or () if item.type not in stated),
                "reasons": (entry,),
            }
        )
    )


def _autoscaled(service: ModelService) -> bool:
    """Whether minReplicas and maxReplicas mean anything for this service."""
    return service.strategy is not Strategy.MANUAL


def _stored(
    conditions: Iterable[Condition], *, before: Status, generation: int, now: datetime
) -> tuple[ConditionStatus, ...]:
    previous = [item.model_dump(by_alias=True) for item in before.conditions or ()]
    return tuple(
        ConditionStatus.model_validate(item)
        for item in merged(conditions, previous=previous, generation=generation, now=stamp(now))
    )


def _kept(previous: Mapping[str, Any]) -> Status:
    """What can be understood of a stored status, field by field: another release may have written it."""
    kept = Status.model_validate({})
    for name, field in Status.model_fields.items():
        alias = field.alias or name
        if alias == "conditions":
            understood = [item for item in items(mapping(previous).get(alias)) if _understood(item)]
            kept = kept.model_copy(update={name: tuple(ConditionStatus.model_validate(item) for item in understood)})
            continue
        try:
            part = Status.model_validate({alias: mapping(previous).get(alias)})
        except ValidationError:
            continue
        kept = kept.model_copy(update={name: getattr(part, name)})
    return kept


def _understood(condition: Mapping[str, Any]) -> bool:
    try:
        ConditionStatus.model_validate(condition)
    except ValidationError:
        return False
    dated = instant(condition.get("lastTransitionTime")) is not None and condition.get("observedGeneration") is not None
    return text(condition.get("type")) in {kind.value for kind in ConditionType} and dated
