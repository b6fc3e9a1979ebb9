"""The closed-loop table: cost and late requests of every policy on every scenario, against the clairvoyant optimum.

Nereus runs with its one default. Baselines run at their usual setting and over a sweep; the best of all their settings
that keeps the objective is what Nereus is compared with, though nobody could know it beforehand. Results are kept under
build/bench/scaling and reused, so a run that was interrupted goes on; remove them to measure again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import loads
from nereus.backtest.baselines import BASELINES
from nereus.backtest.baselines.fixed import Static
from nereus.backtest.optimum import optimum
from nereus.backtest.ours import Nereus
from nereus.backtest.world import BatchPolicy, Floats, Outcome, Row, World

VIOLATIONS = 0.01
OURS = "nereus"
STATIC_SHARES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.7, 2.0)
BOOTSTRAPS = 500


def say(text: str) -> None:
    """Progress on stderr."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def _save(path: Path, outcome: Outcome, shape: tuple[int, ...]) -> None:
    hours = outcome.late_by_hour.shape[1]
    np.savez_compressed(
        path,
        late=outcome.late_by_hour.reshape(*shape, hours).astype(np.float32),
        cost=outcome.replica_seconds_by_hour.reshape(*shape, hours).astype(np.float32),
        requests=outcome.requests_by_hour.reshape(*shape, hours).astype(np.float32),
    )


def measure(group: loads.Group, *, out: Path, ours_name: str) -> None:
    """Everything for one group of scenarios that was not measured yet."""
    rows = list(group.rows)
    path = out / "optimum.json"
    if not path.exists():
        say(f"{group.name}: the optimum")
        path.write_text(json.dumps([_optimum(row, group.warm_up_hours) for row in rows]))
    most = np.array([row.max_replicas for row in rows])
    _replay(out, group, ours_name, 1, lambda: Nereus(rows=len(rows), max_replicas=most, blind=ours_name != OURS))
    for baseline in BASELINES:
        spread = np.repeat(np.array(baseline.settings), len(rows))
        _replay(out, group, baseline.name, len(baseline.settings), partial(baseline.make, spread))
    peaks = np.tile([s.peak for s in group.scenarios], len(STATIC_SHARES))
    counts = np.maximum(1, np.round(np.repeat(STATIC_SHARES, len(rows)) * peaks)).astype(np.int64)
    _replay(out, group, "static", len(STATIC_SHARES), lambda: Static(counts))


def _optimum(row: Row, warm_up_hours: int) -> float:
    return optimum(
        row.arrivals,
        capacity=row.capacity,
        cold_start_p95=row.cold_start_p95,
        violations=VIOLATIONS,
        max_replicas=row.max_replicas,
        from_tick=warm_up_hours * 240,
    )


def _replay(out: Path, group: loads.Group, name: str, settings: int, make: Callable[[], BatchPolicy]) -> None:
    path = out / f"{name}.npz"
    if path.exists():
        return
    say(f"{group.name}: {name}, {settings * len(group.rows)} replays")
    world = World(list(group.rows) * settings, seed=loads.SEED)
    begin = time.process_time()
    _save(path, world.run(make()), (settings, len(group.rows)))
    spent = (time.process_time() - begin) / world.ticks / len(group.rows) / settings
    say(f"{group.name}: {name}, {1e6 * spent:.0f} us of CPU per tick and replay, world included")


class Scored:
    """Numbers of one policy on one load after the warm-up; shapes (settings, scenarios)."""

    def __init__(self, path: Path, warm_up: int) -> None:
        with np.load(path) as data:
            self.late = data["late"][..., warm_up:].astype(np.float64)
            self.cost = data["cost"][..., warm_up:].astype(np.float64)
            self.requests = data["requests"][..., warm_up:].astype(np.float64)
        self.violations = self.late.sum(-1) / self.requests.sum(-1)
        self.total = self.cost.sum(-1)
        busy = self.requests >= 0.1 * self.requests.mean(-1, keepdims=True)
        self.worst = np.where(busy, self.late / np.maximum(self.requests, 1), 0).max(-1)


def table(groups: list[loads.Group], *, out: Path, ours_name: str) -> list[dict[str, Any]]:
    """One entry per scenario."""
    made = []
    settings = {b.name: b.settings for b in BASELINES} | {"static": STATIC_SHARES}
    for group in groups:
        here = out / group.name.replace(" ", "-")
        bests = json.loads((here / "optimum.json").read_text())
        ours = Scored(here / f"{ours_name}.npz", group.warm_up_hours)
        others = {key: Scored(here / f"{key}.npz", group.warm_up_hours) for key in settings}
        for index, scenario in enumerate(group.scenarios):
            entry: dict[str, Any] = {
                "scenario": scenario.name,
                "load": scenario.load,
                "late": float(ours.violations[0, index]),
                "worst": float(ours.worst[0, index]),
                "cost": float(ours.total[0, index] / bests[index]),
            }
            kept = [
                (float(o.total[k, index]), key, settings[key][k], k)
                for key, o in others.items()
                for k in range(len(settings[key]))
                if o.violations[k, index] <= VIOLATIONS
            ]
            if kept:
                cost, key, setting, k = min(kept)
                other = others[key]
                entry["best"] = {
                    "policy": key,
                    "setting": setting,
                    "cost": cost / bests[index],
                    "late": float(other.violations[k, index]),
                    "worst": float(other.worst[k, index]),
                }
                entry["ratio"] = float(ours.total[0, index] / cost)
                entry["interval"] = _interval(ours.cost[0, index], other.cost[k, index])
            hpa, k = others["hpa"], settings["hpa"].index(0.7)
            entry["hpa70"] = {
                "late": float(hpa.violations[k, index]),
                "cost": float(hpa.total[k, index] / bests[index]),
                "ratio": float(ours.total[0, index] / hpa.total[k, index]),
            }
            made.append(entry)
    return made


