"""Lives through the last day of a past that was read, beside the fleet that decides, and hands over what it taught.

A forecast that only remembers past loads does not know how often it was wrong about them, and its prices know nothing
at all. So some services at a time get a fleet of their own, which is shown their last day minute by minute, as it would
have seen it, up to the minute that the deciding fleet has itself learned from. At that moment what was learned takes
the place of what the young service has; loads, pods and everything else of the present stay. The past tells nothing of
queues, lateness and pods: prices follow from the replay of their ladder alone, until lateness is measured.

No clock and no thread: one `step` is one minute of the past, while there is one that the deciding fleet left behind.
"""

from __future__ import annotations

import numpy as np

from nereus.scaling import columns
from nereus.scaling.arrays import Bools, Ints
from nereus.scaling.features import LONGEST
from nereus.scaling.fleet import LEARNED, OTHER_UNITS, FleetPolicy

LEARNED_MINUTES = 26 * 60
"""How much of the past is lived through; all of it is remembered for the seasons. A day and a little, so that what
comes daily is met once, also when clocks change."""
LEAST_MINUTES = 60
"""A shorter past teaches nothing."""
UNTAUGHT_MINUTES = 120
"""Until then the forecasts of the past were those of somebody who had seen nothing: prices are not judged by them."""
GAP_MINUTES = 3
"""After so many minutes without a measurement nobody could have had pods for what came next: until the longest cold
start has passed, prices are not judged by it."""
PRESENT = ("capacity", "cold_start", "offsets", "_latency", "_violations")
"""What the past is looked at with: it was not kept for each of its minutes."""


def teaches(live: FleetPolicy, services: Ints, *, minutes: int = LEARNED_MINUTES) -> Bools:
    """Which of these services have at least an hour of known loads within their last minutes."""
    until = live.memory.minute
    loads = live.memory.at(until - np.tile(np.arange(minutes)[:, None], len(services)), services)
    return np.asarray(np.isfinite(loads).sum(0) >= LEAST_MINUTES)


class Experience:
    """The last `minutes` of some services of the fleet `live`, whose capacities are known; `most` are their maximum
    replicas. Calls come between ticks of that fleet, from one thread at a time."""

    def __init__(self, live: FleetPolicy, services: Ints, *, most: Ints, minutes: int = LEARNED_MINUTES) -> None:
        self.services = services
        self._most = most
        self._capacity = live.capacity[services]
        self._lived = 0
        self._unknown, self._excused = np.zeros(len(services)), np.zeros(len(services))
        self._minute = int(live.learned_until(services).min()) - minutes
        every = np.arange(len(services))
        self._beside = columns.blank(len(services))
        columns.copy(live, services, self._beside, every)
        columns.copy(columns.blank(1), np.zeros_like(every), self._beside, every, parts=LEARNED)
        self._beside.rewind(live.memory.minute, self._minute)

    def step(self, live: FleetPolicy) -> bool:
        """Lives through the next minute; false when the deciding fleet has not left it behind yet."""
        if self._minute >= int(live.learned_until(self.services).max()):
            return False
        self._minute += 1
        columns.copy(live, self.services, self._beside, np.arange(len(self.services)), parts=PRESENT)
        minute = np.full((1, len(self.services)), self._minute)
        rates = live.memory.at(minute, self.services)[0].astype(np.float64)
        known = np.isfinite(rates)
        self._unknown = np.where(known, 0, self._unknown + 1)
        self._excused = np.where(self._unknown >= GAP_MINUTES, LONGEST, np.maximum(self._excused - known, 0))
        self._beside.relive(self._minute, rates, self._most, judged=self._excused == 0)
        self._lived += 1
        if self._lived == UNTAUGHT_MINUTES:
            self._beside.judge_prices_anew()
        return True

    def arrived(self, live: FleetPolicy) -> Bools:
        """Which services have learned, in the deciding fleet, up to the very minute that was lived through last."""
        return np.asarray(live.learned_until(self.services) == self._minute)

    def same_units(self, live: FleetPolicy) -> Bools:
        """For which services a replica means what it meant when this began."""
        with np.errstate(divide="ignore", invalid="ignore"):
            changed = np.abs(np.log(live.capacity[self.services] / self._capacity))
        return np.asarray(changed < np.log(OTHER_UNITS))

    def hand_over(self, live: FleetPolicy, which: Bools) -> None:
        """Puts what was learned into the deciding fleet. What runs there may go from then on, but not at once."""
        services = self.services[which]
        columns.copy(self._beside, np.flatnonzero(which), live, services, parts=LEARNED)
        live.ease(services)
