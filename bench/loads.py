"""The shipped loads, and the scenarios made of them: every load x cold start x peak, always the same draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nereus.backtest.trace import Trace, read_csv
from nereus.backtest.world import Row, draw_arrivals

TRACES = Path(__file__).parent / "traces"
COLD_STARTS = (60.0, 120.0, 300.0)
PEAKS = (5, 20, 100)
CAPACITY = 10.0
SEED = 1
FILES: dict[str, tuple[str, str | None]] = {
    "azure-llm-conv": ("azure_llm_conv_2024", None),
    "nasa-http": ("nasa_http_1995_jul", None),
    "fn-2aec780b": ("azure_functions_2019_5fn", "fn_2aec780b"),
    "fn-704b0cff": ("azure_functions_2019_5fn", "fn_704b0cff"),
    "fn-9c61f960": ("azure_functions_2019_5fn", "fn_9c61f960"),
    "fn-d2138e08": ("azure_functions_2019_5fn", "fn_d2138e08"),
    "fn-f44479da": ("azure_functions_2019_5fn", "fn_f44479da"),
}
SMOOTH = ("azure-llm-conv", "fn-2aec780b")
"""Loads that change slowly against a cold start."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One world."""

    load: str
    cold_start: float
    peak: int

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.load} {self.cold_start:g}s x{self.peak}"


def trace(name: str, *, days: float) -> Trace:
    """A shipped load, cut to its first days."""
    file, column = FILES[name]
    return read_csv(TRACES / f"{file}.csv.gz", column=column).cut(days=days)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Scenarios that are replayed side by side, because their loads are equally long."""

    name: str
    warm_up_hours: int
    seed: int = SEED
    scenarios: tuple[Scenario, ...]
    rows: tuple[Row, ...]


def groups(names: Sequence[str], *, days: float, cold_starts: Sequence[float], peaks: Sequence[int]) -> list[Group]:
    """All scenarios of the given loads; those of the same load and peak share their arrivals. Warm-up: a third."""
    by_seconds: dict[int, list[Trace]] = {}
    labels = {}
    for name in names:
        load = trace(name, days=days)
        by_seconds.setdefault(int(load.seconds), []).append(load)
        labels[id(load)] = name
    made = []
    for seconds, members in sorted(by_seconds.items()):
        scenarios, rows = [], []
        for load in members:
            for peak in peaks:
                arrivals = draw_arrivals(load.scaled(peak * CAPACITY / load.peak()).per_second(), seed=SEED)
                for cold in cold_starts:
                    scenarios.append(Scenario(load=labels[id(load)], cold_start=cold, peak=peak))
                    rows.append(Row(arrivals=arrivals, cold_start_p95=cold, capacity=CAPACITY, max_replicas=2 * peak))
        made.append(
            Group(
                name=f"{len(members)} loads of {seconds / 86_400:.3g} days",
                warm_up_hours=int(min(7 * 24, seconds / 3600 / 3)),
                scenarios=tuple(scenarios),
                rows=tuple(rows),
            )
        )
    return made
