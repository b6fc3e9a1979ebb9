"""How good the forecasts are, and what they cost: pinball loss, coverage, and the tick of a whole fleet.

What is forecast is what scaling needs: the highest minute until one cold start from now. Rolling origin, every minute,
only data up to that minute. Peers give a point; the 95 % bound of each comes from the errors of its last day (the same
courtesy for all), so that levels and not margins are compared. Peers that need minutes of CPU for that (`peers.py`) are
compared at fewer origins, in a second table. `--fleet N` measures time and memory of the fleet tick.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench import loads, peers
from nereus.backtest.world import Floats
from nereus.scaling.features import LONGEST
from nereus.scaling.fleet import FleetObservation, FleetPolicy
from nereus.scaling.forecaster import Forecaster, windows_for
from nereus.scaling.memory import DAY, DAYS, Memory

BOUND = 0.95
ERROR_WINDOW = DAY
PEAK = 20
COLD_STARTS = (60.0, 300.0)
EPSILON = 0.1
KALMAN_LEVEL, KALMAN_TREND, KALMAN_NOISE = 1.0, 0.1, 10.0
HW_ALPHA, HW_GAMMA = 0.3, 0.3


def minutes_of(name: str, days: float) -> Floats:
    """Minute loads in replica-equivalents at a peak of 20 replicas."""
    load = loads.trace(name, days=days)
    per_second = load.scaled(PEAK / load.peak()).per_second()
    return np.asarray(per_second[: len(per_second) // 60 * 60].reshape(-1, 60).mean(1))


def highest_ahead(load: Floats, horizon: int) -> Floats:
    """The highest of the next `horizon` minutes, per minute; `nan` where the trace ends before."""
    padded = np.concatenate([load, np.full(horizon, np.nan)])
    return np.asarray(np.max([padded[k : k + len(load)] for k in range(1, horizon + 1)], axis=0))


def last_value(load: Floats, _: int) -> Floats:
    """The load stays."""
    return load


def highest_of_five(load: Floats, _: int) -> Floats:
    """The highest of the last five minutes stays."""
    padded = np.concatenate([np.repeat(load[0], 4), load])
    return np.asarray(np.max([padded[k : k + len(load)] for k in range(5)], axis=0))


def seasonal_naive(load: Floats, horizon: int) -> Floats:
    """The same window a day ago; before there is one, the last value."""
    window = highest_ahead(load, horizon)
    return np.concatenate([load[:DAY], window[: len(load) - DAY]])


def kalman(load: Floats, horizon: int) -> Floats:
    """Local linear trend filtered with the fixed variances of NVIDIA Dynamo's planner, looked ahead over the window."""
    state, spread = np.array([load[0], 0.0]), np.eye(2) * 10
    move, noise = np.array([[1.0, 1.0], [0.0, 1.0]]), np.diag([KALMAN_LEVEL, KALMAN_TREND])
    made = np.zeros(len(load))
    for minute, value in enumerate(load):
        state, spread = move @ state, move @ spread @ move.T + noise
        gain = spread[:, 0] / (spread[0, 0] + KALMAN_NOISE)
        state = state + gain * (value - state[0])
        spread = spread - np.outer(gain, spread[0])
        made[minute] = max(state[0], state[0] + horizon * state[1], 0)
    return made


def holt_winters(load: Floats, horizon: int) -> Floats:
    """Additive level and daily season with fixed smoothing; the highest over the window."""
    level, season = load[0], np.zeros(DAY)
    made = np.zeros(len(load))
    steps = np.arange(1, horizon + 1)
    for minute, value in enumerate(load):
        slot = minute % DAY
        level += HW_ALPHA * (value - season[slot] - level) if minute >= DAY else (value - level) / 60
        season[slot] += (HW_GAMMA if minute >= DAY else 1.0) * (value - level - season[slot])
        made[minute] = max(level + season[(minute + steps) % DAY].max(), 0) if minute >= DAY else value
    return made


PEERS = {
    "last value": last_value,
    "highest of five minutes": highest_of_five,
    "seasonal naive (day)": seasonal_naive,
    "Holt-Winters (day)": holt_winters,
    "Kalman trend (as Dynamo)": kalman,
}


def bounded(point: Floats, target: Floats, horizon: int) -> Floats:
    """The point moved by the 95 % quantile of its log errors of the last day that were known at the time."""
    error = np.log(target + EPSILON) - np.log(point + EPSILON)
    shift = np.zeros(len(point))
    for minute in range(60, len(point), 10):
        known = error[max(0, minute - ERROR_WINDOW) : minute - horizon + 1]
        shift[minute : minute + 10] = np.quantile(known, BOUND) if len(known) else 0
    return np.asarray((point + EPSILON) * np.exp(shift) - EPSILON)


