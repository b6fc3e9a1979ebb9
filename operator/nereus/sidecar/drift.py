"""Notices when somebody changed what Triton serves: the configuration of a model, by hand, through its repository API.

After each load by the sidecar, what Triton says of the model's configuration is remembered; from then on it is asked
again, one model at a time. The comparison is with Triton's own earlier answer, so nothing that Triton completes or
writes in its own way looks like a change. Finds only; the loader puts it right.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

from nereus.sidecar.state import Record
from nereus.sidecar.triton_client import TritonClient, TritonRefusedError, TritonUnavailableError

EVERY_SECONDS = 10.0
"""How often a model is asked for; with many models at most one a second is."""
MOST_SHOWN = 5


class Drifts:
    """What Triton said of each model when it was loaded."""

    def __init__(self, triton: TritonClient, every_seconds: float = EVERY_SECONDS) -> None:
        self._triton = triton
        self._every = every_seconds
        self._expected: dict[str, str] = {}
        self._looked: dict[str, float] = {}
        self._last = 0.0

    async def learn(self, name: str) -> None:
        """A model was loaded by us: what is said of it now is right."""
        self._expected[name] = await self._said(name)
        self._looked[name] = time.monotonic()

    async def look(self, records: Iterable[Record]) -> tuple[Record, str] | None:
        """Looks at the model that waits for it longest; the model and what was changed, or None."""
        now = time.monotonic()
        if now - self._last < min(1.0, self._every):
            return None
        steady = [record for record in records if record.serving and not record.loading and not record.removing]
        record = min(steady, key=lambda each: self._looked.get(each.name, 0.0), default=None)
        if record is None or now - self._looked.get(record.name, 0.0) < self._every:
            return None
        self._last = self._looked[record.name] = now
        said, expected = await self._said(record.name), self._expected.get(record.name, "")
        if not expected:  # loaded before this sidecar started
            self._expected[record.name] = said
        if not said or not expected or said == expected or record.loading:
            return None
        return record, f"{_differing(json.loads(expected), json.loads(said))} changed in Triton, not by the plan"

    async def _said(self, name: str) -> str:
        """Triton's configuration of a model as one text; empty when it does not tell now."""
        try:
            return json.dumps(await self._triton.config(name), sort_keys=True)
        except (TritonUnavailableError, TritonRefusedError):
            return ""


def _differing(expected: Any, said: Any) -> str:
    names = sorted(key for key in {*expected, *said} if expected.get(key) != said.get(key))
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(names[:MOST_SHOWN]) + more
