"""The newest warning event of each pod that is stuck before its containers run: what its own status does not name.

Events are in no cache of the API server, so that a list reads all of a namespace from etcd, however few it returns
(measured: asking for one pod's at a time took a quarter of etcd while a thousand pods were being made). So one list
serves every stuck pod of a namespace for a while.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nereus.controller.gateway import Gateway
from nereus.controller.kinds import EVENT

EVENTS_SECONDS = 10.0
"""How old the answer may be; a warning repeats every few seconds at first, every few minutes later."""
SELECTOR = "involvedObject.kind=Pod,type=Warning"


@dataclass
class _Namespace:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    listed_at: float = float("-inf")
    newest: Mapping[str, str] = field(default_factory=dict)


class PodWarnings:
    """Warnings by pod, read when they are asked for."""

    def __init__(self, gateway: Gateway, clock: Callable[[], float] = time.monotonic) -> None:
        self._gateway = gateway
        self._clock = clock
        self._namespaces: dict[str, _Namespace] = {}

    async def newest(self, namespace: str, uid: str) -> str:
        """`Reason: message` of the newest warning about a pod, empty without one. Raises ApiError."""
        known = self._namespaces.setdefault(namespace, _Namespace())
        async with known.lock:  # whoever asks meanwhile waits for the one list
            if self._clock() - known.listed_at >= EVENTS_SECONDS:
                events = await self._gateway.list_objects(EVENT, namespace=namespace, fields=SELECTOR)
                known.newest, known.listed_at = _newest(events), self._clock()
                self._drop_unused()
        return known.newest.get(uid, "")

    def _drop_unused(self) -> None:
        oldest = self._clock() - 10 * EVENTS_SECONDS
        unused = [name for name, known in self._namespaces.items() if known.listed_at < oldest]
        for name in unused:
            if not self._namespaces[name].lock.locked():
                del self._namespaces[name]


def _newest(events: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The last of each pod's warnings, by the pod's uid."""
    found = {}
    for event in sorted(events, key=_time):
        uid = str((event.get("involvedObject") or {}).get("uid", ""))
        found[uid] = f"{event.get('reason', '')}: {event.get('message', '')}"
    return found


def _time(event: Mapping[str, Any]) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")
