"""The closed-loop table: cost and late requests of every policy on every scenario, against the clairvoyant optimum.

Nereus runs with its one default. Baselines run at their usual setting and over a sweep; the best of all their settings
that keeps the objective is what Nereus is compared with, though nobody could know it beforehand. What was replayed is
kept under build/bench/scaling (`replays.py`).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bench import loads, replays
from bench.replays import VIOLATIONS
from nereus.backtest.world import Floats

BOOTSTRAPS = 500


class Scored:
    """Numbers of one policy on one load after the warm-up; shapes (settings, scenarios)."""

    def __init__(self, replayed: replays.Replayed, warm_up: int) -> None:
        late, requests = replayed.late[..., warm_up:], replayed.requests[..., warm_up:]
        self.cost = replayed.cost[..., warm_up:]
        self.violations = late.sum(-1) / requests.sum(-1)
        self.total = self.cost.sum(-1)
        busy = requests >= 0.1 * requests.mean(-1, keepdims=True)
        self.worst = np.where(busy, late / np.maximum(requests, 1), 0).max(-1)


def table(group: loads.Group, out: Path, *, blind: bool) -> list[dict[str, Any]]:
    """One entry per scenario; what was not measured yet is."""
    optima = replays.optima(group, out)
    ours = Scored(replays.ours(group, out, blind=blind), group.warm_up_hours)
    others = {key: Scored(found, group.warm_up_hours) for key, found in replays.baselines(group, out).items()}
    made = []
    for index, (scenario, best) in enumerate(zip(group.scenarios, optima, strict=True)):
        entry: dict[str, Any] = {
            "scenario": scenario.name,
            "load": scenario.load,
            "peak": scenario.peak,
            "late": float(ours.violations[0, index]),
            "worst": float(ours.worst[0, index]),
            "cost": float(ours.total[0, index] / best),
        }
        kept = [
            (float(other.total[k, index]), key, k)
            for key, other in others.items()
            for k in range(len(replays.SETTINGS[key]))
            if other.violations[k, index] <= VIOLATIONS
        ]
        if kept:
            cost, key, k = min(kept)
            other = others[key]
            entry["best"] = {
                "policy": key,
                "setting": replays.SETTINGS[key][k],
                "cost": cost / best,
                "late": float(other.violations[k, index]),
                "worst": float(other.worst[k, index]),
            }
            entry["ratio"] = float(ours.total[0, index] / cost)
            entry["interval"] = _interval(ours.cost[0, index], other.cost[k, index])
        hpa, k = others["hpa"], replays.SETTINGS["hpa"].index(0.7)
        entry["hpa70"] = {
            "late": float(hpa.violations[k, index]),
            "cost": float(hpa.total[k, index] / best),
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
    args.out.mkdir(parents=True, exist_ok=True)
    groups = loads.groups(args.loads, days=args.days, cold_starts=args.cold_starts, peaks=args.peaks)
    entries = [entry for group in groups for entry in table(group, args.out, blind=args.blind)]
    (args.out / "table.json").write_text(json.dumps(entries, indent=1))
    for peak in args.peaks:
        sys.stdout.write(show([entry for entry in entries if entry["peak"] == peak]) + "\n\n")
    if len(args.peaks) > 1:
        sys.stdout.write("\n".join(["all peaks:", *goals(entries)]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
