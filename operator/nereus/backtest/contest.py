"""One load, one world, every policy on the same draws: what each would have cost and how often it would have failed.

Baselines run at their usual setting and over a sweep, so that each can be judged at its best setting in hindsight.
Everything before `warm_up_hours` is lived through but not scored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nereus.api.objective import LATENCY_SECONDS, VIOLATIONS
from nereus.backtest.baselines import BASELINES, Baseline
from nereus.backtest.baselines.fixed import HourlySchedule, Static, plan_from
from nereus.backtest.optimum import optimum
from nereus.backtest.ours import Forecasts, Nereus
from nereus.backtest.trace import Trace
from nereus.backtest.world import TICK_SECONDS, BatchPolicy, Floats, Outcome, Row, World, draw_arrivals
from nereus.scaling.fleet import WAIT_SHARE

OURS = "nereus"
STATIC_STEPS = 24
SCHEDULE_TARGETS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
OBJECTIVES = (0.001, 0.003, 0.03)
LONG_TRACE_DAYS = 10.0


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The world to replay in. `capacity` is what one replica serves per second; `cold_start` its 95th percentile, in
    s."""

    cold_start: float
    capacity: float
    max_replicas: int
    min_replicas: int = 1
    violations: float = VIOLATIONS
    latency: float = LATENCY_SECONDS
    warm_up_hours: int | None = None
    seed: int = 1

    @property
    def wait(self) -> float:
        """Seconds that a request may wait and still be in time."""
        return WAIT_SHARE * self.latency

    def warm_up(self, trace: Trace) -> int:
        """Hours not scored: as given, else a third of the trace and at most a week."""
        if self.warm_up_hours is not None:
            return min(self.warm_up_hours, int(trace.seconds // 3600) - 1)
        return int(min(7 * 24, trace.seconds / 3600 / 3))


@dataclass(frozen=True, kw_only=True)
class Result:
    """One policy at one setting, scored after the warm-up; arrays are per hour of the whole trace."""

    name: str
    title: str
    setting: float | None
    violations: float
    worst_hour: float
    replica_hours: float
    starts_per_day: float
    late_by_hour: Floats
    requests_by_hour: Floats
    replicas_by_hour: Floats
    wanted_by_minute: Floats = field(default_factory=lambda: np.zeros(0))
    ready_by_minute: Floats = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Everything that was replayed on one load."""

    trace: Trace
    setup: Setup
    warm_up_hours: int
    optimum_hours: float
    usual: tuple[Result, ...]
    swept: tuple[Result, ...]
    curve: tuple[Result, ...]
    load_by_minute: Floats
    forecasts: Forecasts | None

    def ours(self) -> Result | None:
        """The result of Nereus, when it took part."""
        return next((result for result in self.usual if result.name == OURS), None)

    def best(self, allowed: float | None = None) -> Result | None:
        """The cheapest swept baseline that kept the objective; `None` when none did."""
        limit = self.setup.violations if allowed is None else allowed
        kept = [result for result in self.swept if result.violations <= limit]
        return min(kept, key=lambda result: result.replica_hours, default=None)


def results_of(
    outcome: Outcome, *, names: Sequence[tuple[str, str, float | None]], warm_up: int, keep_minutes: bool = False
) -> list[Result]:
    """The rows of an outcome as results."""
    violations, worst = outcome.violations(warm_up), outcome.worst_hour(warm_up)
    hours = outcome.replica_seconds(warm_up) / 3600
    days = max((outcome.requests_by_hour.shape[1] - warm_up) / 24, 1e-9)
    made = []
    for row, (name, title, setting) in enumerate(names):
        made.append(
            Result(
                name=name,
                title=title,
                setting=setting,
                violations=float(violations[row]),
                worst_hour=float(worst[row]),
                replica_hours=float(hours[row]),
                starts_per_day=float(outcome.started_by_hour[row, warm_up:].sum() / days),
                late_by_hour=outcome.late_by_hour[row],
                requests_by_hour=outcome.requests_by_hour[row],
                replicas_by_hour=outcome.replica_seconds_by_hour[row] / 3600,
                wanted_by_minute=outcome.wanted_by_minute[row] if keep_minutes else np.zeros(0),
                ready_by_minute=outcome.ready_by_minute[row] if keep_minutes else np.zeros(0),
            )
        )
    return made


def run(
    trace: Trace,
    setup: Setup,
    *,
    policies: Sequence[str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
    sweep: bool = True,
) -> Contest:
    """Replays the load under Nereus and the baselines; `policies` narrows by name."""
    warm_up = setup.warm_up(trace)
    per_second = trace.per_second()
    arrivals = draw_arrivals(per_second, seed=setup.seed)
    arrivals = arrivals[: len(arrivals) // TICK_SECONDS * TICK_SECONDS]
    row = Row(
        arrivals=arrivals,
        cold_start_p95=setup.cold_start,
        capacity=setup.capacity,
        min_replicas=setup.min_replicas,
        max_replicas=setup.max_replicas,
    )
    minutes = len(arrivals) // 60
    load = arrivals[: minutes * 60].reshape(minutes, 60).sum(1) / 60 / setup.capacity
    progress("the optimum")
    best = optimum(
        arrivals,
        capacity=setup.capacity,
        cold_start_p95=setup.cold_start,
        violations=setup.violations,
        max_replicas=setup.max_replicas,
        wait=setup.wait,
        from_tick=warm_up * 3600 // TICK_SECONDS,
    )

    def wanted(name: str) -> bool:
        return policies is None or name in policies

    def world(rows: int) -> World:
        return World([row] * rows, seed=setup.seed, wait_seconds=setup.wait)

    usual: list[Result] = []
    swept: list[Result] = []
    curve: tuple[Result, ...] = ()
    forecasts = None
    if wanted(OURS):
        progress("Nereus")
        # One row at the objective, the others for the curve of cost against violations.
        targets = np.array([setup.violations, *(OBJECTIVES if sweep else ())])
        rows = len(targets)
        ours = Nereus(
            rows=rows,
            min_replicas=np.full(rows, setup.min_replicas),
            max_replicas=np.full(rows, setup.max_replicas),
            violations=targets,
            latency=setup.latency,
            record=True,
        )
        outcome = world(rows).run(ours, start_time=trace.start, record=True)
        names = [(OURS, "Nereus", float(target)) for target in targets]
        found = results_of(outcome, names=names, warm_up=warm_up, keep_minutes=True)
        usual.append(found[0])
        curve = tuple(sorted(found, key=lambda result: result.replica_hours))
        forecasts = ours.forecasts()
    for baseline in BASELINES:
        if wanted(baseline.name):
            progress(baseline.title)
            settings = baseline.settings if sweep else (baseline.usual,)
            found = _sweep(baseline, settings, world, warm_up, trace.start)
            swept += found
            usual += [result for result in found if result.setting == baseline.usual]
    for name, title, tried, policy in _fixed(load, warm_up, setup):
        if wanted(name):
            progress(title)
            outcome = world(len(tried)).run(policy, start_time=0.0)
            found = results_of(outcome, names=[(name, title, target) for target in tried], warm_up=warm_up)
            swept += found
            usual.append(_least_that_keeps(found, setup.violations))
    return Contest(
        trace=trace,
        setup=setup,
        warm_up_hours=warm_up,
        optimum_hours=best / 3600,
        usual=tuple(usual),
        swept=tuple(swept),
        curve=curve,
        load_by_minute=load,
        forecasts=forecasts,
    )


def _sweep(
    baseline: Baseline, settings: Sequence[float], world: Callable[[int], World], warm_up: int, start: float
) -> list[Result]:
    outcome = world(len(settings)).run(baseline.make(np.array(settings)), start_time=start)
    return results_of(outcome, names=[(baseline.name, baseline.title, s) for s in settings], warm_up=warm_up)


def _least_that_keeps(found: list[Result], violations: float) -> Result:
    kept = [result for result in found if result.violations <= violations]
    return min(kept, key=lambda r: r.replica_hours) if kept else min(found, key=lambda r: r.violations)


def _fixed(load: Floats, warm_up: int, setup: Setup) -> list[tuple[str, str, list[float], BatchPolicy]]:
    """Static peak (any constant) and a schedule that knows nothing but the warm-up."""
    most = setup.max_replicas
    counts = np.unique(np.round(np.geomspace(max(setup.min_replicas, 1), most, STATIC_STEPS)).astype(np.int64))
    period = 168 if len(load) >= LONG_TRACE_DAYS * 1440 and warm_up >= 168 else 24
    past = load[: max(warm_up, 24) * 60]
    plans = np.stack([np.minimum(plan_from(past, t, period_hours=period), most) for t in SCHEDULE_TARGETS])
    return [
        ("static", "static (constant replicas)", [float(c) for c in counts], Static(counts)),
        ("schedule", "schedule from the warm-up", list(SCHEDULE_TARGETS), HourlySchedule(plans)),
    ]
