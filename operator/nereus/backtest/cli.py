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

from nereus.backtest import prometheus, report
from nereus.backtest.arguments import SHAPE_PEAK, parser
from nereus.backtest.baselines import BASELINES
from nereus.backtest.contest import OURS, Contest, Setup, run
from nereus.backtest.trace import MOST_RATE, Trace, TraceError, read_csv

POLICIES = (OURS, *(baseline.name for baseline in BASELINES), "static", "schedule")
NATURAL_CAPACITY = 10.0
MOST_PEAK_REPLICAS = 5000
LEAST_SECONDS, MOST_DAYS = 2 * 3600, 400
"""How much load a replay needs, and how much of it is still lived through in an evening."""


def load_of(args: argparse.Namespace, progress: Progress) -> Trace:
    """The trace that the arguments name."""
    if (args.trace is None) == (args.prometheus is None):
        raise TraceError("give either --trace FILE or --prometheus URL --query PROMQL")
    if args.trace is not None:
        trace = read_csv(args.trace, column=args.column, unit=args.unit, time_unit=args.time_unit)
    else:
        if not args.query:
            raise TraceError("--prometheus needs --query, PromQL that gives one series of requests per second")
        now = time.time()
        trace = prometheus.fetch(
            args.prometheus, args.query, start=now - args.history, end=now, step=args.step, progress=progress
        )
    if args.days is not None:
        trace = trace.cut(days=args.days)
    if trace.seconds < LEAST_SECONDS:
        raise TraceError(f"{trace.name}: {trace.seconds / 60:.0f} minutes of load; at least two hours are needed")
    if trace.seconds > MOST_DAYS * 86_400:
        raise TraceError(
            f"{trace.name}: {trace.seconds / 86_400:.0f} days from the first row to the last; at most {MOST_DAYS} are "
            "replayed: give --days, or take out the row whose time is wrong"
        )
    return trace


def setup_of(args: argparse.Namespace, trace: Trace) -> tuple[Trace, Setup]:
    """The world, and the trace at the rate that it needs."""
    peak = trace.peak()
    if peak <= 0:
        raise TraceError(f"{trace.name}: the load is zero nearly everywhere; there is nothing to scale")
    if args.capacity is not None:
        capacity = args.capacity
    else:
        # The shape at a rate where chance within a second is neither everything nor nothing.
        replicas = args.peak_replicas or SHAPE_PEAK
        trace = trace.scaled(replicas * NATURAL_CAPACITY / peak)
        capacity = NATURAL_CAPACITY
    peak_replicas = trace.peak() / capacity
    if peak_replicas > MOST_PEAK_REPLICAS:
        raise TraceError(
            f"the peak needs {peak_replicas:.0f} replicas of {capacity:g} requests/s; is --unit or --capacity right?"
        )
    highest = float(np.nanmax(trace.rates))
    if highest > MOST_RATE:
        raise TraceError(
            f"{trace.name}: the highest row is {highest / trace.peak():.3g} times the peak of all others; take it out"
        )
    most = args.max if args.max is not None else max(2, int(np.ceil(2 * peak_replicas)))
    if not 1 <= args.min <= most:
        raise TraceError(f"--min {args.min} --max {most}: need 1 <= min <= max")
    warm_up = None if args.warm_up is None else int(np.ceil(args.warm_up / 3600))
    if warm_up is not None and warm_up > trace.seconds // 3600 - 1:
        raise TraceError(
            f"--warm-up {warm_up}h: there are {trace.seconds / 3600:.0f} h of load; leave at least one to be scored"
        )
    setup = Setup(
        cold_start=args.cold_start,
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
    progress = Progress()
    try:
        args = parser(POLICIES).parse_args(argv)
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