def _interval(ours: Floats, other: Floats) -> tuple[float, float]:
    """90 % bootstrap interval of the cost ratio, resampling whole days."""
    days = len(ours) // 24
    a, b = ours[: days * 24].reshape(days, 24).sum(1), other[: days * 24].reshape(days, 24).sum(1)
    pick = np.random.default_rng(1).integers(0, days, (BOOTSTRAPS, days))
    ratios = a[pick].sum(1) / b[pick].sum(1)
    return float(np.quantile(ratios, 0.05)), float(np.quantile(ratios, 0.95))


def show(entries: list[dict[str, Any]]) -> str:
    """The table and the goals in words."""
    lines = [f"{'scenario':<28}{'late':>7}{'worst':>7}{'cost':>7}   {'best in hindsight':<22}{'late':>7}{'worst':>7}"
             f"{'cost':>7}{'ratio':>7} {'90 % interval':<14}{'HPA70 late':>10}{'cost':>6}"]  # fmt: skip
    for e in entries:
        best, hpa = e.get("best"), e["hpa70"]
        other = " " * 50 + "-" * 7 + " " * 15
        if best:
            name = f"{best['policy']} {best['setting']:g}"
            span = f"{e['interval'][0]:.2f}..{e['interval'][1]:.2f}"
            other = (
                f"{name:<22}{best['late']:>7.2%}{best['worst']:>7.1%}{best['cost']:>7.2f}{e['ratio']:>7.2f} {span:<14}"
            )
        lines.append(
            f"{e['scenario']:<28}{e['late']:>7.2%}{e['worst']:>7.1%}{e['cost']:>7.2f}   {other}"
            f"{hpa['late']:>10.2%}{hpa['cost']:>6.2f}"
        )
    return "\n".join([*lines, *goals(entries)])


def goals(entries: list[dict[str, Any]]) -> list[str]:
    """Each goal with what was measured."""
    reachable = [e for e in entries if "best" in e]
    ratios = np.array([e["ratio"] for e in reachable])
    smooth = np.array([e["ratio"] for e in reachable if e["load"] in loads.SMOOTH])
    kept = sum(e["late"] <= VIOLATIONS for e in reachable)
    worst = sum(e["worst"] <= e["best"]["worst"] + 0.005 for e in reachable)
    fair = [e for e in entries if e["hpa70"]["late"] <= VIOLATIONS]
    cheaper = sum(e["hpa70"]["ratio"] <= 0.8 for e in fair)
    most = max(reachable, key=lambda e: float(e["ratio"]))

    def mean(values: Floats) -> float:
        return float(np.exp(np.log(values).mean())) if len(values) else float("nan")

    return [
        f"kept 1 % on {kept} of {len(reachable)} scenarios where a baseline can   goal: 9 of 10",
        f"  on all scenarios: {sum(e['late'] <= VIOLATIONS for e in entries)} of {len(entries)}",
        f"worst hour no worse than the best baseline's (+0.5 points): {worst} of {len(reachable)}",
        f"geometric mean of cost to the best hindsight-tuned baseline: {mean(ratios):.3f}   goal: 0.80",
        f"  on smooth loads: {mean(smooth):.3f}   goal: 1.00",
        f"  highest: {most['ratio']:.3f} ({most['scenario']}); above 1.05: {int((ratios > 1.05).sum())}   goal: none",
        f"at least 20 % below HPA at 70 %: {cheaper} of {len(fair)} scenarios where that keeps 1 %"
        f" (geometric mean {mean(np.array([e['hpa70']['ratio'] for e in fair])):.3f})   goal: all",
    ]


def main() -> int:
    """Measures what is missing, prints the table."""
    parser = argparse.ArgumentParser(prog="bench.scaling")
    parser.add_argument("--loads", nargs="*", default=list(loads.FILES), choices=list(loads.FILES))
    parser.add_argument("--cold-starts", nargs="*", type=float, default=list(loads.COLD_STARTS))
    parser.add_argument("--peaks", nargs="*", type=int, default=list(loads.PEAKS))
    parser.add_argument("--days", type=float, default=14)
    parser.add_argument("--blind", action="store_true", help="Nereus without measured lateness")
    parser.add_argument("--out", type=Path, default=Path("build/bench/scaling"))
    args = parser.parse_args()
    groups = loads.groups(args.loads, days=args.days, cold_starts=args.cold_starts, peaks=args.peaks)
    wanted = "_".join(f"{value:g}" for value in (*args.cold_starts, *args.peaks))
    out = args.out / f"{wanted}_{'-'.join(sorted(args.loads)) if len(args.loads) < len(loads.FILES) else 'all'}"
    ours_name = OURS + "-blind" if args.blind else OURS
    for group in groups:
        here = out / group.name.replace(" ", "-")
        here.mkdir(parents=True, exist_ok=True)
        measure(group, out=here, ours_name=ours_name)
    entries = table(groups, out=out, ours_name=ours_name)
    (out / "table.json").write_text(json.dumps(entries, indent=1))
    sys.stdout.write(show(entries) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
