"""Writes the status of a ModelService: at once when something changed that matters, figures at most once a minute.

Status writes of thousands of services are what loads an API server, so figures also keep to a budget of the whole
fleet. The status is put in place as a whole, so that nothing foreign stays in it, by a manager of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from nereus.api.manifests import Manifest
from nereus.api.reasons import ConditionType
from nereus.controller.gateway import Gateway
from nereus.controller.kinds import MODEL_SERVICE
from nereus.controller.store import Key, Store
from nereus.diagnosis.reading import items, mapping, text
from nereus.diagnosis.story import significant

FIGURES_SECONDS = 60.0
"""Between two writes of one service that change only figures."""
FLEET_PER_SECOND = 20.0
"""Writes that change only figures, over all services."""


class StatusWriter:
    """Decides when a status is written, and writes it."""

    def __init__(
        self,
        gateway: Gateway,
        store: Store,
        clock: Callable[[], float] = time.monotonic,
        *,
        declared: Callable[[Key], None] = lambda _: None,
    ) -> None:
        """`declared` is told a service whose declaration turns out to be another one when its status is written."""
        self._gateway = gateway
        self._store = store
        self._clock = clock
        self._declared = declared
        self._written: dict[Key, float] = {}
        self._next_slot = 0.0
        self.reasons: dict[Key, str] = {}

    async def write(self, key: Key, status: Mapping[str, Any], *, uid: str) -> float | None:
        """Write the status of the service with this uid unless it stands already. Returns the seconds to wait when it
        is not time yet.

        Raises ApiError; NotFoundError also when the service was deleted and made again under its name meanwhile.
        """
        self.reasons[key] = _ready_reason(status)
        stored = self._store.get(MODEL_SERVICE, key) or {}
        known = stored.get("status")
        if known == status:
            return None
        if isinstance(known, dict) and not significant(known, status):
            wait = self._until_allowed(key)
            if wait > 0:
                return wait
        answer = await self._gateway.replace_status(MODEL_SERVICE, key.namespace, key.name, status, uid=uid)
        self._store.put(_kept(answer))
        self._written[key] = self._clock()
        if _declaration(self._store.get(MODEL_SERVICE, key) or {}) != _declaration(stored):
            # Somebody changed it a moment ago. The watch will show what is known by then, and so wake nobody.
            self._declared(key)
        return None

    def forget(self, key: Key) -> None:
        self._written.pop(key, None)
        self.reasons.pop(key, None)

    def _until_allowed(self, key: Key) -> float:
        now = self._clock()
        own = self._written.get(key, float("-inf")) + FIGURES_SECONDS
        if now < own:
            return own - now
        if now < self._next_slot:
            return self._next_slot - now
        self._next_slot = max(now, self._next_slot) + 1 / FLEET_PER_SECOND
        return 0.0


def _ready_reason(status: Mapping[str, Any]) -> str:
    ready = (item for item in items(status.get("conditions")) if item.get("type") == ConditionType.READY.value)
    return text(next(ready, {}).get("reason"))


def _declaration(manifest: Mapping[str, Any]) -> tuple[Any, ...]:
    """What users say; the generation stands for the spec and for being deleted."""
    metadata = mapping(manifest.get("metadata"))
    return metadata.get("uid"), metadata.get("generation"), metadata.get("labels"), metadata.get("annotations")


def _kept(answer: Manifest) -> Manifest:
    return {"apiVersion": MODEL_SERVICE.api_version, "kind": MODEL_SERVICE.kind, **answer}
