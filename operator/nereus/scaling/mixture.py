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

from nereus.scaling.arrays import Bools, Ints, Singles
from nereus.scaling.experts import NAMES, START_WEIGHTS
from nereus.scaling.features import Features, from_z

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


class Mixture:
    """Histograms and weights of all experts, per row."""

    def __init__(self, rows: int) -> None:
        count = len(NAMES)
        self.overall = np.tile(_prior() * np.float32(30), (rows, count, 1))
        self.by_context = np.zeros((rows, CONTEXTS, count, BINS), np.float32)
        start = np.array(START_WEIGHTS, np.float32)
        self.weights = np.tile(start / start.sum(), (rows, CONTEXTS, 1))

    def _chances(self, rows: Ints, context: Ints) -> Singles:
        overall = self.overall[rows]
        pooled = self.by_context[rows, context] + POOL_COUNT * overall / overall.sum(2, keepdims=True)
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
        hit = (np.arange(BINS) == place[:, :, None]).astype(np.float32)
        self.by_context[rows, context] = self.by_context[rows, context] * np.float32(1 - 1 / CONTEXT_MEMORY) + hit
        self.overall[rows] = self.overall[rows] * np.float32(1 - 1 / OVERALL_MEMORY) + hit


def from_atoms(atoms: Atoms) -> Singles:
    """The loads of a distribution, in replica-equivalents."""
    return from_z(atoms.z)
