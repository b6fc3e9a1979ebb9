"""What one reading of a wall clock says after another: clocks are set, and machines sleep. Pure.

Whoever decides by time (seasons, how long a load was low) must not wait for a clock that was set back to catch up, and
must not take an hour that nobody saw for an hour of low load. A monotonic clock is no help: seasons are wall-clock
times, and replayed observations bring their own.
"""

from __future__ import annotations

import math
from enum import Enum

BACK_SECONDS = 60.0
"""A clock that is set back by at most this is waited for: NTP steps are fractions of a second, and the leap between two
observations that arrive in the wrong order is a tick or two."""
AHEAD_SECONDS = 300.0
"""A tick that comes this much after the one before says that the process slept or its clock was set. As long as a
decision may be old, and as pods must have been idle to go under strategy Reactive."""


class Step(Enum):
    """How time went on since the reading before."""

    ON = "on"
    STILL = "still"
    """Not at all, or back by little: the reading before is the present."""
    LOST = "lost"
    """Nothing that was timed by the readings before means anything now."""


def step(before: float | None, now: float, *, ahead_seconds: float = math.inf) -> Step:
    """From one reading (None: there was none) to the next, both in seconds since the epoch; ahead by more than
    `ahead_seconds` time is lost."""
    if before is None or 0 < now - before <= ahead_seconds:
        return Step.ON
    return Step.STILL if -BACK_SECONDS <= now - before <= 0 else Step.LOST
