"""Makes one object be as it is wished, or says why it cannot: looks first, and writes only what differs.

An object that exists and is not ours is left alone. A field that the API server writes in its own way (a quantity,
an empty list) would look like a difference for ever: what still differs right after an apply is remembered as the
server's way of saying it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from nereus.api import names
from nereus.api.manifests import Manifest
from nereus.api.reasons import Reason
from nereus.api.service import ModelService
from nereus.controller import drift
from nereus.controller.disputes import Disputes, other_manager
from nereus.controller.errors import ApiError, InvalidError, TerminatingError, UnavailableError
from nereus.controller.gateway import Gateway
from nereus.controller.kinds import WATCHED, Kind, kind_of
from nereus.controller.store import Key, Store, service_owner
from nereus.diagnosis.world import ApplyFailure

REPLICAS = "spec.replicas"
UNWATCHED_SECONDS = 600.0
"""An object of a kind that is not watched is looked at again after this time."""

log = logging.getLogger(__name__)


class RefusedError(Exception):
    """An object that could not be made as wished."""

    def __init__(self, failure: ApplyFailure) -> None:
        super().__init__(f"{failure.object}: {failure.message}")
        self.failure = failure


class LeavingError(Exception):
    """The name is still held by an object that is being deleted: worth trying again soon."""


class Applier:
    """Writes the objects of ModelServices."""

    def __init__(self, gateway: Gateway, store: Store) -> None:
        self._gateway = gateway
        self._store = store
        self._servers_way: dict[tuple[Kind, Key], tuple[str, tuple[str, ...]]] = {}
        self._unwatched: dict[tuple[Kind, Key], tuple[str, float]] = {}
        self._compared: dict[tuple[Kind, Key], tuple[str, str, str]] = {}
        """What was found as wished: for which service, which wish, and in which state of the object."""
        self._disputes = Disputes()

    async def apply(self, manifest: Manifest, service: ModelService) -> bool:
        """Returns whether anything was written. Raises RefusedError, LeavingError, or ApiError without an answer."""
        kind = kind_of(manifest["kind"])
        key = Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        desired = drift.stamped(manifest)
        digest = desired["metadata"]["annotations"][names.ANNOTATION_APPLIED]
        if self._seen_lately(kind, key, digest):
            return False
        version = self._store.version(kind, key)
        if version and self._compared.get((kind, key)) == (service.uid, digest, version):
            return False
        try:
            live = await self._live(kind, key, service)
            written = await self._write(kind, key, desired, live, digest)
        except ApiError as error:
            if error.status == 0 or isinstance(error, TerminatingError | UnavailableError):
                raise  # no refusal: worth trying again, and nothing that a user could change
            reason = error.reason or type(error).__name__.removesuffix("Error")
            raise RefusedError(
                ApplyFailure(object=f"{kind} {key.name}", reason=reason, message=error.message)
            ) from error
        if not written and version:
            self._compared[kind, key] = (service.uid, digest, version)
        self._unwatched[kind, key] = (digest, time.monotonic())
        return written

    async def delete(self, manifest: Mapping[str, Any]) -> None:
        """Removes an object that is ours and no longer wished."""
        kind, metadata = kind_of(manifest["kind"]), manifest["metadata"]
        log.info("deleting %s %s", kind, metadata["name"], extra={"service": _service_key(manifest)})
        await self._gateway.delete(kind, metadata["namespace"], metadata["name"], uid=metadata["uid"])

    async def remove_unwatched(self, kind: Kind, service: ModelService) -> None:
        """Removes the object of a kind that is not watched and that a service no longer wishes; looked for once per
        UNWATCHED_SECONDS."""
        key = Key(service.namespace, service.name)
        if self._seen_lately(kind, key, ""):
            return
        live = await self._gateway.get_or_none(kind, key.namespace, key.name)
        if live is not None and not _foreign(live, service):
            await self.delete(live)
        self._unwatched[kind, key] = ("", time.monotonic())

    async def heal(self, kind: Kind, key: Key, wish: str, what: str, write: Callable[[], Awaitable[None]]) -> None:
        """Writes a wish that stood already and was changed by somebody. Raises RefusedError, without writing while it
        is not time yet, when another writer insists on something else."""
        thing = (kind, key, "replicas" if what == REPLICAS else "")
        if not self._disputes.undone(thing, wish):
            await write()
            self._disputes.wrote(thing, wish)
            return
        manager = self._disputes.manager(thing)
        if manager is None:  # his value stands now, so he can be asked for
            manager = other_manager(await self._gateway.get(kind, key.namespace, key.name))
            self._disputes.name(thing, manager)
            log.warning("%s %s: %s changes %s again and again", kind, key, manager or "somebody", what)
        raise RefusedError(
            ApplyFailure(
                object=f"{kind} {key.name}",
                reason="Conflict",
                message=f"{what} is changed again and again by another writer; it is put right less and less often",
                manager=manager,
            )
        )

    def forget_unwatched(self) -> None:
        """Looks at every object of a kind that is not watched when it is next wished: such a kind came, or went and
        took its objects along."""
        self._unwatched.clear()

    def forget(self, service: Key) -> None:
        """Drops what is remembered of the objects of a service that is gone."""
        self._disputes.forget(lambda thing: _belongs(thing[1], service))
        memories: tuple[dict[tuple[Kind, Key], Any], ...] = (self._servers_way, self._unwatched, self._compared)
        for memory in memories:
            for kind, key in [item for item in memory if _belongs(item[1], service)]:
                memory.pop((kind, key), None)

    async def _live(self, kind: Kind, key: Key, service: ModelService) -> Manifest | None:
        """The object as it is now, None when there is none; raises RefusedError when it is somebody else's."""
        live = self._store.get(kind, key) if kind in WATCHED else None
        if live is None:
            # The watch shows only what has our labels: look whether the name is free, or labels were removed.
            live = await self._gateway.get_or_none(kind, key.namespace, key.name)
            if live is None:
                return None
        if owner := _foreign(live, service):
            raise RefusedError(
                ApplyFailure(
                    object=f"{kind} {key.name}",
                    reason=Reason.NAME_TAKEN.value,
                    message=f"exists and belongs to {owner}; it is left alone",
                    manager=owner,
                )
            )
        if live["metadata"].get("deletionTimestamp") or _former(live, service):
            raise LeavingError(f"{kind} {key} is being deleted")
        return live

    async def _write(self, kind: Kind, key: Key, desired: Manifest, live: Manifest | None, digest: str) -> bool:
        found: tuple[str, ...] = ("absent",)
        if live is not None:
            found = drift.differences(desired, live)
            if not found or self._servers_way.get((kind, key)) == (digest, found):
                return False
            # Only this very object: a successor of the same name may be somebody else's.
            desired = {**desired, "metadata": {**desired["metadata"], "uid": live["metadata"]["uid"]}}

        async def write() -> None:
            await self._send(kind, key, desired, digest, exists=live is not None, found=found)

        stood = live is not None and (live["metadata"].get("annotations") or {}).get(names.ANNOTATION_APPLIED) == digest
        if stood:
            await self.heal(kind, key, digest, found[0].partition(":")[0], write)
        else:
            await write()
        return True

    async def _send(
        self, kind: Kind, key: Key, desired: Manifest, digest: str, *, exists: bool, found: tuple[str, ...]
    ) -> None:
        log.info(
            "applying %s %s", kind, key.name, extra={"service": _service_key(desired), "differences": list(found[:10])}
        )
        try:
            answer = await self._gateway.apply(kind, desired)
        except InvalidError:
            if not exists:
                raise
            answer = await self._restore(kind, key, desired)
        if kind in WATCHED:  # of others nobody would tell the store that they are gone
            self._store.put(answer)
        self._servers_way.pop((kind, key), None)
        if left := drift.differences(desired, answer):
            self._servers_way[kind, key] = (digest, left)

    async def _restore(self, kind: Kind, key: Key, desired: Manifest) -> Manifest:
        """Apply keeps what others added; where that makes the object invalid (a second port of one name), the wished
        lists replace theirs first."""
        metadata = desired["metadata"]
        patch = {"metadata": {"uid": metadata["uid"]}, "spec": desired.get("spec", {})}
        await self._gateway.merge(kind, key.namespace, key.name, patch)
        return await self._gateway.apply(kind, desired)

    def _seen_lately(self, kind: Kind, key: Key, digest: str) -> bool:
        if kind in WATCHED:
            return False
        seen = self._unwatched.get((kind, key))
        return seen is not None and seen[0] == digest and time.monotonic() - seen[1] < UNWATCHED_SECONDS


def _foreign(live: Mapping[str, Any], service: ModelService) -> str:
    """Whose object it is when it is not ours; empty when it is ours, ours to be, or left by a namesake of ours."""
    owner = service_owner(live)
    if owner is not None:
        return "" if owner.get("name") == service.name else f"ModelService {owner.get('name')}"
    for reference in live["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return f"{reference.get('kind')} {reference.get('name')}"
    labels = live["metadata"].get("labels") or {}
    ours = labels.get(names.LABEL_MANAGED_BY) == names.MANAGED_BY and labels.get(names.LABEL_SERVICE) == service.name
    return "" if ours else "somebody else"


def _former(live: Mapping[str, Any], service: ModelService) -> bool:
    """Whether it belongs to an earlier ModelService of this name: garbage collection is about to remove it."""
    owner = service_owner(live)
    return owner is not None and owner.get("uid") != service.uid


def _service_key(manifest: Mapping[str, Any]) -> str:
    owner = service_owner(manifest)
    return f"{manifest['metadata']['namespace']}/{owner.get('name')}" if owner else ""


def _belongs(key: Key, service: Key) -> bool:
    return key.namespace == service.namespace and (key.name == service.name or key.name.startswith(service.name + "-"))
