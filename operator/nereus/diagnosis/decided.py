"""What Nereus itself decided about the number of pods, as it stands in the status: figures, conditions, history.

Why here: `autoscaling` quotes the autoscaler; this says what was put into it and why, and whether the load and its
forecast can be believed. Figures have two digits, so that noise is no status write. Deliberately decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from nereus.api.conditions import Condition, Truth
from nereus.api.decision import ScalingDecision
from nereus.api.reasons import ConditionType, Reason
from nereus.api.status import DecisionStatus, ScalingStatus
from nereus.diagnosis import words
from nereus.diagnosis.reading import stamp
from nereus.diagnosis.world import World

KEPT_DECISIONS = 10
_METRICS = {reason.value: reason for name, reason in Reason.__members__.items() if name.startswith("METRICS_")}
_TRUTH = {True: Truth.TRUE, False: Truth.FALSE, None: Truth.UNKNOWN}


def status(world: World, scaling: ScalingStatus, *, before: ScalingStatus | None) -> ScalingStatus:
    """`scaling` completed with what was decided; unchanged where Nereus does not decide."""
    if not world.service.forecasts:
        return scaling
    history = before.history if before else None
    decision = world.decision
    if decision is None:
        return scaling.model_copy(update={"floor": world.floor if world.service.acts else None, "history": history})
    floor = world.floor if world.service.acts else None
    if floor is not None and before is not None and before.floor not in (None, floor):
        history = (_change(before.floor or 0, floor, decision), *(history or ()))[:KEPT_DECISIONS]
    return scaling.model_copy(
        update={
            "load": _rounded(decision.load),
            "capacity": _rounded(decision.capacity),
            "reactive": decision.reactive,
            "forecast": _rounded(decision.forecast_high),
            "floor": floor,
            "limited_by": decision.limited_by,
            "horizon_seconds": _rounded(decision.horizon_seconds),
            "forecast_error": _rounded(decision.error),
            "message": words.trimmed(_sentence(world, decision, scaling), 2000),
            "history": history or None,
        }
    )


def _sentence(world: World, decision: ScalingDecision, scaling: ScalingStatus) -> str:
    """The decision first; then the autoscaler's words where it wants something else."""
    if not world.service.acts:
        return f"advice only: {_pods(decision.replicas)}: {decision.message}. {scaling.message}"
    told = f"{_pods(world.floor or decision.replicas)}: {decision.message}"
    if world.floor is not None and world.wanted > world.floor:
        return f"{told}. More are there: {scaling.message}"
    return told


def _pods(number: int) -> str:
    return f"{number} {'pod' if number == 1 else 'pods'}"


def _change(old: int, new: int, decision: ScalingDecision) -> DecisionStatus:
    return DecisionStatus(
        at=stamp(datetime.fromtimestamp(decision.at, UTC)),
        id=decision.id,
        message=words.trimmed(f"{old} -> {new}: {decision.message}", 900),
    )


def conditions(world: World) -> Iterator[Condition]:
    """MetricsAvailable, and ForecastTrusted where there is a forecast."""
    if not world.service.forecasts:
        return
    decision = world.decision
    if decision is None:
        yield _metrics(Truth.UNKNOWN, Reason.METRICS_UNREAD, Reason.METRICS_UNREAD.meaning)
        return
    reason = _METRICS.get(decision.metrics, Reason.METRICS_UNREAD)
    truth = _TRUTH[decision.metrics_ok]
    if truth is Truth.TRUE:
        reason = Reason.METRICS_FRESH  # a fault too short to be told
    message = reason.meaning if truth is Truth.TRUE else decision.metrics_message or reason.meaning
    if truth is Truth.FALSE:
        message = f"{message}; nothing is taken away until the load is known again. {reason.remedy}".strip()
    elif decision.metrics == Reason.METRICS_FRESH.value and decision.metrics_message:
        message = f"{reason.meaning} But {decision.metrics_message}."  # a clock that is wrong
    yield _metrics(truth, reason, words.trimmed(message, 2000))
    if decision.trust_message:
        word = {True: Reason.FORECAST_HOLDS, False: Reason.FORECAST_MISSED, None: Reason.FORECAST_LEARNING}
        yield Condition(
            type=ConditionType.FORECAST_TRUSTED,
            status=_TRUTH[decision.trusted],
            reason=word[decision.trusted],
            message=decision.trust_message,
        )


def _metrics(truth: Truth, reason: Reason, message: str) -> Condition:
    return Condition(type=ConditionType.METRICS_AVAILABLE, status=truth, reason=reason, message=message)


def shown_alike(one: ScalingDecision, other: ScalingDecision) -> bool:
    """Whether the figures of two decisions are the same as they stand in a status."""
    return all(a == b or _rounded(a) == _rounded(b) for a, b in zip(_figures(one), _figures(other), strict=True))


def _figures(decision: ScalingDecision) -> tuple[float | None, ...]:
    # The load changes most often: who compares them in this order is done soon.
    return (
        decision.load,
        decision.forecast_high,
        decision.error,
        decision.capacity,
        decision.horizon_seconds,
        decision.reactive,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else max(0.0, float(f"{value:.2g}"))
