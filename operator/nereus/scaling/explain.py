"""One decision in words and data: what was needed, what limited it, how far the forecast is to be believed. Pure."""

from __future__ import annotations

import math

from nereus.scaling.fleet import TRUSTED_COVERAGE, FleetDecision
from nereus.scaling.protocol import Explanation, LimitedBy, Phase

FIRST_HOUR_MINUTES, FIRST_DAY_MINUTES = 60, 1440


def phase_of(age_minutes: int, coverage: float) -> Phase:
    """How much the forecast has seen, and whether its 95 % bound holds."""
    if age_minutes < 0:
        return Phase.NO_DATA
    if age_minutes < FIRST_HOUR_MINUTES:
        return Phase.FIRST_HOUR
    if math.isfinite(coverage) and coverage < TRUSTED_COVERAGE:
        return Phase.UNTRUSTED
    return Phase.FIRST_DAY if age_minutes < FIRST_DAY_MINUTES else Phase.TRUSTED


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def explain(
    decided: FleetDecision,
    service: int,
    *,
    least: int,
    most: int,
    scheduled: bool,
    by_gpu: bool,
    capacity: float,
    in_words: bool = True,
) -> Explanation:
    """The explanation of one service of a fleet decision; without its message when nobody reads it."""
    choice = decided.choice
    replicas, unbounded = int(choice.replicas[service]), int(choice.unbounded[service])
    limited = LimitedBy.NOTHING
    if choice.unknown[service]:
        limited = LimitedBy.UNKNOWN_LOAD
    elif choice.stuck[service]:
        limited = LimitedBy.PENDING_REPLICAS
    elif unbounded > most:
        limited = LimitedBy.GPU_LIMIT if by_gpu else LimitedBy.SCHEDULE if scheduled else LimitedBy.MAX_REPLICAS
    elif unbounded < least:
        limited = LimitedBy.SCHEDULE if scheduled else LimitedBy.MIN_REPLICAS
    load, median, bound = (_known(float(a[service])) for a in (decided.load, decided.median, decided.bound))
    phase = phase_of(int(decided.age_minutes[service]), float(decided.coverage[service]))
    horizon = float(decided.horizon[service])
    return Explanation(
        load=load,
        capacity=_known(float(capacity)),
        reactive=int(choice.reactive[service]),
        forecast=median,
        forecast_high=bound,
        floor=int(choice.floor[service]),
        limited_by=limited,
        phase=phase,
        horizon_seconds=horizon,
        price=_known(float(decided.price[service])),
        coverage=_known(float(decided.coverage[service])),
        error=_known(float(decided.error[service])),
        message=_message(
            replicas=replicas,
            load=load,
            median=median,
            bound=bound,
            horizon=horizon,
            limited=limited,
            phase=phase,
            least=least,
            most=most,
        )
        if in_words
        else "",
    )


def _message(
    *,
    replicas: int,
    load: float | None,
    median: float | None,
    bound: float | None,
    horizon: float,
    limited: LimitedBy,
    phase: Phase,
    least: int,
    most: int,
) -> str:
    now = "load unknown" if load is None else f"load {load:.2g} replicas"
    ahead = (
        "no forecast yet"
        if median is None or bound is None
        else f"{median:.2g}, at most {bound:.2g} within {horizon:.0f} s"
    )
    because = {
        LimitedBy.NOTHING: "",
        LimitedBy.MIN_REPLICAS: f"; held by minReplicas {least}",
        LimitedBy.MAX_REPLICAS: f"; limited by maxReplicas {most}",
        LimitedBy.SCHEDULE: f"; limited by a schedule to {least}..{most}",
        LimitedBy.GPU_LIMIT: f"; limited by the GPU limit to {most}",
        LimitedBy.PENDING_REPLICAS: "; replicas that do not start hold back more of them",
        LimitedBy.UNKNOWN_LOAD: "; nothing is taken away while the load is unknown",
    }[limited]
    trust = {
        Phase.NO_DATA: "",
        Phase.FIRST_HOUR: " (first hour: reacting with a wide margin)",
        Phase.FIRST_DAY: " (first day: no daily season known yet)",
        Phase.TRUSTED: "",
        Phase.UNTRUSTED: " (forecast bound was missed too often: reacting)",
    }[phase]
    return f"{replicas} replicas: {now}, expected {ahead}{because}{trust}"
