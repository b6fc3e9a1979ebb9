"""Learns what batches cost in this pod: reads Triton's statistics now and then and fits a line per model and version.

What was measured holds for one set of models in one state, because models in one pod slow each other down: when a model
comes, goes, or is loaded again, learning starts anew. Reading costs one request to localhost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nereus.sidecar.state import Board
from nereus.sidecar.triton_client import TritonClient, TritonRefusedError, TritonUnavailableError
from nereus.triton import cost
from nereus.triton.cost import Batches


@dataclass
class Costs:
    """The task beside the loader; its result is `board.costs`, by model and version."""

    board: Board
    triton: TritonClient
    look_seconds: float = 10.0
    _together: object = None
    _before: dict[tuple[str, str], Batches] = field(default_factory=dict)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self.look_seconds)
            if not self.board.server_live:
                continue
            together = tuple(sorted((record.name, record.loaded) for record in self.board.planned if record.serving))
            try:
                statistics = await self.triton.statistics()
            except (TritonUnavailableError, TritonRefusedError):
                continue
            self.take(statistics, together)

    def take(self, statistics: Sequence[Mapping[str, Any]], together: object) -> None:
        """One reading of `model_stats`, and what was loaded then."""
        now = {(str(item.get("name")), str(item.get("version"))): cost.batches(item) for item in statistics}
        if together != self._together:
            self._together, self._before = together, now
            self.board.costs = {}
            return
        planned = {record.name for record in self.board.planned}
        for key, run in now.items():
            line = cost.fit(cost.since(run, self._before.get(key, {})))
            if line is not None and key[0] in planned:
                self.board.costs[key] = line
