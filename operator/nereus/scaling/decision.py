"""From what is needed to how many replicas: raise, hold or lower, and the bounds that nobody may leave. Pure
arithmetic.

Up when fewer run or start than the `start` window is worth; down when more run than the `keep` window is worth.
Between the two nothing happens, which is why it does not flap. Unknown load holds. The queue asks for what empties it
within about a cold start; faster would come too late to help.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nereus.scaling.arrays import Bools, Floats, Ints

SMALL_STEP, SMALL_STEP_SECONDS = 0.1, 180.0
"""One replica (or a tenth of them) goes only after it was not needed for three minutes: noise is not a trend."""
GIVE_UP_FACTOR, GIVE_UP_LEAST = 3.0, 300.0
"""Replicas that still start after three cold starts (at least five minutes) are stuck: ask for no more on top of
them."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """Arrays over services; loads in replica-equivalents, `nan` when unknown."""

    load: Floats
    queue: Floats
    ready: Ints
    starting: Ints
    previous: Ints
    cold_start: Floats
    capacity: Floats
    headroom: Floats


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Replicas before and after bounds, what reaction alone asks for, and the floor that the forecast sets."""

    replicas: Ints
    reactive: Ints
    floor: Ints
    unknown: Bools
    stuck: Bools
    unbounded: Ints


def reactive(now: Situation) -> Floats:
    """Replicas for the load of this moment plus what empties the queue; 0 where the load is unknown."""
    load = np.nan_to_num(now.load)
    waiting = np.where(np.isfinite(now.load), np.nan_to_num(now.queue), 0) / np.maximum(now.capacity, 1e-9)
    # A queue of a tenth of a second is traffic, not a backlog.
    waiting = np.where(waiting > 0.1 * (now.ready + 1), waiting, 0)
    drain = waiting / np.maximum(now.cold_start, 60.0)
    return np.asarray(np.where(np.isfinite(now.load), np.ceil(load + drain - 1e-4), 0))


def choose(
    now: Situation,
    *,
    start: Floats,
    keep: Floats,
    least: Ints,
    most: Ints,
    stuck_for: Floats,
    trusted: Bools,
    low_for: Floats,
) -> Choice:
    """The decision for every service; `start` and `keep` are the replicas that the two windows are worth."""
    present = now.ready + now.starting
    asked = reactive(now)
    queue_only = np.where(np.nan_to_num(now.queue) > 0, asked, 0)
    start = np.where(trusted, start, np.maximum(start, asked))
    start = np.maximum(start, queue_only * (now.ready > 0))
    # What already serves the present load stays while the load does.
    hold = np.minimum(now.ready, np.nan_to_num(np.ceil(now.load + now.headroom - 1e-4)))
    keep = np.maximum(np.maximum(keep, start), hold)
    small = present - keep <= np.maximum(1, SMALL_STEP * present)
    keep = np.where(small & (low_for < SMALL_STEP_SECONDS), np.maximum(keep, present), keep)
    unknown = ~np.isfinite(now.load)
    wanted = np.clip(present, start, keep)
    wanted = np.where(unknown, np.maximum(np.maximum(present, now.previous), wanted), wanted)
    wanted = np.minimum(wanted, 1e6).astype(np.int64)
    stuck = stuck_for > np.maximum(GIVE_UP_FACTOR * now.cold_start, GIVE_UP_LEAST)
    wanted = np.where(stuck, np.minimum(wanted, np.maximum(present, 1)), wanted)
    return Choice(
        replicas=np.clip(wanted, least, np.maximum(most, least)),
        reactive=np.clip(asked, 1, 1e6).astype(np.int64),
        floor=np.clip(start, least, np.maximum(most, least)).astype(np.int64),
        unknown=unknown,
        stuck=stuck,
        unbounded=wanted,
    )
