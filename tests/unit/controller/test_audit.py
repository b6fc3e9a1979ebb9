"""The store against the truth: what a watch failed to say is found, and a watch that hangs is named."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from nereus.api import names
from nereus.controller import audit as audit_module
from nereus.controller.audit import Auditor
from nereus.controller.gateway import Gateway
from nereus.controller.kinds import DEPLOYMENT, WATCHED
from nereus.controller.store import Key, Store
from tests.unit.controller.scripted import Seen, refusal, scripted, until

KEY = Key("ns", "svc")


def deployment(uid: str, version: int) -> dict[str, Any]:
    owner = {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": "svc", "uid": "s1"}
    metadata = {"name": "svc", "namespace": "ns", "uid": uid, "resourceVersion": str(version)}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {**metadata, "ownerReferences": [owner]}}


class Truth:
    """What the API server holds: Deployments only."""

    def __init__(self) -> None:
        self.deployments: list[dict[str, Any]] = []
        self.down = False

    async def answer(self, seen: Seen) -> web.Response:
        if self.down:
            return refusal(403, "Forbidden", "not now")
        items = self.deployments if seen.path.endswith("/deployments") else []
        return web.json_response({"items": items, "metadata": {}})


@asynccontextmanager
async def auditing(
    monkeypatch: pytest.MonkeyPatch, store: Store, *existing: dict[str, Any]
) -> AsyncIterator[tuple[Auditor, Truth, list[Key]]]:
    monkeypatch.setattr(audit_module, "START_SECONDS", 0.01)
    monkeypatch.setattr(audit_module, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(audit_module, "RETRY_SECONDS", 0.02)
    monkeypatch.setattr(audit_module, "SETTLE_SECONDS", 0.02)
    truth, dropped = Truth(), list[Key]()
    truth.deployments = list(existing)
    async with scripted(truth.answer) as server:
        gateway = Gateway(server.connection)
        auditor = Auditor(gateway, store, dropped.append)
        running = asyncio.create_task(auditor.run())
        try:
            yield auditor, truth, dropped
        finally:
            running.cancel()
            await asyncio.wait({running})
            await gateway.close()


async def test_work_begins_only_when_everything_that_exists_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    async with auditing(monkeypatch, store, deployment("d1", 5)) as (auditor, _, _):
        store.put(deployment("d1", 4))
        await asyncio.sleep(0.05)
        assert not auditor.complete.is_set(), "an older state is not what exists"
        store.put(deployment("d1", 5))
        async with asyncio.timeout(5):
            await auditor.complete.wait()


async def test_a_deletion_that_the_watch_missed_is_found_after_it_began_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    async with auditing(monkeypatch, store) as (auditor, _, dropped):
        async with asyncio.timeout(5):
            await auditor.complete.wait()
        store.put(deployment("d1", 5))
        auditor.delivered(DEPLOYMENT, relisted=True)
        await until("dropped", lambda: dropped == [KEY])
        assert store.get(DEPLOYMENT, KEY) is None


async def test_a_watch_that_owes_an_object_is_named_and_forgiven_when_it_delivers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store()
    async with auditing(monkeypatch, store) as (auditor, truth, _):
        async with asyncio.timeout(5):
            await auditor.complete.wait()
        assert auditor.stale(0.0) == ""
        truth.deployments = [deployment("d1", 5)]
        auditor.delivered(DEPLOYMENT, relisted=True)
        await until("stale", lambda: "Deployment" in auditor.stale(0.0))
        store.put(deployment("d1", 6))
        await until("forgiven", lambda: auditor.stale(0.0) == "")


async def test_an_api_server_that_does_not_answer_makes_no_watch_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    async with auditing(monkeypatch, store) as (auditor, truth, dropped):
        async with asyncio.timeout(5):
            await auditor.complete.wait()
        store.put(deployment("d1", 5))
        truth.down = True
        for kind in WATCHED:
            auditor.delivered(kind, relisted=True)
        await asyncio.sleep(0.2)
        assert auditor.stale(0.0) == ""
        assert dropped == []


@pytest.mark.parametrize("namespaces", [(), ("a", "b")], ids=["all namespaces", "two namespaces"])
async def test_the_first_lists_of_all_watches_are_everything_and_nothing_is_listed_twice(
    monkeypatch: pytest.MonkeyPatch, namespaces: tuple[str, ...]
) -> None:
    asked: list[str] = []

    async def answer(seen: Seen) -> web.Response:
        asked.append(seen.path)
        return web.json_response({"items": [], "metadata": {}})

    monkeypatch.setattr(audit_module, "START_SECONDS", 0.01)
    async with scripted(answer) as server:
        gateway = Gateway(server.connection)
        auditor = Auditor(gateway, Store(), lambda _key: None, namespaces=namespaces)
        running = asyncio.create_task(auditor.run())
        for namespace in namespaces or ("",):
            await asyncio.sleep(0.03)
            assert not auditor.complete.is_set()
            for kind in WATCHED:
                auditor.delivered(kind, relisted=True)
                auditor.listed(kind, namespace)
        async with asyncio.timeout(5):
            await auditor.complete.wait()
        running.cancel()
        await asyncio.wait({running})
        await gateway.close()
    assert asked == []
