"""Which pod has to go because it stays above its GPU memory limit: at most one, after a grace, with a cool-down.

Only where nothing else holds the limit (Soft, None). Decides; the controller asks the Eviction API, which keeps the
disruption budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nereus.gpu.choice import Choice
from nereus.gpu.offer import Strength

GRACE_SECONDS = 30.0
"""How long a pod may be above its limit: a reload holds old and new model for seconds."""
COOL_DOWN_SECONDS = 300.0
"""Between two evictions of one service: the replacement must have time to start, or the service is taken apart."""


@dataclass
class Watchdog:
    """Since when pods of one service are above their limit, and when one was evicted last; seconds of one clock."""

    above_since: dict[str, float] = field(default_factory=dict)
    evicted_at: float | None = None

    def look(
        self, used: Mapping[str, int], limit_bytes: int, *, now: float, grace_seconds: float = GRACE_SECONDS
    ) -> str:
        """The uid of the pod that has to go now; empty when none. `used` holds fresh measurements by pod uid: a pod
        that is not in it is not known to be above anything, and begins anew."""
        above = {uid for uid, amount in used.items() if amount > limit_bytes}
        self.above_since = {uid: self.above_since.get(uid, now) for uid in above}
        if self.evicted_at is not None and now - self.evicted_at < COOL_DOWN_SECONDS:
            return ""
        due = [(since, uid) for uid, since in self.above_since.items() if now - since >= grace_seconds]
        return min(due)[1] if due else ""


def may_evict(choice: Choice, *, wished: bool) -> bool:
    """Whether a pod above its limit may be evicted at all."""
    return wished and choice.strength is not Strength.HARD
