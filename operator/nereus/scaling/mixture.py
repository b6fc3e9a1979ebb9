"""From what experts say to one distribution: how wrong each was in situations like this one, mixed by how likely it
made what came.

Every expert keeps a histogram of its errors per context (does the past announce a rise, has the load just left its
level), pooled with its histogram over all contexts while a context is new. Weights follow the online EM rule for
mixtures, per context. The result is a linear pool: a spike that comes in half the cases stays a spike with
probability one half, and is not averaged to half a spike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nereus.scaling.arrays import Bools, Ints, Singles
from nereus.scaling.experts import NAMES, START_WEIGHTS
from nereus.scaling.features import Features, from_z

Codes = npt.NDArray[np.uint16]
Bytes = npt.NDArray[np.uint8]

BINS = 33
REACH, CURVE = 6.0, 5.0
"""Errors up to exp(6) are told apart; bins are 2 % wide in the middle and wide outside; no error at all is the middle
of one."""
EDGES = (REACH * np.sinh(CURVE * np.linspace(-1, 1, BINS + 1)) / np.sinh(CURVE)).astype(np.float32)
CENTRES = ((EDGES[1:] + EDGES[:-1]) / 2).astype(np.float32)
WIDTHS = np.diff(EDGES).astype(np.float32)
CONTEXTS = 12
POOL_COUNT = 20.0
CONTEXT_MEMORY, OVERALL_MEMORY = 3000.0, 6000.0
FADE_EVERY = 64
"""Errors between two fadings of a histogram: so many at once, because a single one is less than two bytes can tell."""
CODE = np.float32(800)
"""Histograms are kept as 800 times the root of each count, in two bytes: a tenth of an error apart where thousands
were counted, finer than a thousandth where few were."""
WEIGHT_STEP = 0.01
LEAST_WEIGHT = 0.0003
RISE_EDGES = (0.12, 0.6)
JUMP = 0.15
BUSY = 0.9
"""Within a factor exp(0.9) of its peak a service is busy: what may follow differs from what follows idle hours."""


def context_of(features: Features, peak: Singles) -> Ints:
    """Context per row: rise that the past announces (none, some, much) x a jump just now x busy or idle."""
    announced = np.maximum(features.days_window, np.maximum(features.week_window, features.phases[0])) - features.last
    jump = features.last - features.mean15 > JUMP
    busy = features.mean5 > peak - BUSY
    return np.asarray(np.searchsorted(RISE_EDGES, announced) * 4 + jump * 2 + busy)


def _prior() -> Singles:
    """Errors before anything was seen: mostly small, sometimes large, a little more often too low (it is a maximum)."""
    shifted = CENTRES - np.float32(0.03)
    density = sum(
        share / (2 * scale) * np.exp(-np.abs(shifted) / scale)
        for share, scale in ((0.65, 0.06), (0.33, 0.15), (0.02, 0.5))
    )
    mass = np.asarray(density * WIDTHS, np.float32)
    return np.asarray(mass / mass.sum(), np.float32)


@dataclass(frozen=True)
class Atoms:
    """A distribution per row as sorted values of z with probabilities: both of shape (rows, atoms)."""

    z: Singles
    weight: Singles


def counts(codes: Codes) -> Singles:
    """What codes stand for."""
    root = codes.astype(np.float32) / CODE
    return root * root


def codes(counted: Singles) -> Codes:
    """Counts up to 6,700, kept in two bytes."""
    return np.rint(np.sqrt(counted) * CODE).astype(np.uint16)


class Mixture:
    """Histograms (as `codes`) and weights of all experts, per row; `*_unfaded` are errors since the last fading."""

    def __init__(self, rows: int) -> None:
        count = len(NAMES)
        self.overall = np.tile(codes(_prior() * np.float32(30)), (rows, count, 1))
        self.overall_unfaded = np.zeros(rows, np.uint8)
        self.by_context = np.zeros((rows, CONTEXTS, count, BINS), np.uint16)
        self.context_unfaded = np.zeros((rows, CONTEXTS), np.uint8)
        start = np.array(START_WEIGHTS, np.float32)
        self.weights = np.tile(start / start.sum(), (rows, CONTEXTS, 1))

    def _chances(self, rows: Ints, context: Ints) -> Singles:
        overall = counts(self.overall[rows])
        pooled = counts(self.by_context[rows, context])
        pooled += POOL_COUNT * overall / overall.sum(2, keepdims=True)
        return np.asarray(pooled / pooled.sum(2, keepdims=True))

    def distribution(self, predictions: Singles, rows: Ints, context: Ints) -> Atoms:
        """The pooled distribution of z, given all experts' predictions (rows, experts)."""
        weight = self._chances(rows, context) * self.weights[rows, context][:, :, None]
        z = predictions[:, :, None] + CENTRES
        flat_z, flat_weight = z.reshape(len(rows), -1), weight.reshape(len(rows), -1)
        order = np.argsort(flat_z, axis=1)
        return Atoms(np.take_along_axis(flat_z, order, 1), np.take_along_axis(flat_weight, order, 1))

    def learn(self, predictions: Singles, realised: Singles, rows: Ints, context: Ints, usable: Bools) -> None:
        """What came, for predictions made before; updates weights first, then the errors."""
        rows, context = rows[usable], context[usable]
        if not len(rows):
            return
        error = realised[usable, None] - predictions[usable]
        place = np.clip(np.searchsorted(EDGES, error) - 1, 0, BINS - 1)
        chance = np.take_along_axis(self._chances(rows, context), place[:, :, None], 2)[:, :, 0] / WIDTHS[place]
        weights = self.weights[rows, context]
        share = weights * chance
        share /= share.sum(1, keepdims=True)
        weights = np.maximum((1 - WEIGHT_STEP) * weights + WEIGHT_STEP * share, LEAST_WEIGHT)
        self.weights[rows, context] = weights / weights.sum(1, keepdims=True)
        self._count(self.by_context, self.context_unfaded, (rows, context), place, CONTEXT_MEMORY)
        self._count(self.overall, self.overall_unfaded, (rows,), place, OVERALL_MEMORY)

    @staticmethod
    def _count(histograms: Codes, unfaded: Bytes, which: tuple[Ints, ...], place: Ints, memory: float) -> None:
        """One more error each, in bin `place[row, expert]` of the histograms `which`; they forget within `memory`."""
        hit = *(index[:, None] for index in which), np.arange(place.shape[1]), place
        histograms[hit] = codes(counts(histograms[hit]) + 1)
        unfaded[which] += 1
        due = unfaded[which] >= FADE_EVERY
        if due.any():
            which = tuple(index[due] for index in which)
            fade = (1 - 1 / memory) ** (FADE_EVERY / 2)
            histograms[which] = np.rint(histograms[which] * np.float32(fade)).astype(np.uint16)
            unfaded[which] = 0


def from_atoms(atoms: Atoms) -> Singles:
    """The loads of a distribution, in replica-equivalents."""
    return from_z(atoms.z)
