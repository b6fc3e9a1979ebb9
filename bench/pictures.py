"""The pictures of docs/scaling.md: replays of the shipped loads, drawn by `python -m bench.pictures`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from bench import loads
from nereus.backtest.contest import Contest, Setup, run
from nereus.backtest.plot import Chart, Line

IMAGES = Path(__file__).parent.parent / "docs" / "img"
GREEN, GREY, BLUE = "#0b6e4f", "#444444", "#5aa9e6"


def replay(name: str, *, days: float, cold_start: float) -> Contest:
    """One load at a peak of 20 replicas, Nereus against an HPA at 70 %."""
    load = loads.trace(name, days=days)
    load = load.scaled(20 * loads.CAPACITY / load.peak())
    setup = Setup(cold_start=cold_start, capacity=loads.CAPACITY, max_replicas=40)
    return run(load, setup, policies=["nereus", "hpa"], sweep=False)


def picture(contest: Contest, *, first_hour: float, hours: float, title: str) -> str:
    """Load, what was expected, what was ready: a few hours of a replay."""
    ours = contest.ours()
    assert ours is not None
    assert contest.forecasts is not None
    part = slice(int(first_hour * 60), int((first_hour + hours) * 60))
    load = contest.load_by_minute[part]
    x = first_hour + np.arange(len(load)) / 60
    bound, median = (np.nan_to_num(v[part]) for v in (contest.forecasts.bound, contest.forecasts.median))
    top = 1.15 * float(load.max())
    return Chart(
        title=title,
        x_name="hour of the trace",
        y_name="replicas",
        lines=[
            Line(
                name="expected until the horizon: median to 95 %",
                x=x,
                y=np.minimum(bound, top),
                low=np.minimum(median, top),
                colour=BLUE,
            ),
            Line(name="load", x=x, y=load, colour=GREY, width=1.0),
            Line(name="ready replicas", x=x, y=ours.ready_by_minute[part], colour=GREEN, step=True, width=1.8),
        ],
        x_marks=[
            (float(h), f"{h}") for h in range(int(first_hour), int(first_hour + hours) + 1, max(1, int(hours) // 8))
        ],
    ).svg()


def main() -> int:
    """Draws all pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    chat = replay("azure-llm-conv", days=4, cold_start=120)
    clock = replay("fn-d2138e08", days=4, cold_start=300)
    made = {
        "scaling-smooth.svg": picture(
            chat, first_hour=72, hours=24, title="LLM chat, one day: replicas follow the bound of the forecast"
        ),
        "scaling-clock.svg": picture(
            clock,
            first_hour=74,
            hours=9,
            title="A load that starts by the clock: ready when it starts (cold start 300 s)",
        ),
        "scaling-first-day.svg": picture(
            clock, first_hour=0, hours=9, title="The same load on its first day: nobody can know the first ones"
        ),
    }
    for name, svg in made.items():
        (IMAGES / name).write_text(svg + "\n", encoding="utf-8")
        sys.stderr.write(f"wrote {IMAGES / name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
