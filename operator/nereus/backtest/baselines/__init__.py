"""The scalers to compare with. One registry: name, usual setting, settings swept, and how to make it for rows.

A new baseline is one module and one line here. `target` is the share of a replica's capacity that the scaler aims at;
the sweep around it finds each baseline's best setting in hindsight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nereus.backtest.baselines.holt_winters import HoltWinters
from nereus.backtest.baselines.hpa import Hpa
from nereus.backtest.baselines.keda import KedaRate
from nereus.backtest.baselines.knative import KnativeKpa
from nereus.backtest.baselines.offset import Offset
from nereus.backtest.world import BatchPolicy, Floats

TARGETS = (0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
DAY, WEEK = 86_400, 7 * 86_400


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """`make(targets)` gives a policy for as many rows as there are targets."""

    name: str
    title: str
    usual: float
    make: Callable[[Floats], BatchPolicy]
    settings: tuple[float, ...] = TARGETS


BASELINES: tuple[Baseline, ...] = (
    Baseline(name="hpa", title="HPA on utilisation", usual=0.7, make=Hpa),
    Baseline(name="keda", title="KEDA on request rate", usual=0.7, make=KedaRate),
    Baseline(name="knative", title="Knative KPA", usual=0.7, make=KnativeKpa),
    Baseline(name="holt-winters", title="HPA with Holt-Winters", usual=0.7, make=HoltWinters),
    Baseline(name="offset-day", title="offset, a day ago", usual=0.7, make=lambda t: Offset(t, offset_seconds=DAY)),
    Baseline(name="offset-week", title="offset, a week ago", usual=0.7, make=lambda t: Offset(t, offset_seconds=WEEK)),
)
