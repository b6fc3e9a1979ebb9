"""The parts of `spec.scaling` that only a service under strategy Predictive or Reactive has.

Here rather than in scaling.py because they are about loads and clocks, and scaling.py is about numbers of pods.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from nereus.api.percent import Percent, percent_within
from nereus.api.rules import Rule, matching
from nereus.api.spec.section import Section
from nereus.api.values import Duration, Within

TIME_PATTERN = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
ZONE_PATTERN = r"^[A-Za-z][-A-Za-z0-9_+]*(/[-A-Za-z0-9_+]+){0,2}$"


class Mode(StrEnum):
    ACT = "Act"
    ADVISE = "Advise"


class Day(StrEnum):
    MONDAY = "Mon"
    TUESDAY = "Tue"
    WEDNESDAY = "Wed"
    THURSDAY = "Thu"
    FRIDAY = "Fri"
    SATURDAY = "Sat"
    SUNDAY = "Sun"


Violations = Annotated[Percent, percent_within(0.01, 50, "must be a percentage between 0.01% and 50%, e.g. 1% or 0.5%")]


class Objective(Section):
    """What is promised to clients; it decides how much capacity is held ready."""

    latency: Annotated[Duration, Within("1ms", "10m")] | None = Field(
        None, description="Longest time that a request should take, queue included. When absent: 500ms."
    )
    violations: Violations | None = Field(
        None, description="Share of requests that may take longer, e.g. 0.5%. When absent: 1%."
    )


class Capacity(Section):
    """What one pod sustains."""

    inferences_per_second: Annotated[float, Field(ge=0.001, le=10_000_000)] = Field(
        description="Inferences per second, over all models, that one pod sustains within the objective. From 0.001 to"
        " 10000000."
    )


class Forecast(Section):
    """How far the forecast looks back and ahead."""

    history: Annotated[Duration, Within("1h", "336h")] | None = Field(
        None,
        description="How much past load is read from Prometheus when the operator starts. When absent: 14 days, as far"
        " as Prometheus has them.",
    )
    horizon: Annotated[Duration, Within("10s", "15m")] | None = Field(
        None,
        description="How far ahead capacity is bought. When absent: the 95th percentile of the measured cold start"
        " (status.coldStart), 2 minutes before the first was measured.",
    )


_TIME = matching(TIME_PATTERN, "must be a time of day from 00:00 to 23:59, e.g. 08:30")


class ScheduleEntry(Section):
    """Other bounds during a part of the week; they narrow those of spec.scaling, the tightest holds."""

    name: Annotated[str, Field(min_length=1, max_length=63)] = Field(description="Name of the schedule.")
    time_zone: Annotated[
        str,
        Field(max_length=64),
        matching(ZONE_PATTERN, "must be a zone of the IANA time zone database, e.g. Europe/Berlin or UTC"),
    ] = Field(description="Zone of `from` and `to`, from the IANA database, e.g. Europe/Berlin.")
    days: Annotated[tuple[Day, ...], Field(min_length=1, max_length=7)] | None = Field(
        None, description="Days on which it begins. When absent: every day."
    )
    from_: Annotated[str, Field(max_length=5), _TIME] = Field(
        alias="from", description="Time of day at which it begins, e.g. 08:00."
    )
    to: Annotated[str, Field(max_length=5), _TIME] = Field(
        description="Time of day at which it ends, e.g. 18:00; not after `from`: on the next day."
    )
    min_replicas: Annotated[int, Field(ge=1, le=10000)] | None = Field(
        None, description="Fewest pods meanwhile. When absent: as in spec.scaling."
    )
    max_replicas: Annotated[int, Field(ge=1, le=10000)] | None = Field(
        None, description="Most pods meanwhile. When absent: as in spec.scaling."
    )
    rules = (
        Rule(
            cel="has(self.minReplicas) || has(self.maxReplicas)",
            message="a schedule without minReplicas and maxReplicas does nothing: give one of them, or remove it",
            holds=lambda it: it.min_replicas is not None or it.max_replicas is not None,
        ),
        Rule(
            cel="!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
            message="the schedule's minReplicas is above its maxReplicas: lower it or raise maxReplicas",
            holds=lambda it: it.min_replicas is None or it.max_replicas is None or it.min_replicas <= it.max_replicas,
        ),
    )
