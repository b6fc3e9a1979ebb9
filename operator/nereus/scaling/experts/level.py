"""The near past goes on: the last minute, or the highest of the last five. The best reactive scalers know no more."""

from __future__ import annotations

import numpy as np

from nereus.scaling.arrays import Singles
from nereus.scaling.features import Features


def last(features: Features) -> Singles:
    """The last complete minute."""
    return features.last


def highest(features: Features) -> Singles:
    """The highest of the last five minutes."""
    return features.highest5


def half_peak(features: Features) -> Singles:
    """Half of the highest load remembered, whatever the present load: its errors tell how high bursts out of nothing
    go, which errors that count from an idle level can only tell to a factor."""
    return np.asarray(features.peak - np.float32(np.log(2)))
