"""`nereus backtest`: a recorded load in, a report out; no cluster needed.

Reads a CSV or a range of a Prometheus, replays it, prints a table, and writes the report as HTML and JSON when asked
to.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nereus.api.objective import VIOLATIONS
from nereus.backtest import prometheus, report
from nereus.backtest.baselines import BASELINES
from nereus.backtest.contest import OURS, Contest, Setup, run
from nereus.backtest.trace import Trace, TraceError, read_csv

POLICIES = (OURS, *(baseline.name for baseline in BASELINES), "static", "schedule")
SHAPE_PEAK = 20
"""Without a capacity only the shape counts: the peak is then taken as this many replicas."""
NATURAL_CAPACITY = 10.0
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def seconds(text: str) -> float:
    """`120`, `90s`, `2m`, `500ms` as seconds."""
    for unit in sorted(UNITS, key=len, reverse=True):
        if text.endswith(unit):
            text, factor = text[: -len(unit)], UNITS[unit]
            break
    else:
        factor = 1.0
    try:
        value = float(text) * factor
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration; write 120, 90s, 2m or 500ms") from None
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive duration")
    return value


def share(text: str) -> float:
    """`1%` or `0.01` as a share."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share; write 1% or 0.01") from None
    if not 0 < value < 0.5:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 50 %")
    return value


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    made = argparse.ArgumentParser(
        prog="nereus backtest",
        description="What predictive scaling would have done on a recorded load, and at what cost.",
    )
    source = made.add_argument_group("the load")
    source.add_argument("--trace", type=Path, metavar="FILE", help="CSV (or .csv.gz) with a time and a count column")
    source.add_argument("--column", help="the column with the load, when there are several")
    source.add_argument("--unit", choices=("count", "rate"), default="count", help="requests per row, or per second")
    source.add_argument("--prometheus", metavar="URL", help="read a range of this Prometheus instead")
    source.add_argument("--query", help="PromQL that gives one series of requests per second: sum(rate(x[1m]))")
    source.add_argument("--history", type=seconds, default=14 * 86_400.0, metavar="14d", help="how far back to read")
    source.add_argument("--step", type=seconds, default=60.0, metavar="60s", help="resolution of the range")
    source.add_argument("--days", type=float, help="only the first days of the trace")
    world = made.add_argument_group("the world")
    world.add_argument(
        "--cold-start", type=seconds, required=True, metavar="2m", help="creation to serving, 95th percentile"
    )
    world.add_argument(
        "--capacity", type=float, help=f"requests/s of one replica (absent: the peak is {SHAPE_PEAK} replicas)"
    )
    world.add_argument("--peak-replicas", type=float, help="set the capacity so that the peak needs so many replicas")
    world.add_argument("--min", type=int, default=1, metavar="N", help="fewest replicas")
    world.add_argument("--max", type=int, metavar="N", help="most replicas (absent: twice the peak)")
    world.add_argument(
        "--objective", type=share, default=VIOLATIONS, metavar="1%%", help="allowed share of late requests"
    )
    world.add_argument("--latency", type=seconds, default=0.5, metavar="500ms", help="a request is late after this")
    world.add_argument(
        "--warm-up", type=seconds, metavar="7d", help="lived through but not scored (absent: a third, at most 7d)"
    )
    world.add_argument("--seed", type=int, default=1, help="of arrivals and cold starts")
    out = made.add_argument_group("the report")
    out.add_argument("--policy", action="append", choices=POLICIES, help="only these (may be repeated)")
    out.add_argument("--gpus-per-replica", type=int, default=1, metavar="N")
    out.add_argument("--gpu-hour-price", type=float, metavar="MONEY", help="turns GPU-hours into money")
    out.add_argument("--html", type=Path, metavar="FILE")
    out.add_argument("--json", type=Path, metavar="FILE")
    out.add_argument("--no-sweep", action="store_true", help="usual settings only")
    return made


