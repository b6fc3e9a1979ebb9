"""The near past goes on: the last minute, or the highest of the last five. The best reactive scalers know no more."""

from __future__ import annotations

from nereus.scaling.arrays import Singles
from nereus.scaling.features import Features


def last(features: Features) -> Singles:
    """The last complete minute."""
    return features.last


def highest(features: Features) -> Singles:
    """The highest of the last five minutes."""
    return features.highest5
