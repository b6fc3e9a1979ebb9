"""What a late request may cost: the one number between "too many late" and "too many replicas", found for each service.

A replica is started or kept when `price` x the requests it is expected to save exceeds the replica time it costs. A
ladder of prices is replayed every minute on the forecasts that were really made (with cold start and queue): the
cheapest price that would have kept the objective is used. A violated budget is not won back: a shock that no price
would have survived does not raise the price, the ladder has an end, and the past fades within days. Where even the
dearest price leaves far too much late, the constant that would have kept the objective is bought (`constant.py`). Where
lateness is measured, the ladder is corrected by how much the replay underrates it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nereus.scaling.arrays import Floats, Ints, Singles
from nereus.scaling.features import LONGEST
from nereus.scaling.mixture import Atoms, from_atoms

LEAN: tuple[tuple[float, float], ...] = ((1.4, 0.0), (1.8, 0.5))
"""The lowest rungs, as price and share of the headroom for random arrivals: for loads that hardly ever surprise."""
DEAREST = 300.0
LADDER = np.concatenate([[price for price, _ in LEAN], np.geomspace(1.37, DEAREST, 17), [DEAREST]])
CONSTANT = len(LADDER) - 2
"""The last rung but one asks for the constant that would have kept the objective, whatever the forecast says."""
HEADROOM_SHARE = np.array([*(share for _, share in LEAN), *np.ones(len(LADDER) - len(LEAN))])
DEAR = slice(9, CONSTANT)
"""Rungs that mostly insure against bursts: they never ask for more than that constant. The last rung is without that
limit, for loads that outgrow their past."""
START_RUNG = 7
SAFETY = 0.92
"""Aim at this share of the allowed violations; the replay is no oracle."""
MEMORY_MINUTES = 2 * 1440.0
YOUNG_MEMORY_MINUTES = 1200.0
PRIOR_MINUTES = 300.0
BIAS = (0.05, 4.0)
"""How far measured lateness may correct the replay, which is made of minutes and mostly too dark."""
UNAVOIDABLE_SLACK = 0.25
BROKEN = 2.0
"""The constant is the dearest insurance of all: bought where the dearest price leaves more than this many times late of
what is allowed, as with bursts from nothing to full height; what is missed by little is not worth it."""
START_FACTOR = 1.3
PIPE = LONGEST + 2
OVERLOAD_POWER = 8
LEAST_LOAD = 0.05


def needs(atoms: Atoms, headroom: Floats, most: Floats, ladder: Floats = LADDER) -> Floats:
    """Replicas per price and row: the cheapest of (replicas + price x load that comes above them). Shape (prices,
    rows).

    A load v above n replicas makes v (1 - (n/v)^8) late: a little too much makes some wait, half as much again makes
    everyone wait. So a spike is bought whole or not at all, while a smooth load gets a margin.
    """
    load = np.minimum(from_atoms(atoms), most[:, None]).astype(np.float64)
    rungs = [slice(k, k + 1) for k in range(len(LEAN))] + [slice(len(LEAN), None)]
    return np.concatenate(
        [_cheapest(load, atoms.weight, HEADROOM_SHARE[rung][0] * headroom, ladder[rung]) for rung in rungs]
    )


def _cheapest(load: Floats, weight: Singles, headroom: Floats, prices: Floats) -> Floats:
    """As `needs`, for prices with the same headroom."""
    replicas = np.maximum(np.ceil(load + headroom[:, None] - 1e-4), 1)
    carried = np.maximum(replicas - headroom[:, None], LEAST_LOAD)
    load = np.maximum(load, LEAST_LOAD)
    all_late = _above(weight * load)
    relief = carried**OVERLOAD_POWER * _above(weight * load ** (1 - OVERLOAD_POWER))
    late = np.maximum(all_late - relief, 0)
    # Of several atoms that need the same replicas only the highest is a fair candidate.
    late[:, :-1][replicas[:, :-1] == replicas[:, 1:]] = np.inf
    # Rows of the `start` window come first; buying also pays for the cold start.
    half = len(load) // 2
    cost = replicas * np.where(np.arange(len(load)) < half, START_FACTOR, 1.0)[:, None]
    best = np.stack([(cost + price * late).argmin(1) for price in prices])
    return np.asarray(np.take_along_axis(replicas, best.T, 1).T, np.float64)


def _above(mass: Floats) -> Floats:
    """Sum over all later atoms of a row, added from the far end: the masses differ by many orders of magnitude."""
    above = np.zeros_like(mass)
    above[:, :-1] = mass[:, :0:-1].cumsum(1)[:, ::-1]
    return above


def _whole(replicas: npt.NDArray[np.floating]) -> npt.NDArray[np.uint16]:
    """Whole replicas in two bytes; more than 65,535 of one service are as good as that."""
    return np.asarray(np.minimum(replicas, np.iinfo(np.uint16).max), np.uint16)


class Prices:
    """The ladder per service: replayed replicas, queue and lateness for each price."""

    def __init__(self, services: int) -> None:
        shape = (len(LADDER), services)
        self.replicas = np.ones(shape, np.float32)
        self.pipe = np.ones((PIPE, *shape), np.uint16)
        self.backlog = np.zeros(shape, np.float32)
        self.late = np.zeros(shape, np.float32)
        self.load = np.zeros(services)
        self.minutes = np.zeros(services)
        self.age = np.zeros(services)
        self.rung = np.full(services, START_RUNG, np.int64)
        self.used_late = np.zeros(services)
        self.used_now = np.zeros(services)
        self.foretold = np.zeros(services)
        self.spent = np.zeros(services)
        self.real_late = np.zeros(services)

    def replay(
        self,
        minute: int,
        services: Ints,
        *,
        mean: Floats,
        highest: Floats,
        start: Floats,
        keep: Floats,
        lead: Ints,
        softness: Floats,
    ) -> None:
        """One minute: judge the replicas that each price had in place, then let each price order anew."""
        known = np.isfinite(highest) & np.isfinite(mean)
        # Nobody could have ordered before there was a load: every price begins with what carries the first minute.
        new = services[known & (self.age[services] == 0)]
        self.replicas[:, new] = np.ceil(highest[known & (self.age[services] == 0)]) + 1
        self.pipe[:, :, new] = _whole(self.replicas[:, new])
        ago = (minute - np.arange(PIPE)) % PIPE
        pipe = self.pipe[:, :, services][ago].astype(np.float32)
        old = np.arange(PIPE)[:, None] > lead
        in_place = np.where(old[:, None, :], np.inf, pipe).min(0)
        high, average = np.where(known, highest, 0), np.where(known, mean, 0)
        excess = (np.stack([high, average])[:, None] - in_place) / softness
        overload = np.minimum(1, np.exp(np.clip(excess, -50, 0))).mean(0)
        waiting = self.backlog[:, services] > 0.02 * in_place
        late = average * np.where(waiting, 1.0, overload)
        fade = np.where(known, self._fade(services), 1.0)
        self.backlog[:, services] = np.clip(self.backlog[:, services] + average - in_place, 0, 0.5 * in_place)
        self.late[:, services] = self.late[:, services] * fade + late
        self.load[services] = self.load[services] * fade + average
        self.minutes[services] = self.minutes[services] * fade + known
        self.age[services] += known
        self.used_now[services] = late[self.rung[services], np.arange(len(services))]
        self.used_late[services] = self.used_late[services] * fade + self.used_now[services]
        before = self.replicas[:, services]
        after = np.clip(before, start, np.maximum(start, keep))
        after = np.where(known, after, np.maximum(before, after))
        self.replicas[:, services] = after
        self.pipe[(minute + 1) % PIPE][:, services] = _whole(after)

    def hold(self) -> None:
        """Nothing is known of the last minutes: what every price has now was there all the time."""
        self.pipe[:] = np.maximum(self.pipe, _whole(self.replicas))

    def _fade(self, services: Ints) -> Floats:
        """A young service forgets faster: its first hours, when nothing was known, say little about later ones."""
        return np.asarray(1 - 1 / np.clip(self.age[services] / 2, YOUNG_MEMORY_MINUTES, MEMORY_MINUTES))

    def measured(self, late: Floats, services: Ints) -> None:
        """Lateness that was really seen, in the same unit as the replay (load x minutes), `nan` where it was not
        measured; once per minute, after `replay`."""
        fade, known = self._fade(services), np.isfinite(late)
        self.real_late[services] = self.real_late[services] * fade + np.where(known, late, 0)
        self.foretold[services] = self.foretold[services] * fade + np.where(known, self.used_now[services], 0)

    def judge_anew(self) -> None:
        """Forgets how late the prices would have been, not what they have in place."""
        for judged in (self.late, self.load, self.minutes, self.used_late, self.foretold, self.real_late):
            judged[:] = 0

    def choose(self, violations: Floats, services: Ints) -> None:
        """The cheapest rung that would have kept the objective; `spent` becomes the share that was late."""
        load = self.load[services]
        prior = PRIOR_MINUTES * load / np.maximum(self.minutes[services], 1)
        assumed = violations * SAFETY * (LADDER[START_RUNG] / LADDER)[:, None]
        share = (self.late[:, services] + assumed * prior) / np.maximum(load + prior, 1e-9)
        unseen = violations * SAFETY * prior
        late, foretold = self.real_late[services], self.foretold[services]
        # Only minutes in which both are known say how far the replay is off.
        bias = np.clip((late + unseen) / np.maximum(foretold + unseen, 1e-9), *BIAS)
        elsewhere = np.maximum(self.used_late[services] - foretold, 0)
        self.spent[services] = (late + elsewhere + unseen) / np.maximum(load + prior, 1e-9)
        allowed = violations * SAFETY / bias
        broken = share[-1] > BROKEN * allowed
        least = np.where(broken, share[CONSTANT:].min(0), share[-1])
        allowed = np.maximum(allowed, least + UNAVOIDABLE_SLACK * allowed)
        good = share <= allowed
        good[CONSTANT] &= broken
        good[-1] = True
        self.rung[services] = np.where(load > 0, good.argmax(0), START_RUNG)

    def price(self) -> Floats:
        """The price in use, per service."""
        return np.asarray(LADDER[self.rung])
