"""What the spec of one service asks of its scaling, as the policy needs it: plain numbers, and bounds at a moment.

Here because schedules are wall-clock rules that several places ask about (the decision, the rendering of bounds), and
so that the policy need not know the resource.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from nereus.api.objective import LATENCY_SECONDS, VIOLATIONS
from nereus.api.problems import Problem
from nereus.api.service import ModelService
from nereus.api.spec.forecasting import Day, ScheduleEntry
from nereus.api.spec.scaling import Strategy
from nereus.scaling.protocol import Schedule

_DAYS = {day: number for number, day in enumerate(Day)}


@dataclass(frozen=True, kw_only=True)
class Goal:
    """`latency` and `horizon` in seconds, `violations` a share, `capacity` in inferences per second of one pod; None
    where it is measured. `gpu_limited`: `max_replicas` is what a limit of GPUs leaves of more. `schedules` each hold in
    their own zone; `time_zone` is where the users' days begin."""

    min_replicas: int
    max_replicas: int
    latency: float = LATENCY_SECONDS
    violations: float = VIOLATIONS
    capacity: float | None = None
    horizon: float | None = None
    reactive: bool = False
    gpu_limited: bool = False
    schedules: tuple[tuple[str, Schedule], ...] = ()
    time_zone: str = "UTC"

    def bounds(self, moment: datetime) -> tuple[int, int]:
        """Fewest and most pods at a moment (with its zone). The upper one is money and hardware, so it wins."""
        least, most = self.min_replicas, self.max_replicas
        for zone, schedule in self.schedules:
            local = moment.astimezone(ZoneInfo(zone))
            if schedule.active(local.weekday(), local.hour * 60 + local.minute):
                least = max(least, schedule.min_replicas or least)
                most = min(most, schedule.max_replicas or most)
        return min(least, most), most


def goal(service: ModelService) -> Goal:
    """The goal of a service; its time zones must exist (see `problems`)."""
    scaling = service.scaling
    objective, forecast, capacity = scaling.objective, scaling.forecast, scaling.capacity
    latency = objective.latency if objective else None
    violations = objective.violations if objective else None
    horizon = forecast.horizon if forecast else None
    entries = scaling.schedules or ()
    return Goal(
        min_replicas=service.min_replicas,
        max_replicas=service.max_replicas,
        latency=latency.seconds if latency else LATENCY_SECONDS,
        violations=violations.share if violations else VIOLATIONS,
        capacity=capacity.inferences_per_second if capacity else None,
        horizon=horizon.seconds if horizon else None,
        reactive=service.strategy is Strategy.REACTIVE,
        gpu_limited=service.gpu_limited,
        schedules=tuple((entry.time_zone, _schedule(entry)) for entry in entries),
        time_zone=entries[0].time_zone if entries else "UTC",
    )


def problems(service: ModelService) -> Iterator[Problem]:
    """Zones that do not exist, and fields that would do nothing."""
    scaling = service.scaling
    for index, entry in enumerate(scaling.schedules or ()):
        if not _exists(entry.time_zone):
            yield Problem(
                f"spec.scaling.schedules[{index}].timeZone",
                f"{entry.time_zone!r} is not in the time zone database: write e.g. Europe/Berlin or UTC",
            )
    if service.forecasts:
        return
    for name in ("mode", "objective", "capacity", "forecast", "schedules"):
        if getattr(scaling, name) is not None:
            yield Problem(
                f"spec.scaling.{name}",
                f"does nothing under strategy {service.strategy.value}, which was taken because spec.scaling.strategy"
                " is absent: set it to Predictive or Reactive",
            )


def _exists(zone: str) -> bool:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _schedule(entry: ScheduleEntry) -> Schedule:
    return Schedule(
        days=tuple(_DAYS[day] for day in entry.days or tuple(Day)),
        start_minute=_minute(entry.from_),
        end_minute=_minute(entry.to),
        min_replicas=entry.min_replicas,
        max_replicas=entry.max_replicas,
    )


def _minute(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)
