"""The one default on loads that it was not made with: made ones and shipped ones from elsewhere, with other draws.

The same worlds and baselines as `scaling.py`, other loads: the shipped traces begin at another day and minute, and ten
loads are made from a seed (two rush hours, a job every seven hours, flash crowds, a launch that stays, bursts of heavy
tailed length, weekends only, a drifting day, work on the hour and the quarter, a steady load, idle with rare work).
`--requests` judges in another simulator instead (`requests.py`), request by request.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bench import loads, requests
from bench.scaling import show, table
from nereus.backtest.world import Floats, Row, draw_arrivals

DAYS = 14
COLD_STARTS = (90.0, 240.0)
PEAK = 20
SEED = 20_261
BEGINS = {  # days into the trace at which the circle is cut
    "azure-llm-conv": 2.61,
    "fn-2aec780b": 9.83,
    "fn-704b0cff": 6.37,
    "fn-9c61f960": 1.71,
    "fn-d2138e08": 11.29,
    "fn-f44479da": 3.58,
}


def made(seed: int) -> dict[str, Floats]:
    """Rates per minute over fourteen days, of any scale."""
    rng = np.random.default_rng(seed)
    minutes = DAYS * 1440
    t = np.arange(minutes)
    hour, day = t % 1440 / 60, t // 1440
    noise = 1 + 0.04 * rng.standard_normal(minutes)
    calm = 1 + 0.5 * np.sin((hour - 9) * np.pi / 12)

    def hump(at: float, width: float) -> Floats:
        return np.asarray(np.exp(-(((hour - at + 12) % 24 - 12) ** 2) / (2 * width**2)))

    def events(per_day: float) -> list[int]:
        return [int(at) for at in np.sort(rng.choice(minutes, int(per_day * DAYS), replace=False))]

    crowds, tails, rare = np.zeros(minutes), np.zeros(minutes), np.zeros(minutes)
    for at in events(0.7):
        crowds[at:] += rng.lognormal(0.6, 0.5) * np.exp(-np.arange(minutes - at) / rng.uniform(20, 60))
    for at in events(10):
        tails[at : at + int(2 + 4 * rng.pareto(1.3))] = rng.uniform(0.5, 1)
    for at in events(2.5):
        rare[at : at + int(rng.uniform(2, 25))] = 1
    drift = np.exp(np.cumsum(rng.normal(0, 0.006, minutes)))
    return {
        "rush hours": (0.15 + (hump(8.5, 1.2) + 0.8 * hump(17.5, 1.5)) * np.where(day % 7 < 5, 1, 0.3)) * noise,
        "every 7 hours": (0.3 * calm + ((t % 420) < 12)) * noise,
        "flash crowds": (0.5 * calm + crowds) * noise,
        "launch": calm * np.where(t > 8.3 * 1440, 1, 0.35) * noise,
        "heavy tails": (0.1 * calm + tails) * noise,
        "weekends": (0.1 + hump(15, 4) * (day % 7 >= 5)) * noise,
        "drift": calm * drift / drift.mean() * noise,
        "hour and quarter": (0.4 * calm + 1.5 * ((t % 60) < 3) + 0.5 * ((t % 15) < 2)) * noise,
        "steady": noise,
        "rare work": (0.04 + rare) * noise,
    }


def per_second(seed: int) -> dict[str, Floats]:
    """Rates per second of every load, the highest thousandth of its minutes worth `PEAK` replicas."""
    found = {}
    for name, begin in BEGINS.items():
        rates = loads.trace(name, days=DAYS).per_second()
        rates = np.roll(rates, -int(begin * 86_400) // 60 * 60)
        found[name] = np.resize(rates, DAYS * 86_400)
    late = loads.trace("nasa-http", days=40).per_second()
    found["nasa-http"] = late[-DAYS * 86_400 :]
    found |= {name: np.repeat(np.maximum(rates, 0), 60) for name, rates in made(seed).items()}
    return {name: rates * PEAK * loads.CAPACITY / _peak(rates) for name, rates in found.items()}


def _peak(rates: Floats) -> float:
    return float(np.quantile(rates[: len(rates) // 60 * 60].reshape(-1, 60).mean(1), 0.999))


def group(seed: int) -> loads.Group:
    """Every load with every cold start, in the world of `scaling.py`; the first five days are not scored."""
    scenarios, rows = [], []
    for index, (name, rates) in enumerate(per_second(seed).items()):
        arrivals = draw_arrivals(rates, seed=seed + index)
        for cold in COLD_STARTS:
            scenarios.append(loads.Scenario(load=name, cold_start=cold, peak=PEAK))
            rows.append(Row(arrivals=arrivals, cold_start_p95=cold, capacity=loads.CAPACITY, max_replicas=2 * PEAK))
    return loads.Group(
        name=f"held out {seed}", warm_up_hours=120, seed=seed, scenarios=tuple(scenarios), rows=tuple(rows)
    )


def main() -> int:
    """Replays what was not replayed yet, prints the table."""
    parser = argparse.ArgumentParser(prog="bench.heldout")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--requests", action="store_true", help="the other simulator, request by request: minutes")
    parser.add_argument("--loads", nargs="*", help="only these, with --requests")
    parser.add_argument("--out", type=Path, default=Path("build/bench/heldout"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.requests:
        rates = {name: rates for name, rates in per_second(args.seed).items() if name in (args.loads or [name])}
        sys.stdout.write(requests.judge(rates, seed=args.seed, cold_start=COLD_STARTS[0]) + "\n")
        return 0
    entries: list[dict[str, Any]] = table(group(args.seed), args.out, blind=False)
    (args.out / "table.json").write_text(json.dumps(entries, indent=1))
    sys.stdout.write(show(entries) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
