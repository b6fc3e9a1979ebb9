"""Strategy Reactive: as many pods as the present load needs, and the highest such number of the last minutes. Pure."""

from __future__ import annotations

import math
from collections import deque

UTILISATION = 0.8
"""Share of a pod's sustainable rate that is planned with; the rest is for arrivals that are not even."""
WINDOW_SECONDS = 300.0
"""Pods go when they were not needed for this long: the default of the HorizontalPodAutoscaler."""


class Reactive:
    """The memory of one service."""

    def __init__(self) -> None:
        self._asked: deque[tuple[float, int]] = deque()

    def wanted(self, now: float, load: float | None, present: int, held: int) -> int:
        """Pods for a load in replica-equivalents; unknown (None) holds what is there and what was held."""
        if load is None:
            return max(present, held)
        needed = math.ceil(load / UTILISATION - 1e-6)
        if not self._asked:
            # The first look knows nothing about the minutes before it.
            self._asked.append((now, max(needed, present)))
        self._asked.append((now, needed))
        while self._asked[0][0] < now - WINDOW_SECONDS:
            self._asked.popleft()
        return max(1, *(number for _, number in self._asked))
