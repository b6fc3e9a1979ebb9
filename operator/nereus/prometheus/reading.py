"""What the scaling tick asks of Prometheus and what it gets: types and their meaning, no I/O.

Unknown is not zero. A figure that could not be read is `None`, and `Freshness` says why; only `FRESH` may ever lower a
service. Every other state still carries what was seen, because a load that is seen may raise one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nereus.api.objective import LATENCY_SECONDS


class Key(NamedTuple):
    """A ModelService: equal, as a tuple, to the key that the controller uses."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Freshness(StrEnum):
    """How far a reading can be believed; the values appear as reasons in status and as a label of metrics."""

    FRESH = "Fresh"
    """Every ready pod was seen a moment ago, over a whole window."""
    NO_PODS = "NoPods"
    """No pod is ready, so there is nothing to read yet. Not a fault of the metrics."""
    MISSING = "Missing"
    """Prometheus answers and has no series of this service, although pods are ready."""
    STALE = "Stale"
    """The newest sample is older than a few scrapes: Prometheus does not reach the pods, or the store lags behind."""
    PARTIAL = "Partial"
    """Fewer pods were seen than are ready, a model was not seen, or the answer itself was marked as incomplete."""
    RECOVERING = "Recovering"
    """Samples arrive again after a gap and the window over which rates are taken still has a hole in it."""
    INVALID = "Invalid"
    """NaN, infinite or negative where a rate is expected."""
    SLOW = "Slow"
    """No answer within the deadline."""
    UNREACHABLE = "Unreachable"
    """No connection, or a server error."""
    DENIED = "Denied"
    """Refused for want of rights: 401 or 403."""
    NOT_PROMETHEUS = "NotPrometheus"
    """Something answers at the address and it is not a Prometheus."""
    NOT_CONFIGURED = "NotConfigured"
    """No address is given."""

    @property
    def may_lower(self) -> bool:
        """Whether a decision for fewer replicas may rest on a reading of this state."""
        return self is Freshness.FRESH

    @property
    def is_fault(self) -> bool:
        """Whether somebody has to repair something when it lasts."""
        return self not in (Freshness.FRESH, Freshness.NO_PODS, Freshness.RECOVERING)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One service to read.

    `models` are the names whose inferences count: every model that Triton runs except ensembles, whose steps are
    counted by themselves; empty when they are not known (a repository taken as it is): then all that are seen.
    `expected_ready` is how many pods are ready now. `latency_seconds` is the objective. `instances` is how many of a
    model run at once in one pod (1 when absent), `queue_limits` how many requests may wait for one in one pod,
    `warm_up` how many inferences Triton runs to warm one up when it is loaded: it counts them like those of users.
    """

    key: Key
    models: tuple[str, ...] = ()
    expected_ready: int
    latency_seconds: float = LATENCY_SECONDS
    instances: Mapping[str, int] = field(default_factory=dict)
    queue_limits: Mapping[str, int] = field(default_factory=dict)
    warm_up: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ModelReading:
    """One model, over all pods that were seen.

    `rate`: offered inferences per second (done, plus refused, plus the growth of the queue), `None` when unknown.
    `queue`: inferences waiting now. `late`: share (0..1) of answers that took longer than the objective; only Triton
    24.11 and later with latency histograms tell. `capacity`: inferences per second that one replica sustains within the
    objective if it ran this model alone; `None` until something was measured. `lower_bound`: true when more may have
    been offered than can be counted, because a queue is full or refuses.
    """

    rate: float | None
    queue: float | None = None
    late: float | None = None
    capacity: float | None = None
    lower_bound: bool = False


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One service at `at` (seconds since the epoch, by the clock of Prometheus).

    `load` is in replica-equivalents, summed over the models; with `PARTIAL` the pods that were not seen are taken to
    have as much as the others. It is `None` when a rate or a capacity is unknown. `pods_seen` counts pods with a
    current sample. `skew_seconds` is the clock of Prometheus minus ours. `message` says what is wrong and what to do;
    empty when nothing is. `hint` is advice that has nothing to do with the metrics themselves.
    """

    at: float
    state: Freshness
    load: float | None = None
    models: Mapping[str, ModelReading] = field(default_factory=dict)
    pods_seen: int = 0
    skew_seconds: float = 0.0
    message: str = ""
    hint: str = ""

    @property
    def rate(self) -> float | None:
        """Offered inferences per second over all models; `None` when that of one is unknown."""
        return _total([model.rate for model in self.models.values()])

    @property
    def queue(self) -> float | None:
        """Inferences waiting over all models; `None` when that of one is unknown."""
        return _total([model.queue for model in self.models.values()])

    @property
    def late(self) -> float | None:
        """Share of late answers over all models that tell, weighted by their rates."""
        told = [(m.late, m.rate or 0.0) for m in self.models.values() if m.late is not None]
        weight = sum(rate for _, rate in told)
        return sum(late * rate for late, rate in told) / weight if weight > 0 else None

    @property
    def lower_bound(self) -> bool:
        """Whether more was offered than could be counted."""
        return any(model.lower_bound for model in self.models.values())

    @property
    def capacity(self) -> float | None:
        """Inferences per second of one replica at the present mix of models: rate divided by load."""
        rate = self.rate
        if self.load and rate:
            return rate / self.load
        known = [m.capacity for m in self.models.values() if m.capacity is not None]
        return min(known) if known and len(known) == len(self.models) else None


@dataclass(frozen=True, kw_only=True)
class PastLoad:
    """A piece of the past of one service: `rates[i]` is the mean of offered inferences per second (over all models) in
    the minute that starts `minutes[i]` minutes after the epoch, NaN where nothing is known.

    Pieces come newest first. `since` (epoch seconds) is how far back the past of this service is known now: give it
    back as `resume` to go on after a pause. `share` (0..1) is how much of the whole back-fill is done.
    """

    key: Key
    minutes: NDArray[np.int64]
    rates: NDArray[np.float64]
    since: float
    share: float


def _total(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None
