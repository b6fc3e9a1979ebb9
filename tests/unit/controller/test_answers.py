"""Lists and watches as kopf asks for them, from a scripted API server: what is taken, and what is left to kopf."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from nereus.controller.answers import ANEW, Page, answers
from nereus.controller.kinds import POD, Kind
from nereus.controller.refusals import Refusals, RefusedError
from tests.unit.controller.scripted import Seen, scripted

LIST = {"kind": "PodList", "metadata": {"resourceVersion": "7", "continue": "more"}, "items": [{"a": 1}, {"a": 2}]}


@pytest.mark.parametrize(
    ("path", "body", "status", "taken"),
    [
        ("/api/v1/pods", LIST, 200, [{"a": 1}, {"a": 2}]),
        ("/api/v1/namespaces/ns/pods", LIST, 200, [{"a": 1}, {"a": 2}]),
        ("/api/v1/pods", {**LIST, "items": None}, 200, []),
        ("/api/v1/secrets", LIST, 200, None),
        ("/api/v1/pods", {"kind": "Status", "code": 429}, 429, None),
        ("/api/v1", {"kind": "APIResourceList", "resources": []}, 200, None),
    ],
    ids=["a list", "of a namespace", "an empty page", "another kind", "too many requests", "discovery"],
)
async def test_only_lists_of_watched_kinds_are_taken(
    path: str, body: Any, status: int, taken: list[dict[str, Any]] | None
) -> None:
    found: list[tuple[Kind, list[Any], str, bool]] = []

    def take(kind: Kind, page: Page) -> None:
        found.append((kind, list(page.items), page.namespace, page.last))

    async def answer(_: Seen) -> web.Response:
        return web.json_response(body, status=status)

    async with scripted(answer) as server:
        session = server.connection.session(limit=0, answers=answers(take, Refusals()))
        async with session, session.get(server.connection.server + path) as response:
            passed_on = await response.json()
    if taken is None:
        assert (found, passed_on) == ([], body)
    else:
        assert found == [(POD, taken, "ns" if "namespaces" in path else "", False)]
        assert passed_on == {**body, "items": []}


def line(kind: str, **body: Any) -> bytes:
    return json.dumps({"type": kind, "object": body}, separators=(",", ":")).encode() + b"\n"


async def lines(*parts: bytes, refusals: Refusals) -> bytes:
    """What kopf reads of a watch whose server sends these parts."""

    async def answer(_: Seen) -> web.Response:
        async def body() -> Any:
            for part in parts:
                yield part

        return web.Response(body=body())

    found = b""
    async with scripted(answer) as server:
        session = server.connection.session(limit=0, answers=answers(lambda _kind, _page: None, refusals))
        async with session, session.get(f"{server.connection.server}/api/v1/pods?watch=true") as response:
            async for chunk in response.content.iter_chunked(2**20):
                found += chunk
    return found


@pytest.mark.parametrize("cut", range(0, 60, 7))
async def test_an_error_inside_a_watch_asks_for_a_new_list_wherever_its_line_is_cut(cut: int) -> None:
    refusals = Refusals()
    added = line("ADDED", note='{"type":"ERROR"')  # words that look like one are none
    error = line("ERROR", code=500, message="etcd lost its leader")
    sent = added + error
    at = len(added) - 5 + cut
    assert await lines(sent[:at], sent[at:], refusals=refusals) == added + ANEW
    assert "etcd lost its leader (500)" in str(refusals)


async def test_a_watch_that_is_too_old_is_no_trouble() -> None:
    refusals = Refusals()
    assert await lines(line("ERROR", code=410, message="too old"), refusals=refusals) == ANEW
    assert str(refusals) == ""


async def test_a_line_that_is_cut_breaks_the_connection_and_is_not_read() -> None:
    with pytest.raises(aiohttp.ClientConnectionError):
        await lines(line("ADDED", a=1), line("ADDED", a=2)[:-9], refusals=Refusals())


async def test_words_of_a_refusal_are_the_servers_own() -> None:
    async def answer(_: Seen) -> web.Response:
        return web.json_response({"kind": "Status", "message": "pods is forbidden"}, status=403)

    refusals = Refusals()
    async with scripted(answer) as server:
        session = server.connection.session(limit=0, answers=answers(lambda _kind, _page: None, refusals))
        async with session:
            with pytest.raises(RefusedError, match="pods is forbidden"):
                await session.get(f"{server.connection.server}/api/v1/pods")
    assert "Pod cannot be watched for 0 s: pods is forbidden (403); see that the operator's role" in str(refusals)
