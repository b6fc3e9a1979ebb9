"""Tiny forecasters of the highest z in a window. One registry: a new expert is one module and one line here.

An expert is a function of the features; the regression, which learns, is passed in as one more column. An expert that
has no past to speak of answers with the present level; the mixture finds out who is worth listening to.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nereus.scaling.arrays import Singles
from nereus.scaling.experts import level, phase, season
from nereus.scaling.features import Features

Expert = Callable[[Features], Singles]

EXPERTS: tuple[tuple[str, Expert], ...] = (
    ("last value", level.last),
    ("highest of five minutes", level.highest),
    ("day shape", season.day_shape),
    ("week shape", season.week_shape),
    ("same time last week", season.week_value),
    ("same minute of the hour", phase.hour),
    ("same minute of the quarter", phase.quarter),
    ("half the peak", level.half_peak),
)
NAMES: tuple[str, ...] = ("regression", *(name for name, _ in EXPERTS))
START_WEIGHTS: tuple[float, ...] = (0.15, 0.4, 0.2, 0.07, 0.05, 0.05, 0.05, 0.03, 0.02)


def predict(features: Features, regression: Singles) -> Singles:
    """All experts: shape (rows, experts)."""
    return np.stack([regression, *(expert(features) for _, expert in EXPERTS)], axis=1).astype(np.float32)
