"""Clocks start work: cron jobs and on-the-hour spikes come at the same minute of the hour, or of the quarter."""

from __future__ import annotations

import numpy as np

from nereus.scaling.arrays import Singles
from nereus.scaling.features import PHASES, Features


def hour(features: Features) -> Singles:
    """The window at the same minutes of the last hours."""
    return np.asarray(features.phases[PHASES.index(60)])


def quarter(features: Features) -> Singles:
    """The window at the same minutes of the last quarters of an hour."""
    return np.asarray(features.phases[PHASES.index(15)])
