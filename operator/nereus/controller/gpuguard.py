"""Evicts a pod that stays above its GPU memory limit, where the spec asks for that and nothing else holds it.

Who has to go is decided in `gpu.eviction`. The Eviction API keeps the disruption budget; a refusal is told and tried
again later. Only the leader gets through: every write asks for the lease.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from nereus.api.manifests import Manifest
from nereus.controller.errors import ApiError, FencedError
from nereus.controller.gateway import Gateway
from nereus.controller.gpus import Agents
from nereus.controller.kinds import POD
from nereus.controller.store import Key, Store
from nereus.gpu.eviction import COOL_DOWN_SECONDS, GRACE_SECONDS, Watchdog
from nereus.gpu.offer import gib

LOOK_SECONDS = 5.0

log = logging.getLogger(__name__)


@dataclass
class _Guarded:
    """One service: its limit, its watchdog, and what was done last, in words."""

    limit_bytes: int
    watchdog: Watchdog = field(default_factory=Watchdog)
    said: str = ""
    said_at: float = 0.0


@dataclass
class Guard:
    """The services whose pods are evicted when they stay above their limit."""

    gateway: Gateway
    store: Store
    agents: Agents
    leads: Callable[[], bool]
    told: Callable[[Key], None]
    grace_seconds: float = GRACE_SECONDS
    clock: Callable[[], float] = time.monotonic
    _guarded: dict[Key, _Guarded] = field(default_factory=dict)

    def watch(self, service: Key, limit_bytes: int | None) -> None:
        """This is the limit of a service now; None when its pods are not to be evicted."""
        if limit_bytes is None:
            self._guarded.pop(service, None)
        elif service not in self._guarded:
            self._guarded[service] = _Guarded(limit_bytes)
        else:
            self._guarded[service].limit_bytes = limit_bytes

    def said(self, service: Key) -> str:
        """What was done last about a service, while it is news."""
        guarded = self._guarded.get(service)
        fresh = guarded is not None and self.clock() - guarded.said_at < 2 * COOL_DOWN_SECONDS
        return guarded.said if guarded and fresh else ""

    async def run(self) -> None:
        """Look at all of them, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for service, guarded in list(self._guarded.items()):
                if self.leads():
                    await self.look(service, guarded)

    async def look(self, service: Key, guarded: _Guarded) -> None:
        """One look at one service."""
        pods = {pod["metadata"]["uid"]: pod for pod in self.store.children(service, POD)}
        pods = {uid: pod for uid, pod in pods.items() if not pod["metadata"].get("deletionTimestamp")}
        now = self.clock()
        uid = guarded.watchdog.look(
            self._used(set(pods)), guarded.limit_bytes, now=now, grace_seconds=self.grace_seconds
        )
        if not uid:
            return
        guarded.watchdog.evicted_at = now
        guarded.said, guarded.said_at = await self._evict(service, pods[uid], guarded), now
        self.told(service)

    def _used(self, uids: set[str]) -> dict[str, int]:
        """Bytes of each pod that a fresh measurement is known of, in all its containers and on all its devices."""
        found: dict[str, int] = {}
        for node in self.agents.usage().nodes.values():
            for entry in node.pods:
                if entry.uid in uids and entry.used_bytes is not None:
                    found[entry.uid] = found.get(entry.uid, 0) + entry.used_bytes
        return found

    async def _evict(self, service: Key, pod: Manifest, guarded: _Guarded) -> str:
        metadata = pod["metadata"]
        limit = gib(guarded.limit_bytes)
        try:
            await self.gateway.evict(metadata["namespace"], metadata["name"], uid=metadata["uid"])
        except FencedError:
            guarded.watchdog.evicted_at = None
            return ""
        except ApiError as error:
            # A budget that refuses now may allow it soon; whoever is above its limit stays so.
            guarded.watchdog.evicted_at = None
            guarded.watchdog.above_since[metadata["uid"]] = self.clock()
            log.warning("not evicted: %s", error, extra={"service": str(service)})
            return f"pod {metadata['name']} is above {limit} of GPU memory and was not evicted: {error.message}"
        log.info("evicted %s, above %s of GPU memory", metadata["name"], limit, extra={"service": str(service)})
        return f"pod {metadata['name']} was evicted: it stayed above {limit} of GPU memory"
