"""Holds back more pods while those asked for before find no node, and gives up on them after a while. Pure.

More pending pods help nobody: they hide what is wrong and, when a node comes at last, arrive all at once. A cluster
autoscaler needs a pending pod to see and some minutes to bring a node, so giving up comes late, and after a pause one
more try is made.
"""

from __future__ import annotations

import math

GIVE_UP_SECONDS = 900.0
"""As long as the longest cold start that is believed: whoever brings nodes has brought one by then."""
PAUSE_SECONDS = 900.0


class Guard:
    """The guard of one service. `reason` says why fewer pods than wanted are allowed; empty when they are not."""

    def __init__(self) -> None:
        self.reason = ""
        self._unplaced_since = math.nan
        self._until = -math.inf

    def allowed(self, now: float, wanted: int, *, ready: int, starting: int, unplaced: int) -> int:
        """At most how many pods may be asked for at a moment (seconds since the epoch)."""
        self.reason = ""
        if unplaced <= 0:
            self._unplaced_since = math.nan
        elif math.isnan(self._unplaced_since):
            self._unplaced_since = now
        present = ready + starting
        placed = present - unplaced
        if now - self._unplaced_since >= GIVE_UP_SECONDS:
            self._until, self._unplaced_since = now + PAUSE_SECONDS, math.nan
        if now < self._until and wanted > placed:
            self.reason = (
                f"no node was found for {wanted - placed} more within {GIVE_UP_SECONDS / 60:.0f} minutes: given up, the"
                f" next try is in {math.ceil((self._until - now) / 60)} minutes"
            )
            return max(placed, 1)
        if unplaced > 0 and wanted > present:
            self.reason = f"{unplaced} of {present} pods find no node: no more are asked for until they do"
            return present
        return wanted