def load_of(args: argparse.Namespace, progress: Progress) -> Trace:
    """The trace that the arguments name."""
    if (args.trace is None) == (args.prometheus is None):
        raise TraceError("give either --trace FILE or --prometheus URL --query PROMQL")
    if args.trace is not None:
        trace = read_csv(args.trace, column=args.column, unit=args.unit)
    else:
        if not args.query:
            raise TraceError("--prometheus needs --query, PromQL that gives one series of requests per second")
        now = time.time()
        trace = prometheus.fetch(
            args.prometheus, args.query, start=now - args.history, end=now, step=args.step, progress=progress
        )
    if args.days is not None:
        trace = trace.cut(days=args.days)
    if trace.seconds < 2 * 3600:
        raise TraceError(f"{trace.name}: {trace.seconds / 60:.0f} minutes of load; at least two hours are needed")
    return trace


def setup_of(args: argparse.Namespace, trace: Trace) -> tuple[Trace, Setup]:
    """The world, and the trace at the rate that it needs."""
    peak = trace.peak()
    if peak <= 0:
        raise TraceError(f"{trace.name}: the load is zero nearly everywhere; there is nothing to scale")
    if args.capacity is not None:
        if not args.capacity > 0:
            raise TraceError(f"--capacity {args.capacity:g}: must be above 0 requests per second")
        capacity = args.capacity
    else:
        # The shape at a rate where chance within a second is neither everything nor nothing.
        replicas = args.peak_replicas or SHAPE_PEAK
        trace = trace.scaled(replicas * NATURAL_CAPACITY / peak)
        capacity = NATURAL_CAPACITY
    peak_replicas = trace.peak() / capacity
    if peak_replicas > 5000:
        raise TraceError(
            f"the peak needs {peak_replicas:.0f} replicas of {capacity:g} requests/s; is --unit or --capacity right?"
        )
    most = args.max if args.max is not None else max(2, int(np.ceil(2 * peak_replicas)))
    if not 1 <= args.min <= most:
        raise TraceError(f"--min {args.min} --max {most}: need 1 <= min <= max")
    warm_up = None if args.warm_up is None else int(args.warm_up // 3600)
    setup = Setup(
        cold_start=min(args.cold_start, 1800.0),
        capacity=capacity,
        min_replicas=args.min,
        max_replicas=most,
        violations=args.objective,
        latency=args.latency,
        warm_up_hours=warm_up,
        seed=args.seed,
    )
    return trace, setup


class Progress:
    """Says on stderr what is being done, so that nothing long is silent."""

    def __call__(self, text: str) -> None:
        sys.stderr.write(f"  {text} ...\n")
        sys.stderr.flush()


def table(contest: Contest) -> str:
    """The result for a terminal."""
    lines = [f"{'policy':<28}{'setting':>9}{'late':>9}{'worst hour':>12}{'replica-h':>11}{'of optimum':>12}"]
    best = contest.best()
    listed = list(contest.usual) + ([best] if best is not None and best not in contest.usual else [])
    for result in listed:
        title = result.title + (" *" if result is best else "")
        setting = "-" if result.setting is None else f"{result.setting:g}"
        lines.append(
            f"{title:<28}{setting:>9}{result.violations:>9.2%}{result.worst_hour:>12.1%}{result.replica_hours:>11.0f}"
            f"{result.replica_hours / contest.optimum_hours:>12.2f}"
        )
    if best is not None:
        lines.append("* the cheapest setting of any other scaler that kept the objective, known only afterwards")
    elif contest.swept:
        lines.append("no other scaler kept the objective at any setting")
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    sys.stderr.write(f"wrote {path}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 0 when a report was made, 2 when the input cannot be used."""
    args = parser().parse_args(argv)
    progress = Progress()
    try:
        trace, setup = setup_of(args, load_of(args, progress))
        for note in trace.notes:
            sys.stderr.write(f"note: {note}\n")
        contest = run(trace, setup, policies=args.policy, progress=progress, sweep=not args.no_sweep)
        sys.stdout.write(table(contest))
        known = {"gpus": args.gpus_per_replica, "price": args.gpu_hour_price}
        if args.html is not None:
            _write(args.html, report.as_html(contest, **known))
        if args.json is not None:
            _write(args.json, json.dumps(report.as_json(contest, **known), indent=1) + "\n")
    except TraceError as error:
        sys.stderr.write(f"nereus backtest: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"nereus backtest: {error.filename}: {error.strerror}\n")
        return 2
    return 0
