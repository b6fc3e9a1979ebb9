"""kopf as it is, before a scripted API server in trouble: no answer ends a watch, and what existed is seen again."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from nereus.controller import watch
from nereus.controller.kinds import MODEL_SERVICE, WATCHED, Kind
from nereus.controller.refusals import Refusals
from nereus.controller.store import Key, Store
from tests.unit.controller.scripted import Seen, refusal, scripted, until

KEY = Key("ns", "svc")
LISTS = MODEL_SERVICE.path()


def service(version: int) -> dict[str, Any]:
    metadata = {"name": "svc", "namespace": "ns", "uid": "u1", "resourceVersion": str(version), "generation": version}
    return {"apiVersion": MODEL_SERVICE.api_version, "kind": MODEL_SERVICE.kind, "metadata": metadata, "spec": {}}


NAMESPACE = Kind("v1", "Namespace", "namespaces")
DEFINITION = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions")
SERVED = (*WATCHED, NAMESPACE, DEFINITION)  # kopf begins once it has found the last two


def discovery(path: str) -> web.Response | None:
    """What an API server says of its kinds; the list of groups does not name that of ModelServices yet."""
    if path == "/api":
        return web.json_response({"versions": ["v1"]})
    if path == "/apis":
        versions = {kind.group: {"version": kind.version} for kind in SERVED if kind.group}
        versions.pop(MODEL_SERVICE.group)
        groups = [{"name": name, "versions": [one], "preferredVersion": one} for name, one in versions.items()]
        return web.json_response({"groups": groups})
    resources = [
        {
            "name": kind.plural,
            "kind": kind.kind,
            "singularName": kind.kind.lower(),
            "namespaced": kind not in (NAMESPACE, DEFINITION),
            "verbs": ["list", "watch"],
        }
        for kind in SERVED
        if path == kind.path().rpartition("/")[0]
    ]
    return web.json_response({"resources": resources}) if resources else None


@dataclass
class Cluster:
    """One ModelService; `trouble` answers in the place of its list or its watch while it is set."""

    trouble: Callable[[Seen], web.Response | None] = lambda _seen: None
    version: int = 1
    calls: list[str] = field(default_factory=list)
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, seen: Seen) -> web.StreamResponse:
        if (found := discovery(seen.path)) is not None:
            return found
        if seen.path != LISTS:
            return await self.nothing(seen)
        watching = "watch" in seen.query
        self.calls.append("watch" if watching else "list")
        troubled = self.trouble(seen)
        if troubled is not None:
            return troubled
        if watching:
            return await self.nothing(seen)
        metadata = {"resourceVersion": str(self.version)}
        return web.json_response({"kind": "ModelServiceList", "metadata": metadata, "items": [service(self.version)]})

    async def nothing(self, seen: Seen) -> web.StreamResponse:
        """An empty list, or a watch that is quiet until it is closed."""
        if "watch" in seen.query:
            closing = self.closing

            async def quiet() -> AsyncIterator[bytes]:
                yield b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"1"}}}\n'
                await asyncio.wait_for(closing.wait(), 30)

            return web.Response(body=quiet())
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})


@dataclass
class Watching:
    cluster: Cluster
    store: Store
    refusals: Refusals
    tasks: set[asyncio.Task[Any]]

    def version(self) -> int:
        found = self.store.get(MODEL_SERVICE, KEY)
        return int(found["metadata"]["resourceVersion"]) if found else 0

    def lives(self) -> bool:
        return not any(task.done() for task in self.tasks)


@asynccontextmanager
async def watching(monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> AsyncIterator[Watching]:
    monkeypatch.setattr(watch, "BACKOFFS", (0.01, 0.02))  # kopf gives up after the second: so will it here
    monkeypatch.setattr(watch, "ANEW_SECONDS", 0.02)
    store, refusals = Store(), Refusals()
    async with scripted(cluster.answer) as server:
        tasks = await watch.start(
            server.connection,
            namespaces=(),
            store=store,
            wake=lambda _service, _kind, _change: None,
            delivered=lambda _kind, _relisted: None,
            listed=lambda _kind, _namespace: None,
            refusals=refusals,
        )
        try:
            yield Watching(cluster, store, refusals, set(tasks))
        finally:
            cluster.closing.set()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=5)


def event(kind: str, body: dict[str, Any]) -> web.Response:
    return web.Response(text=json.dumps({"type": kind, "object": body}, separators=(",", ":")) + "\n")


def failure(code: int) -> web.Response:
    return event("ERROR", {"kind": "Status", "code": code, "message": "etcd lost its leader"})


TROUBLES: dict[str, Callable[[], web.Response]] = {
    **{str(code): lambda code=code: refusal(code, "", "not now") for code in (400, 401, 403, 404, 410, 429, 500, 503)},  # type: ignore[misc]
    "not JSON": lambda: web.Response(status=502, text="<html>no backend</html>", content_type="text/html"),
    "a page of a proxy": lambda: web.Response(text="<html>please log in</html>", content_type="text/html"),
    "500 inside the watch": lambda: failure(500),
    "410 inside the watch": lambda: failure(410),
    "a line cut in its middle": lambda: web.Response(text='{"type":"MODIFIED","object":{"metad'),
}


@pytest.mark.parametrize(
    ("name", "verb"),
    [(name, verb) for name in TROUBLES for verb in ("list", "watch") if verb == "watch" or "watch" not in name],
)
async def test_no_answer_of_the_api_server_ends_a_watch(monkeypatch: pytest.MonkeyPatch, name: str, verb: str) -> None:
    cluster = Cluster()
    async with watching(monkeypatch, cluster) as state:
        await until("seen", lambda: state.version() == 1)
        await until("watched", lambda: "watch" in cluster.calls)
        cluster.calls.clear()

        def trouble(seen: Seen) -> web.Response | None:
            if verb == "list" and "watch" in seen.query:
                return failure(410)
            return TROUBLES[name]() if (verb == "watch") == ("watch" in seen.query) else None

        cluster.trouble = trouble
        cluster.closing.set()
        await until("tried again and again", lambda: cluster.calls.count(verb) > 8)
        assert state.lives(), "kopf has ended"
        cluster.closing = asyncio.Event()
        before = len(cluster.calls)
        cluster.trouble = lambda seen: (
            event("MODIFIED", service(7)) if "watch" in seen.query and len(cluster.calls) < before + 40 else None
        )
        await until("seen again", lambda: state.version() == 7)
        assert state.lives()


async def test_a_definition_that_is_away_is_named_and_over_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="nereus")
    cluster = Cluster()
    async with watching(monkeypatch, cluster) as state:
        await until("watched", lambda: state.version() == 1 and "watch" in cluster.calls)
        cluster.trouble = lambda _seen: refusal(404, "NotFound", "the server could not find the requested resource")
        cluster.closing.set()
        await until("missing", lambda: state.refusals.missing(MODEL_SERVICE))
        assert state.version() == 1, "what was known was thrown away"
        calls = len(cluster.calls)
        await until("tried again and again", lambda: len(cluster.calls) > calls + 20)
        told = [record.getMessage() for record in caplog.records if "cannot be watched" in record.getMessage()]
        assert len(told) == 1
        assert told[0].startswith(
            "ModelService cannot be watched: the server could not find the requested resource (404)"
        )
        assert "install the chart's definition" in told[0]
        cluster.closing = asyncio.Event()
        cluster.version = 9
        cluster.trouble = lambda _seen: None
        await until("served again", lambda: state.version() == 9 and not state.refusals.seconds())
        assert str(state.refusals) == state.refusals.missing(MODEL_SERVICE) == ""
        assert any("is watched again" in record.getMessage() for record in caplog.records)


async def test_a_group_that_the_list_of_groups_does_not_name_yet_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = discovery("/apis")
    assert groups is not None
    assert MODEL_SERVICE.group not in str(groups.text)
    async with watching(monkeypatch, Cluster()) as state:
        await until("seen", lambda: state.version() == 1)
