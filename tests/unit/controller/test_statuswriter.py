"""When a status is written: at once for what matters, seldom for figures, never for nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from nereus.api import names
from nereus.controller.events import AGAIN_SECONDS, EventPoster
from nereus.controller.gateway import Gateway
from nereus.controller.kinds import MODEL_SERVICE
from nereus.controller.statuswriter import FIGURES_SECONDS, FLEET_PER_SECOND, StatusWriter
from nereus.controller.store import Change, Key, Store
from nereus.diagnosis.story import Event, EventType
from tests.unit.controller.scripted import Scripted, Seen, scripted

KEY = Key("ns", "svc")


def service(name: str = "svc", **status: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1"}
    return {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": metadata, "status": status}


def status(reason: str = "Serving", p50: float = 1.0) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "True", "reason": reason, "message": "m", "observedGeneration": 1}
    return {"conditions": [ready], "coldStart": {"samples": 1, "p50": p50}}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def server(**changed: Any) -> AsyncIterator[tuple[Scripted, Gateway]]:
    """`changed`: metadata that somebody wrote just before us."""
    version = [1]

    async def answer(seen: Seen) -> web.Response:
        version[0] += 1
        if seen.method == "POST":
            return web.json_response(seen.body)
        found = service(seen.path.split("/")[-2], **seen.body[-1]["value"])
        found["metadata"] |= {"resourceVersion": str(version[0]), **changed}
        return web.json_response(found)

    async with scripted(answer) as running:
        gateway = Gateway(running.connection)
        try:
            yield running, gateway
        finally:
            await gateway.close()


async def test_what_stands_already_is_not_written() -> None:
    async with server() as (api, gateway):
        store = Store()
        store.put(service(**status()))
        assert await StatusWriter(gateway, store, Clock()).write(KEY, status(), uid="svc") is None
        assert api.seen == []


async def test_what_matters_is_written_at_once_and_in_the_place_of_whatever_stood_there() -> None:
    async with server() as (api, gateway):
        store = Store()
        store.put(service(garbage=[1, 2]))
        writer = StatusWriter(gateway, store, Clock())
        for reason in ("Creating", "LoadingModels", "Serving"):
            assert await writer.write(KEY, status(reason), uid="svc") is None
        assert [seen.body for seen in api.seen] == [
            [
                {"op": "test", "path": "/metadata/uid", "value": "svc"},
                {"op": "add", "path": "/status", "value": status(reason)},
            ]
            for reason in ("Creating", "LoadingModels", "Serving")
        ]
        assert {seen.query["fieldManager"] for seen in api.seen} == {names.STATUS_MANAGER}
        assert writer.reasons == {KEY: "Serving"}


@pytest.mark.parametrize("changed", [{}, {"generation": 2}, {"labels": {"team": "a"}}, {"annotations": {"a": "b"}}])
async def test_a_declaration_that_changed_just_before_its_status_was_written_is_looked_at(
    changed: dict[str, Any],
) -> None:
    async with server(**changed) as (_, gateway):
        store, looked_at = Store(), list[Key]()
        store.put(service(**status()))
        writer = StatusWriter(gateway, store, Clock(), declared=looked_at.append)
        await writer.write(KEY, status("Unschedulable"), uid="svc")
        assert looked_at == ([KEY] if changed else [])
        echo = {**service(**status("Unschedulable")), "metadata": store.get(MODEL_SERVICE, KEY)["metadata"]}  # type: ignore[index]
        assert store.put(echo) is Change.NONE, "the watch tells nobody"


async def test_figures_are_written_once_a_minute_and_the_wait_is_told() -> None:
    async with server() as (api, gateway):
        store, clock = Store(), Clock()
        store.put(service())
        writer = StatusWriter(gateway, store, clock)
        await writer.write(KEY, status(p50=1.0), uid="svc")
        clock.now += 20
        assert await writer.write(KEY, status(p50=2.0), uid="svc") == pytest.approx(FIGURES_SECONDS - 20)
        assert len(api.seen) == 1
        clock.now += FIGURES_SECONDS - 20
        assert await writer.write(KEY, status(p50=3.0), uid="svc") is None
        assert len(api.seen) == 2


async def test_figures_of_a_fleet_keep_to_its_budget() -> None:
    async with server() as (api, gateway):
        store, clock = Store(), Clock()
        writer = StatusWriter(gateway, store, clock)
        for number in range(50):
            store.put(service(f"s{number}", **status(p50=1.0)))
        for tenth in range(10):
            clock.now = 1000.0 + tenth / 10
            for number in range(50):
                await writer.write(Key("ns", f"s{number}"), status(p50=2.0), uid=f"s{number}")
        assert len(api.seen) <= FLEET_PER_SECOND + 1
        assert len(api.seen) >= FLEET_PER_SECOND / 2


async def test_the_same_is_told_once_in_ten_minutes() -> None:
    async with server() as (api, gateway):
        clock = Clock()
        poster = EventPoster(gateway, clock=clock)
        crashing = Event(type=EventType.WARNING, reason="Crashing", message="exit code 1")
        ready = Event(type=EventType.NORMAL, reason="Ready", message="1/1")
        for _ in range(5):
            await poster.post(service(), [crashing, ready])
            clock.now += 60
        assert [seen.body["reason"] for seen in api.seen] == ["Crashing", "Ready"]
        clock.now += AGAIN_SECONDS
        await poster.post(service(), [crashing])
        assert len(api.seen) == 3
        first = api.seen[0].body
        assert first["involvedObject"]["uid"] == "svc"
        assert (first["type"], first["source"]["component"]) == ("Warning", "nereus")
        assert first["metadata"]["name"] != api.seen[2].body["metadata"]["name"]
