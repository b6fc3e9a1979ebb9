"""The arguments of `nereus backtest`: every number is read, bounded and refused here, in one line each.

A number that is no number, not finite or outside of what the simulated world can hold never reaches a replay. What
only shows beside the load (a capacity that makes 10,000 replicas of the peak) is checked where both are known.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from nereus.api.objective import LATENCY_SECONDS, VIOLATIONS
from nereus.backtest.trace import TIME_UNITS, TraceError
from nereus.backtest.world import GIVE_UP_SECONDS

SHAPE_PEAK = 20
"""Without a capacity only the shape counts: the peak is then taken as this many replicas."""
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
DAY = UNITS["d"]
LONGEST_COLD_START = 1800.0
"""Seconds; the ring of starting replicas in the simulated world holds twice the median and no more."""
MOST_REPLICAS = 10_000
LARGEST = 1e9
LONGEST_SHOWN = 40
LEAST_VIOLATIONS, MOST_VIOLATIONS = 0.0001, 0.5
"""As in `spec.scaling.objective.violations`."""


def within(low: float, high: float) -> Callable[[str], float]:
    """Durations such as `120`, `90s`, `2m`, `500ms` as seconds, from `low` to `high` seconds."""

    def seconds(text: str) -> float:
        number, factor = text, 1.0
        for unit in sorted(UNITS, key=len, reverse=True):
            if text.endswith(unit):
                number, factor = text[: -len(unit)], UNITS[unit]
                break
        try:
            value = float(number) * factor
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{_quoted(text)} is not a duration; write 120, 90s, 2m or 500ms"
            ) from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"{_quoted(text)} is outside {duration(low)} to {duration(high)}; give one within"
            )
        return value

    return seconds


def duration(seconds: float) -> str:
    """Seconds as a person writes them: in the largest unit of which they are a whole number."""
    unit = next((u for u in ("d", "h", "m", "s") if seconds >= UNITS[u] and seconds % UNITS[u] == 0), "ms")
    return f"{seconds / UNITS[unit]:g}{unit}" if seconds else "0"


def share(text: str) -> float:
    """`1%` or `0.01` as a share."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{_quoted(text)} is not a share; write 1% or 0.01") from None
    if not LEAST_VIOLATIONS <= value <= MOST_VIOLATIONS:
        raise argparse.ArgumentTypeError(
            f"{_quoted(text)} is outside {LEAST_VIOLATIONS:.2%} to {MOST_VIOLATIONS:.0%}; write 1% or 0.01"
        )
    return value


def positive(text: str) -> float:
    """A number above 0, and finite."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{_quoted(text)} is not a number; write e.g. 12.5") from None
    if not 1 / LARGEST <= value <= LARGEST:
        raise argparse.ArgumentTypeError(
            f"{_quoted(text)} is not a number above 0 (at most {LARGEST:g}); write e.g. 12.5"
        )
    return value


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number from `low` to `high`."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{_quoted(text)} is not a whole number; write {max(low, 1)} or more"
            ) from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{_quoted(text)} is outside {low} to {high}; give a whole number within")
        return value

    return number


def _quoted(text: str) -> str:
    return repr(text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "...")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as for a file that cannot be used; the usage is one `--help` away."""

    def error(self, message: str) -> NoReturn:
        raise TraceError(f"{message} (--help lists the arguments)")


def parser(policies: Sequence[str]) -> argparse.ArgumentParser:
    """The arguments; wrong ones raise `TraceError`. `policies` are the names that --policy takes."""
    made = _Parser(
        prog="nereus backtest",
        description="What predictive scaling would have done on a recorded load, and at what cost.",
    )
    source = made.add_argument_group("the load")
    source.add_argument("--trace", type=Path, metavar="FILE", help="CSV (or .csv.gz) with a time and a count column")
    source.add_argument("--column", help="the column with the load, when there are several")
    source.add_argument("--unit", choices=("count", "rate"), default="count", help="requests per row, or per second")
    source.add_argument(
        "--time-unit", choices=tuple(TIME_UNITS), help="unit of the times (absent: found where they count from 1970)"
    )
    source.add_argument("--prometheus", metavar="URL", help="read a range of this Prometheus instead")
    source.add_argument("--query", help="PromQL that gives one series of requests per second: sum(rate(x[1m]))")
    source.add_argument(
        "--history", type=within(7200, 400 * DAY), default=14 * DAY, metavar="14d", help="how far back to read"
    )
    source.add_argument("--step", type=within(1, 3600), default=60.0, metavar="60s", help="resolution of the range")
    source.add_argument("--days", type=positive, help="only the first days of the trace")
    world = made.add_argument_group("the world")
    world.add_argument(
        "--cold-start",
        type=within(1, LONGEST_COLD_START),
        required=True,
        metavar="2m",
        help="creation to serving, 95th percentile",
    )
    size = world.add_mutually_exclusive_group()
    size.add_argument(
        "--capacity", type=positive, help=f"requests/s of one replica (absent: the peak is {SHAPE_PEAK} replicas)"
    )
    size.add_argument("--peak-replicas", type=positive, help="set the capacity so that the peak needs so many replicas")
    world.add_argument("--min", type=whole(1, MOST_REPLICAS), default=1, metavar="N", help="fewest replicas")
    world.add_argument(
        "--max", type=whole(1, MOST_REPLICAS), metavar="N", help="most replicas (absent: twice the peak)"
    )
    world.add_argument(
        "--objective", type=share, default=VIOLATIONS, metavar="1%%", help="allowed share of late requests"
    )
    world.add_argument(
        "--latency",
        type=within(0.001, GIVE_UP_SECONDS),
        default=LATENCY_SECONDS,
        metavar="500ms",
        help="a request is late after this; four fifths of it may be spent waiting",
    )
    world.add_argument(
        "--warm-up",
        type=within(0, 400 * DAY),
        metavar="7d",
        help="lived through but not scored, in whole hours (absent: a third, at most 7d)",
    )
    world.add_argument("--seed", type=whole(0, 2**63 - 1), default=1, help="of arrivals and cold starts")
    out = made.add_argument_group("the report")
    out.add_argument("--policy", action="append", choices=policies, help="only these (may be repeated)")
    out.add_argument("--gpus-per-replica", type=whole(1, 10_000), default=1, metavar="N")
    out.add_argument("--gpu-hour-price", type=positive, metavar="MONEY", help="turns GPU-hours into money")
    out.add_argument("--html", type=Path, metavar="FILE")
    out.add_argument("--json", type=Path, metavar="FILE")
    out.add_argument("--no-sweep", action="store_true", help="usual settings only")
    return made
