"""Posts the story of a ModelService as Kubernetes events, so that `kubectl describe` tells it.

What is told is decided in `diagnosis.story`. Here: the form of an event, and a limit, so that a service that flaps
for a week does not fill the event store: the same sentence is told once in ten minutes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from nereus.api import names
from nereus.api.manifests import Manifest, digest
from nereus.controller.errors import ApiError, FencedError
from nereus.controller.gateway import Gateway
from nereus.controller.kinds import EVENT
from nereus.controller.store import Key
from nereus.diagnosis.story import Event

COMPONENT = "nereus"
AGAIN_SECONDS = 600.0

log = logging.getLogger(__name__)


class EventPoster:
    """Posts events; a lost event is logged and loses nothing else. `count` is told type and reason."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        count: Callable[[str, str], None] = lambda _type, _reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gateway = gateway
        self._count = count
        self._clock = clock
        self._told: dict[Key, dict[str, float]] = {}

    async def post(self, resource: Mapping[str, Any], events: Iterable[Event]) -> None:
        """Posts what was not told lately about this ModelService."""
        metadata = resource["metadata"]
        key = Key(metadata["namespace"], metadata["name"])
        for event in events:
            said, now = f"{event.reason}: {event.message}", self._clock()
            told = {text: at for text, at in self._told.get(key, {}).items() if now - at < AGAIN_SECONDS}
            self._told[key] = {**told, said: now}
            if said in told:
                continue
            decided = {"decision": event.decision} if event.decision else {}
            log.info("%s", said, extra={"service": str(key), "event": event.reason, **decided})
            self._count(event.type.value, event.reason)
            try:
                await self._gateway.create(EVENT, manifest(metadata, event, now=datetime.now(UTC)))
            except FencedError:
                raise
            except ApiError as error:
                log.warning("event not posted: %s", error, extra={"service": str(key)})

    def forget(self, key: Key) -> None:
        self._told.pop(key, None)


def manifest(metadata: Mapping[str, Any], event: Event, *, now: datetime) -> Manifest:
    """An event about a ModelService as the API server stores it."""
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    unique = digest([metadata.get("uid"), event.reason, event.message, now.timestamp()])
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": f"{metadata['name']}.{unique}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata.get("uid", ""),
            "resourceVersion": metadata.get("resourceVersion", ""),
        },
        "type": event.type.value,
        "reason": event.reason,
        "message": event.message,
        "source": {"component": COMPONENT},
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
