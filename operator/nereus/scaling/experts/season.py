"""Days and weeks repeat: the present level follows the shape that earlier days had at this wall-clock time."""

from __future__ import annotations

from nereus.scaling.arrays import Singles
from nereus.scaling.features import Features


def day_shape(features: Features) -> Singles:
    """Present level, moved as the mean of the last seven days moved from this time to the window."""
    return features.mean5 + features.days_window - features.days_level


def week_shape(features: Features) -> Singles:
    """Present level, moved as one and two weeks ago."""
    return features.mean5 + features.week_window - features.week_level


def week_value(features: Features) -> Singles:
    """What one and two weeks ago saw in this window."""
    return features.week_window
