"""kopf, used for one thing: watching. Every event goes into the store and names the ModelService to look at.

Only `on.event` handlers: no finalizers (a deletion never waits for us), no annotations of kopf's, no index (quadratic
at the start), no change detection. kopf reconnects and lists again after an expired watch by itself; answers that
would end it (404 for a definition that was deleted, 403 while roles are replaced, an error inside a watch) are turned
into what it tries again for ever, see answers.py.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import kopf

from nereus.api import names
from nereus.api.manifests import Manifest
from nereus.controller.answers import Page, answers
from nereus.controller.connection import Connection
from nereus.controller.kinds import MODEL_SERVICE, WATCHED, Kind
from nereus.controller.refusals import Refusals
from nereus.controller.store import Change, Key, Store, owner_of

BACKOFFS = tuple(min(0.5 * 2**tries, 10.0) for tries in range(20))
"""Seconds before each further try of a request, give or take a half."""
ANEW_SECONDS = 1.5
"""Before a kind is listed anew, give or take a half; kopf's own 0.1 s would be a storm where it does not help."""

EventType = str | None
"""ADDED, MODIFIED, DELETED, or None for an object of a list."""


class Wake(Protocol):
    """Called with the service that an event concerns and what it changed."""

    def __call__(self, service: Key, kind: Kind, change: Change) -> None: ...


def deliver(store: Store, kind: Kind, event_type: EventType, manifest: Manifest, wake: Wake) -> None:
    """One event into the store; the services that it concerns, before and after, are woken."""
    metadata = manifest["metadata"]
    key = Key(metadata.get("namespace", ""), metadata["name"])
    owners = {store.owner(kind, key), owner_of(manifest)} - {None}
    if event_type == "DELETED":
        gone = store.remove(kind, key, uid=metadata["uid"], resource_version=metadata["resourceVersion"])
        change = Change.RELEVANT if gone else Change.NONE
    else:
        change = store.put({"apiVersion": kind.api_version, "kind": kind.kind, **manifest})
    if change is not Change.NONE:
        for owner in owners:
            if owner is not None:
                wake(owner, kind, change)


async def start(
    connection: Connection,
    *,
    namespaces: Sequence[str],
    store: Store,
    wake: Wake,
    delivered: Callable[[Kind, bool], None],
    listed: Callable[[Kind, str], None],
    refusals: Refusals,
) -> Iterable[asyncio.Task[Any]]:
    """Start watching; the tasks run until cancelled. No namespaces: all of them. `delivered` is told when a kind was
    shown anything (True: as part of a list), `listed` when a list is in, with its namespace (empty: of all); `refusals`
    of what the API server does not give."""
    registry = kopf.OperatorRegistry()
    settings = _settings()

    def take(kind: Kind, page: Page) -> None:
        for manifest in page.items:
            deliver(store, kind, None, manifest, wake)
        delivered(kind, True)
        if page.last:
            listed(kind, page.namespace)

    async def log_in(**_: Any) -> kopf.AiohttpSession:
        session = connection.session(limit=0, answers=answers(take, refusals))
        return kopf.AiohttpSession(server=connection.server, aiohttp_session=session)

    kopf.on.login(registry=registry)(log_in)
    for kind in WATCHED:
        if kind is not MODEL_SERVICE:
            settings.watching.label_selectors[kind.group, kind.version, kind.plural] = names.MANAGED_SELECTOR
        handler = _handler(kind, store, wake, delivered)
        kopf.on.event(kind.group, kind.version, kind.plural, id=f"watch-{kind.plural}", registry=registry)(handler)
    tasks: Iterable[asyncio.Task[Any]] = await kopf.spawn_tasks(
        registry=registry,
        settings=settings,
        standalone=True,
        clusterwide=not namespaces,
        namespaces=list(namespaces),
    )
    return tasks


def _handler(kind: Kind, store: Store, wake: Wake, delivered: Callable[[Kind, bool], None]) -> Any:
    async def on_event(event: Any, **_: Any) -> None:
        delivered(kind, event["type"] is None)
        deliver(store, kind, event["type"], event["object"], wake)

    return on_event


class _NoMemory(kopf.DiffBaseStorage, kopf.ProgressStorage):
    """kopf copies every object several times to compare it with what it stored; here it stores nothing, so that it
    need not (measured: half of the operator's processor time while a fleet starts)."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Nothing is stored."""

    def purge(self, **_: Any) -> None:
        """Nothing was stored."""

    def touch(self, **_: Any) -> None:
        """No object is ever patched by kopf."""


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True  # our kinds are fixed; needs no rights on definitions and namespaces
    settings.peering.standalone = True
    settings.persistence.diffbase_storage = settings.persistence.progress_storage = _NoMemory()
    settings.persistence.finalizer = f"{names.GROUP}/none"  # never set; kopf's own name would be shared with others
    settings.networking.connect_timeout = 10
    settings.networking.request_timeout = 60
    settings.networking.error_backoffs = [_about(seconds) for seconds in BACKOFFS]
    settings.queueing.exit_timeout = 0.5
    # kopf keeps a task and the whole object until it was quiet for this long: at a start, that is the whole fleet.
    settings.queueing.idle_timeout = 0.05
    settings.watching.connect_timeout = 10
    settings.watching.reconnect_backoff = _about(ANEW_SECONDS)
    settings.watching.server_timeout = 300  # some load balancers drop longer connections without a word
    settings.watching.chunk_size = 250  # objects that are in memory at once, as they came
    settings.process.ultimate_exiting_timeout = None  # the process has a deadline of its own
    return settings


def _about(seconds: float) -> float:
    """Not the same in every replica."""
    return seconds * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
