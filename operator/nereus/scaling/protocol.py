"""The public protocol of the scaling policy: an observation in, a decision out.

A third party drives a policy from its own simulator with these types alone; `docs/scaling.md` has twenty lines that do.
Time is always passed in (seconds since the epoch), so a replay is exact. Anything that was not measured is `None`,
never zero: unknown is not zero. This module holds types only and knows no algorithm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from nereus.api.objective import LATENCY_SECONDS, VIOLATIONS

State = Mapping[str, Any]
"""What `to_state` returns: JSON types only."""


class LimitedBy(StrEnum):
    """What held the number of replicas where it is; the values appear in status and in reports."""

    NOTHING = "Nothing"
    MIN_REPLICAS = "MinReplicas"
    MAX_REPLICAS = "MaxReplicas"
    SCHEDULE = "Schedule"
    GPU_LIMIT = "GPULimit"
    PENDING_REPLICAS = "PendingReplicas"
    UNKNOWN_LOAD = "UnknownLoad"


class Phase(StrEnum):
    """How much the forecast has seen."""

    NO_DATA = "NoData"
    FIRST_HOUR = "FirstHour"
    FIRST_DAY = "FirstDay"
    TRUSTED = "Trusted"
    UNTRUSTED = "Untrusted"


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What the user promises: at most `violations` of all requests take longer than `latency_seconds`."""

    latency_seconds: float = LATENCY_SECONDS
    violations: float = VIOLATIONS


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Bounds that hold during a part of the week, in the wall clock of the service.

    `days` are 0 (Monday) to 6; `start_minute` and `end_minute` count from midnight, and an end not after the start
    means "until that time on the next day".
    """

    days: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    start_minute: int
    end_minute: int
    min_replicas: int | None = None
    max_replicas: int | None = None

    def active(self, weekday: int, minute: int) -> bool:
        """Whether the schedule holds at that minute of that weekday."""
        if self.start_minute < self.end_minute:
            return weekday in self.days and self.start_minute <= minute < self.end_minute
        return (weekday in self.days and minute >= self.start_minute) or (
            (weekday - 1) % 7 in self.days and minute < self.end_minute
        )


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the decision may never leave. `gpus` bounds replicas x `gpus_per_replica` when both are given."""

    min_replicas: int = 1
    max_replicas: int = 10_000
    gpus: int | None = None
    gpus_per_replica: int = 1
    schedules: tuple[Schedule, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What is known at `time` (seconds since the epoch, UTC).

    `load`: inferences per second that were *offered* (arrived), averaged over the last scrape interval; not what was
    served. `capacity`: inferences per second that one replica sustains within the objective. `queue`: inferences
    waiting now. `ready`, `starting`: replicas that serve, and that were created and do not serve yet. `cold_start`:
    seconds from creation to serving, 95th percentile. `late`: share (0..1) of the requests since the last observation
    that missed the objective. Each may be missing; a policy then uses what it last knew or does without.
    """

    time: float
    load: float | None = None
    queue: float | None = None
    ready: int | None = None
    starting: int | None = None
    cold_start: float | None = None
    capacity: float | None = None
    late: float | None = None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why that many replicas, as data. Loads are in replica-equivalents (offered rate divided by capacity).

    `forecast` is the median and `forecast_high` the calibrated 95 % bound of the highest load until `horizon_seconds`
    from now. `price` is how many replica-seconds the policy presently pays to keep the requests of one replica-second
    from being late; it follows from the objective. `coverage` is the share of past forecasts that stayed below their
    95 % bound, `error` the mean absolute error relative to the load.
    """

    load: float | None
    capacity: float | None
    reactive: int
    forecast: float | None
    forecast_high: float | None
    floor: int | None
    limited_by: LimitedBy
    phase: Phase
    horizon_seconds: float
    price: float | None
    coverage: float | None
    error: float | None
    message: str


@dataclass(frozen=True, kw_only=True)
class Decision:
    """How many replicas there shall be, and why."""

    time: float
    replicas: int
    explanation: Explanation


@runtime_checkable
class Policy(Protocol):
    """Something that decides. Same observations, same decisions; restoring a state changes nothing."""

    def decide(self, observation: Observation) -> Decision:
        """The number of replicas wanted at the time of the observation."""
        ...

    def to_state(self) -> State:
        """Everything that later decisions depend on, as JSON types."""
        ...


@dataclass(frozen=True, kw_only=True)
class History:
    """Loads of the past, to start with experience: `loads[i]` is the mean rate in the minute that starts at `times[i]`.

    `capacity` and `cold_start` as in `Observation`, as far as they are known.
    """

    times: Sequence[float] = field(default_factory=tuple)
    loads: Sequence[float | None] = field(default_factory=tuple)
    capacity: float | None = None
    cold_start: float | None = None
