"""How often somebody undoes what the operator wrote, and when it may write again: healing that does not become a war.

A change by somebody else is healed at once. When the same wish is undone again and again, another controller wants
something else: then nothing is written for a pause that doubles each time, and the dispute is reported with the name
of the other. No I/O; the clock is monotonic seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from nereus.api import names

FREE_WRITES = 5
"""So often one wish is put right at once within WINDOW_SECONDS; a person with an editor is not faster."""
WINDOW_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 300.0


@dataclass
class _Dispute:
    wish: str
    writes: tuple[float, ...] = ()
    pause: float = 0.0
    until: float = 0.0
    manager: str | None = None

    @property
    def wrote_since_pause(self) -> bool:
        return bool(self.writes) and self.writes[-1] >= self.until


class Disputes:
    """Remembers the writes that put right what somebody else had changed, by object."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._disputes: dict[Hashable, _Dispute] = {}

    def undone(self, thing: Hashable, wish: str) -> float:
        """Notes that a wish which stood is found undone. Seconds until it may be written again; 0 when it may be now.

        While the pause lasts nothing is written: the value of the other stands, and so does what is said of it.
        """
        now = self._clock()
        dispute = self._disputes.get(thing)
        if dispute is None or dispute.wish != wish:
            dispute = self._disputes[thing] = _Dispute(wish)
        if now < dispute.until:
            return dispute.until - now
        if not dispute.wrote_since_pause:
            return 0.0
        if now - dispute.writes[-1] > max(WINDOW_SECONDS, 2 * dispute.pause):
            self._disputes[thing] = _Dispute(wish)  # the last write held for long: that matter is ended
            return 0.0
        recent = [at for at in dispute.writes if now - at <= WINDOW_SECONDS]
        if not dispute.pause and len(recent) < FREE_WRITES:
            return 0.0
        dispute.pause = min(2 * dispute.pause, LONGEST_PAUSE_SECONDS) or FIRST_PAUSE_SECONDS
        dispute.until = now + dispute.pause
        return dispute.pause

    def wrote(self, thing: Hashable, wish: str) -> None:
        """Notes that a wish which stood already was written again."""
        now = self._clock()
        dispute = self._disputes.get(thing)
        if dispute is None or dispute.wish != wish:
            dispute = self._disputes[thing] = _Dispute(wish)
        dispute.writes = (*(at for at in dispute.writes if now - at <= WINDOW_SECONDS), now)

    def name(self, thing: Hashable, manager: str) -> None:
        """Notes with whom it is."""
        if dispute := self._disputes.get(thing):
            dispute.manager = manager

    def manager(self, thing: Hashable) -> str | None:
        """With whom it is, None while nobody asked; empty when it is not known."""
        dispute = self._disputes.get(thing)
        return dispute.manager if dispute else None

    def forget(self, belongs: Callable[[Any], bool]) -> None:
        """Drops what concerns things that are gone."""
        for thing in [thing for thing in self._disputes if belongs(thing)]:
            del self._disputes[thing]


def other_manager(live: Mapping[str, Any]) -> str:
    """Who of the others wrote an object last, by its managed fields; writers of a status alone do not count."""
    entries = [
        entry
        for entry in live["metadata"].get("managedFields") or ()
        if not str(entry.get("manager", "")).startswith(names.FIELD_MANAGER) and entry.get("subresource") != "status"
    ]
    newest = max(entries, key=lambda entry: str(entry.get("time", "")), default=None)
    return str(newest.get("manager", "")) if newest else ""
