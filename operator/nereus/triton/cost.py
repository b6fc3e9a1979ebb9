"""What a batch costs: a line fitted to the batch statistics that Triton keeps of every model. Pure.

For each batch size Triton counts the executions and their time (`batch_stats` of GET /v2/models/stats: input, compute
and output, in nanoseconds). Execution time grows about linearly with the batch, seconds(b) = fixed + each * b, so a
line weighted by the executions per size tells what a replica sustains, without a profiler. It says nothing about
batches that were never run: the largest one seen is part of the answer, and where only batches of one were run the
whole time counts as theirs (a larger batch is then assumed to win nothing).

Standard library only: the sidecar's image has no numpy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LEAST_EXECUTIONS = 3
"""A size that was run less often is not taken as seen: one slow first run would bend the line."""
_PARTS = ("compute_input", "compute_infer", "compute_output")


@dataclass(frozen=True)
class Executions:
    """How often batches of one size were run, and the time they took together."""

    count: int
    seconds: float


Batches = Mapping[int, Executions]
"""By batch size."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """seconds(b) = fixed_seconds + seconds_per_inference * b, for 1 <= b <= largest. `samples` is the number of
    executions behind it; `residual` is the weighted root mean square distance from the line over the weighted mean
    time: the smaller, the more the line can be believed (0.1: about 10 % off)."""

    fixed_seconds: float
    seconds_per_inference: float
    largest: int
    samples: int
    residual: float

    def seconds(self, batch: int) -> float | None:
        """The time of a batch; None for one that is larger than any seen."""
        return self.fixed_seconds + self.seconds_per_inference * batch if 1 <= batch <= self.largest else None


def batches(statistics: Mapping[str, Any]) -> Batches:
    """The executions of one entry of `model_stats`; what makes no sense is left out."""
    found = {}
    for entry in statistics.get("batch_stats") or ():
        size, count = _number(entry.get("batch_size")), _number((entry.get("compute_infer") or {}).get("count"))
        nanoseconds = sum(_number((entry.get(part) or {}).get("ns")) for part in _PARTS)
        if size >= 1 and count >= 1 and nanoseconds > 0:
            found[int(size)] = Executions(int(count), nanoseconds / 1e9)
    return found


def since(now: Batches, before: Batches) -> Batches:
    """What was run since `before`. Triton counts from zero when it loads a model again: then all of `now` is new."""
    if any(now.get(size, Executions(0, 0.0)).count < run.count for size, run in before.items()):
        return now
    nothing = Executions(0, 0.0)
    left = {
        size: Executions(run.count - before.get(size, nothing).count, run.seconds - before.get(size, nothing).seconds)
        for size, run in now.items()
    }
    return {size: run for size, run in left.items() if run.count > 0 and run.seconds > 0}


def fit(run: Batches) -> Fit | None:
    """The line; None while nothing was run often enough. Weighted least squares with neither part below zero."""
    seen = {size: each for size, each in run.items() if each.count >= LEAST_EXECUTIONS and each.seconds > 0}
    if not seen:
        return None
    samples = sum(each.count for each in seen.values())
    points = [(size, each.seconds / each.count, each.count / samples) for size, each in sorted(seen.items())]
    largest = points[-1][0]
    mean = sum(weight * seconds for _, seconds, weight in points)
    if len(points) == 1:
        # The slope is unknown. A lone batch of one carries the whole time; of a larger one, smaller ones save nothing.
        fixed, each = (0.0, mean) if largest == 1 else (mean, 0.0)
    else:
        fixed, each = _line(points, mean)
    squares = sum(weight * (seconds - fixed - each * size) ** 2 for size, seconds, weight in points)
    return Fit(
        fixed_seconds=fixed,
        seconds_per_inference=each,
        largest=largest,
        samples=samples,
        residual=math.sqrt(squares) / mean,
    )


def _line(points: list[tuple[int, float, float]], mean: float) -> tuple[float, float]:
    """Intercept and slope of the weighted least squares line; on a bound where the free line would be below zero."""
    center = sum(weight * size for size, _, weight in points)
    spread = sum(weight * (size - center) ** 2 for size, _, weight in points)
    slope = sum(weight * (size - center) * (seconds - mean) for size, seconds, weight in points) / spread
    if slope <= 0:
        return mean, 0.0
    if mean - slope * center >= 0:
        return mean - slope * center, slope
    through_zero = sum(weight * size * seconds for size, seconds, weight in points)
    return 0.0, through_zero / sum(weight * size * size for size, _, weight in points)


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0.0
