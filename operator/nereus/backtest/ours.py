"""The policy of Nereus in the simulated world: the operator's own fleet policy, fed with what a scrape would show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nereus.api.objective import LATENCY_SECONDS, VIOLATIONS
from nereus.backtest.world import Batch, Floats, Ints
from nereus.scaling.fleet import FleetDecision, FleetObservation, FleetPolicy


@dataclass(frozen=True, kw_only=True)
class Forecasts:
    """What was expected in each minute of the trace, for plots: median and bound of the highest load until the
    horizon."""

    median: Floats
    bound: Floats
    price: Floats


class Nereus:
    """One fleet service per row; `last` is the newest decision, for those who want to see why.

    `blind` hides measured lateness from the policy, as where a server reports no latency.
    """

    def __init__(
        self,
        *,
        rows: int,
        max_replicas: Ints,
        min_replicas: Ints | None = None,
        violations: float | Floats = VIOLATIONS,
        latency: float = LATENCY_SECONDS,
        blind: bool = False,
        record: bool = False,
    ) -> None:
        allowed = np.broadcast_to(violations, rows).astype(float)
        self.fleet = FleetPolicy(rows, latency=np.full(rows, latency), violations=allowed)
        self._least = np.ones(rows, np.int64) if min_replicas is None else min_replicas
        self._most = max_replicas
        self._blind, self._record = blind, record
        self._kept: list[tuple[float, float, float]] = []
        self.last: FleetDecision | None = None

    def decide(self, batch: Batch) -> Ints:
        """Replicas per row."""
        seen = FleetObservation(
            time=batch.time,
            load=batch.load,
            queue=batch.queue,
            ready=batch.ready,
            starting=batch.starting,
            cold_start=batch.cold_start,
            capacity=batch.capacity,
            late=np.full(len(batch.load), np.nan) if self._blind else batch.late,
        )
        self.last = self.fleet.decide(seen, least=self._least, most=self._most)
        if self._record and batch.time % 60 < 15:
            self._kept.append((float(self.last.median[0]), float(self.last.bound[0]), float(self.last.price[0])))
        return self.last.replicas

    def forecasts(self) -> Forecasts:
        """What was recorded for the first row."""
        kept = np.array(self._kept).reshape(-1, 3)
        return Forecasts(median=kept[:, 0], bound=kept[:, 1], price=kept[:, 2])
