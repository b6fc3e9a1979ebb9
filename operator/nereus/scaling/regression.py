"""A ridge regression per row, learned online by exponentially weighted normal equations.

Ridge pulls to "the last value goes on", so an untaught regression is a reactive scaler. It forgets in about
four days. Solving is batched and done every few minutes, not every minute.
"""

from __future__ import annotations

import numpy as np

from nereus.scaling.arrays import Bools, Ints, Singles
from nereus.scaling.features import COLUMNS

MEMORY_MINUTES = 4 * 1440
RIDGE = 3.0
SOLVE_EVERY = 10
UPPER = np.triu_indices(COLUMNS)
CLIP = 3.0
"""Targets and answers further than this from the level (a factor of twenty) are cut: one shock must not bend all."""


class Regression:
    """Normal equations `gram` (its upper triangle: it is symmetric), `moment` and solution `weights` per row."""

    def __init__(self, rows: int) -> None:
        self.gram = np.zeros((rows, len(UPPER[0])), np.float32)
        self.moment = np.zeros((rows, COLUMNS), np.float32)
        self.weights = np.zeros((rows, COLUMNS), np.float32)
        self.prior = np.zeros(COLUMNS, np.float32)
        self.prior[1] = 1.0
        self.weights[:] = self.prior

    def predict(self, matrix: Singles, base: Singles, rows: Ints) -> Singles:
        """z per row: the level plus the learned difference."""
        difference = np.einsum("rf,rf->r", matrix, self.weights[rows])
        return np.asarray(base + np.clip(difference, -CLIP, CLIP), np.float32)

    def learn(self, matrix: Singles, difference: Singles, rows: Ints, usable: Bools) -> None:
        """One more minute: `difference` is realised z minus the level; rows that are not usable change nothing."""
        rows, matrix = rows[usable], matrix[usable]
        target = np.clip(difference[usable], -CLIP, CLIP)
        keep = np.float32(1 - 1 / MEMORY_MINUTES)
        self.gram[rows] = self.gram[rows] * keep + matrix[:, UPPER[0]] * matrix[:, UPPER[1]]
        self.moment[rows] = self.moment[rows] * keep + matrix * target[:, None]

    def solve(self, rows: Ints) -> None:
        """New weights from what was learned."""
        ridge = RIDGE * np.eye(COLUMNS)
        gram = np.zeros((len(rows), COLUMNS, COLUMNS))
        gram[:, UPPER[0], UPPER[1]] = gram[:, UPPER[1], UPPER[0]] = self.gram[rows]
        gram += ridge
        moment = self.moment[rows].astype(np.float64) + ridge @ self.prior
        solved = np.linalg.solve(gram, moment[:, :, None])[:, :, 0]
        self.weights[rows] = np.where(np.isfinite(solved).all(1, keepdims=True), solved, self.prior).astype(np.float32)