def ours(series: Floats, cold_start: float) -> tuple[Floats, float]:
    """The published 95 % bounds of the forecaster for all series side by side, and CPU seconds per forecast."""
    services = series.shape[0]
    memory, forecaster = Memory(services), Forecaster(services)
    every, lead = np.arange(services), np.full(services, cold_start)
    capacity = np.ones(services, np.float32)
    shift = np.zeros((8, services), np.int64)
    bounds = np.full(series.shape, np.nan)
    begin = time.process_time()
    for minute in range(series.shape[1]):
        memory.advance(minute)
        memory.raise_to(series[:, minute])
        forecaster.learn(memory, minute, every, cold_start=lead, capacity=capacity)
        outlook = forecaster.forecast(
            memory, minute, every, cold_start=lead, capacity=capacity, day_shift=shift, remember=True
        )
        bounds[:, minute] = outlook.bound
    return bounds, (time.process_time() - begin) / series.size


def pinball(target: Floats, bound: Floats) -> float:
    """Mean pinball loss at 95 %."""
    return float(np.mean(np.maximum(BOUND * (target - bound), (BOUND - 1) * (target - bound))))


def say(text: str) -> None:
    """Progress on stderr."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def against_peers(
    ahead: dict[str, tuple[Floats, float]], found: dict[str, Floats], target: Floats, horizon: int, scored: slice
) -> list[dict[str, Any]]:
    """Everybody at the origins of the heavy peers; `ahead` holds their forecasts of the next minutes."""
    at = peers.origins(scored)
    bounds = {name: bound[at] for name, bound in found.items()}
    for name, (path, _) in ahead.items():
        point = path[:, :horizon].max(1)
        bounds[name] = peers.bounds(point, target[at], at, horizon, level=BOUND, epsilon=EPSILON)
    judged = (at >= scored.start) & np.isfinite(sum(bounds.values()))
    return [
        {
            "method": name,
            "origins": int(judged.sum()),
            "pinball": pinball(target[at][judged], bound[judged]),
            "coverage": float(np.mean(target[at][judged] <= bound[judged])),
            "cpu_seconds": ahead[name][1] if name in ahead else None,
        }
        for name, bound in bounds.items()
    ]


def quality(days: float, names: list[str], interpreter: Path | None) -> list[dict[str, Any]]:
    """One entry per load, horizon and method; those of the second table carry `origins`."""
    by_length: dict[int, list[str]] = {}
    series = {name: minutes_of(name, days) for name in names}
    for name in names:
        by_length.setdefault(len(series[name]), []).append(name)
    made: list[dict[str, Any]] = []
    ahead: dict[str, dict[str, tuple[Floats, float]]] = {}
    for cold_start in COLD_STARTS:
        horizon = int(windows_for(np.array([cold_start])).high[0])
        for length, group in by_length.items():
            bounds, cpu = ours(np.stack([series[name] for name in group]), cold_start)
            for index, name in enumerate(group):
                load = series[name]
                target = highest_ahead(load, horizon)
                scored = slice(min(3 * DAY, length // 3), length - LONGEST)
                found = {"nereus": bounds[index]}
                found |= {peer: bounded(make(load, horizon), target, horizon) for peer, make in PEERS.items()}
                made += [
                    {
                        "load": name,
                        "cold_start": cold_start,
                        "horizon_minutes": horizon,
                        "method": method,
                        "pinball": pinball(target[scored], bound[scored]),
                        "coverage": float(np.mean(target[scored] <= bound[scored])),
                        "cpu_seconds": cpu if method == "nereus" else None,
                    }
                    for method, bound in found.items()
                ]
                say(f"{name}, cold start {cold_start:g} s")
                if interpreter is not None:
                    if name not in ahead:
                        steps = int(windows_for(np.array([COLD_STARTS[-1]])).high[0])
                        ahead[name] = peers.paths(interpreter, load, peers.origins(scored), steps, say=say)
                    same = {"load": name, "cold_start": cold_start, "horizon_minutes": horizon}
                    heavy = against_peers(ahead[name], found, target, horizon, scored)
                    made += [same | entry for entry in heavy]
    return made


def show(entries: list[dict[str, Any]]) -> str:
    """Pinball relative to the last value, per load, and the geometric mean; two tables when heavy peers took part."""
    light = [e for e in entries if "origins" not in e]
    heavy = [e for e in entries if "origins" in e]
    lines = ["every minute:", *_table(light)]
    cpu = np.mean([e["cpu_seconds"] for e in light if e["cpu_seconds"] is not None])
    lines.append(f"(in brackets: coverage of the 95 % bound)   CPU per forecast, learning included: {1e6 * cpu:.0f} us")
    if heavy:
        lines += ["", f"at {heavy[0]['origins']} origins per load:", *_table(heavy)]
        for method in dict.fromkeys(e["method"] for e in heavy if e["cpu_seconds"] is not None):
            spent = np.mean([e["cpu_seconds"] for e in heavy if e["method"] == method])
            lines.append(f"CPU per forecast, {method}: {1e3 * spent:.0f} ms")
    return "\n".join(lines)


def _table(entries: list[dict[str, Any]]) -> list[str]:
    keys = list(dict.fromkeys((e["load"], e["cold_start"]) for e in entries))
    cells = {(e["load"], e["cold_start"], e["method"]): e for e in entries}
    methods = [m for m in dict.fromkeys(e["method"] for e in entries) if all((*key, m) in cells for key in keys)]
    lines = [f"{'method':<26}" + "".join(f"{f'{load} {cold:g}s':>25}" for load, cold in keys) + f"{'geomean':>10}"]
    for method in methods:
        ratios = [cells[*key, method]["pinball"] / cells[*key, "last value"]["pinball"] for key in keys]
        shown = [f"{r:>15.2f} ({cells[*key, method]['coverage']:>6.1%})" for key, r in zip(keys, ratios, strict=True)]
        lines.append(f"{method:<26}" + "".join(f"{c:>25}" for c in shown) + f"{np.exp(np.log(ratios).mean()):>10.2f}")
    return lines


def fleet_tick(services: int, minutes: int = 6) -> dict[str, float]:
    """Seconds of CPU per tick and memory of a fleet that has fifteen days of past."""
    rng = np.random.default_rng(1)
    policy = FleetPolicy(services, latency=np.full(services, 0.5), violations=np.full(services, 0.01))
    start = 20_000 * DAY
    base = rng.uniform(20, 200, services)
    hours = np.arange(DAYS * DAY) / 60
    for service in range(services):
        past = base[service] * (1 + 0.5 * np.sin(hours * np.pi / 12 + service))
        policy.learn_past(service, start - DAYS * DAY + np.arange(DAYS * DAY), past)
    spent = []
    replicas = np.full(services, 10)
    for tick in range(minutes * 4):
        seen = FleetObservation(
            time=start * 60.0 + 60 + 15 * tick,
            load=base * rng.uniform(0.9, 1.1, services),
            queue=np.zeros(services),
            ready=replicas,
            starting=np.zeros(services, np.int64),
            cold_start=np.full(services, 120.0),
            capacity=np.full(services, 10.0),
            late=np.zeros(services),
        )
        begin = time.process_time()
        decided = policy.decide(seen, least=np.ones(services, np.int64), most=np.full(services, 100))
        spent.append(time.process_time() - begin)
        replicas = decided.replicas
    warm = np.array(spent[8:])
    return {
        "services": services,
        "mean_seconds": float(warm.mean()),
        "highest_seconds": float(warm.max()),
        "rss_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> int:
    """Measures, prints, and writes JSON."""
    parser = argparse.ArgumentParser(prog="bench.forecast")
    parser.add_argument("--days", type=float, default=14)
    parser.add_argument("--loads", nargs="*", default=list(loads.FILES), choices=list(loads.FILES))
    parser.add_argument("--no-peers", action="store_true", help="without what has to be installed first")
    parser.add_argument("--fleet", type=int, metavar="N", help="the tick of a fleet of N services instead")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.fleet is not None:
        measured = fleet_tick(args.fleet)
        (args.out / f"fleet-{args.fleet}.json").write_text(json.dumps(measured, indent=1))
        sys.stdout.write(
            f"{args.fleet} services: {measured['mean_seconds']:.3f} s CPU per tick on average, "
            f"{measured['highest_seconds']:.3f} s at most; {measured['rss_megabytes']:.0f} MB\n"
        )
        return 0
    interpreter = None if args.no_peers else peers.python(say)
    entries = quality(args.days, args.loads, interpreter)
    (args.out / "forecast.json").write_text(json.dumps(entries, indent=1))
    sys.stdout.write(show(entries) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
