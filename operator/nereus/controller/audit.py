"""Compares the store with lists from the API server, because a watch cannot be trusted for ever.

kopf reports no deletion that happened while a watch was interrupted beyond what the server remembers, and a watch
that hangs looks like a quiet cluster. So every kind is listed (names only) after a watch began anew and every ten
minutes, at the start only when the watch's own list does not come in: what is gone is forgotten, and what the watch
should have shown long ago makes the kind stale.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from nereus.api import names
from nereus.controller.errors import ApiError
from nereus.controller.gateway import Gateway, Identity
from nereus.controller.kinds import MODEL_SERVICE, WATCHED, Kind
from nereus.controller.refusals import TELL_SECONDS
from nereus.controller.store import Key, Store, newer

EVERY_SECONDS = 600.0
START_SECONDS = 0.5
FIRST_SECONDS = 30.0
"""When the watch's own first list is waited for no longer, since anything of it was last seen."""
RETRY_SECONDS = 10.0
SETTLE_SECONDS = 3.0

log = logging.getLogger(__name__)


@dataclass
class _Watch:
    """What is known of the watch of one kind; `owed` is what it should show: resource versions by uid."""

    due: float = 0.0
    complete: bool = False
    delivered_at: float = 0.0
    owed: dict[str, str] = field(default_factory=dict)
    listed: set[str] = field(default_factory=set)
    listed_at: float = float("-inf")
    behind_since: float | None = None
    warned_at: float = float("-inf")


@dataclass
class Auditor:
    """Keeps the store honest; `dropped` is told of a service that lost an object unnoticed."""

    gateway: Gateway
    store: Store
    dropped: Callable[[Key], None]
    namespaces: Sequence[str] = ()
    clock: Callable[[], float] = time.monotonic
    _watches: dict[Kind, _Watch] = field(init=False)
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        first = self.clock() + FIRST_SECONDS
        self._watches = {kind: _Watch(due=first) for kind in WATCHED}

    def delivered(self, kind: Kind, *, relisted: bool) -> None:
        """The watch of a kind has shown something; `relisted` when it began anew."""
        watch = self._watches[kind]
        watch.delivered_at = self.clock()
        if relisted:
            # The whole list follows; look when it is in. Each further page of it moves the moment on.
            watch.due = self.clock() + (SETTLE_SECONDS if watch.complete else FIRST_SECONDS)

    def listed(self, kind: Kind, namespace: str) -> None:
        """A list of the watch is in the store as a whole. The first one of a kind is everything that exists of it, and
        the watch goes on from there: there is nothing to compare it with."""
        watch = self._watches[kind]
        watch.listed.add(namespace)
        if not watch.complete and len(watch.listed) >= max(1, len(self.namespaces)):
            watch.complete = True
            watch.due = self.clock() + EVERY_SECONDS

    def ages(self) -> dict[str, float]:
        """Seconds since each watch has shown anything."""
        now = self.clock()
        return {kind.kind: now - watch.delivered_at for kind, watch in self._watches.items() if watch.delivered_at}

    def stale(self, seconds: float, *, refused: Collection[Kind] = ()) -> str:
        """Names the kinds whose watch has owed something for longer than this; empty when all is well. A kind that the
        API server refuses to watch cannot show anything, and a restart would not change that."""
        now = self.clock()
        behind = {
            kind.kind: now - watch.behind_since
            for kind, watch in self._watches.items()
            if kind not in refused
            and watch.complete
            and watch.behind_since is not None
            and now - watch.behind_since > seconds
        }
        return ", ".join(f"{kind} for {age:.0f} s" for kind, age in behind.items())

    async def run(self) -> None:
        """Audit whatever is due, for ever."""
        while True:
            for kind, watch in self._watches.items():
                if watch.due <= self.clock():
                    await self._audit(kind, watch)
            if not self.complete.is_set() and all(watch.complete for watch in self._watches.values()):
                log.info("in step with the API server: %s", self.store.counts())
                self.complete.set()
            await asyncio.sleep(START_SECONDS)

    async def _audit(self, kind: Kind, watch: _Watch) -> None:
        began = self.clock()
        if not watch.complete and watch.owed and began - watch.listed_at < RETRY_SECONDS:
            # What was listed a moment ago is coming in: listing a fleet again and again would only delay it.
            watch.owed = self._owed(kind, watch.owed)
            watch.complete = not watch.owed
            watch.due = began + (EVERY_SECONDS if watch.complete else START_SECONDS)
            return
        before = {uid: (key, version) for key, uid, version in self.store.known(kind)}
        try:
            listed = {item.uid: item.resource_version for item in await self._list(kind)}
        except ApiError as error:
            if began - watch.warned_at >= TELL_SECONDS:
                watch.warned_at = began
                log.warning("%s cannot be listed: %s", kind, error)
            watch.due = self.clock() + RETRY_SECONDS
            return
        for uid in before.keys() - listed.keys():
            self._drop(kind, *before[uid], uid)
        owed = self._owed(kind, listed)
        # Objects change while they are listed: only what was owed the last time too counts as late.
        late = self._owed(kind, watch.owed).keys() & owed.keys()
        watch.listed_at = self.clock()
        watch.complete = watch.complete or not owed
        watch.behind_since = (watch.behind_since or began) if late else None
        watch.owed = owed
        took = self.clock() - began
        again = max(START_SECONDS, 3 * took) if not watch.complete else RETRY_SECONDS if owed else EVERY_SECONDS
        watch.due = self.clock() + again

    def _owed(self, kind: Kind, listed: Mapping[str, str]) -> dict[str, str]:
        """What the store does not know as new as it was listed; what the watch showed the end of is not owed."""
        known = {uid: version for _, uid, version in self.store.known(kind)}
        return {
            uid: version
            for uid, version in listed.items()
            if newer(version, known.get(uid) or self.store.ended_at(uid))
        }

    def _drop(self, kind: Kind, key: Key, version: str, uid: str) -> None:
        owner = self.store.owner(kind, key)
        if self.store.remove(kind, key, uid=uid, resource_version=version) and owner is not None:
            log.warning("%s %s is gone; the watch did not say so", kind, key, extra={"service": str(owner)})
            self.dropped(owner)

    async def _list(self, kind: Kind) -> list[Identity]:
        selector = "" if kind is MODEL_SERVICE else names.MANAGED_SELECTOR
        spaces = self.namespaces or ("",)
        return [
            item
            for namespace in spaces
            for item in await self.gateway.list_identities(kind, namespace=namespace, selector=selector)
        ]
