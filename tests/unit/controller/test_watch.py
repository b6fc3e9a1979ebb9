"""Lists as kopf asks for them, from a scripted API server: taken whole, and gone on with as if they were empty."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from nereus.controller import watch
from nereus.controller.kinds import POD, Kind
from tests.unit.controller.scripted import Seen, scripted

LIST = {"kind": "PodList", "metadata": {"resourceVersion": "7", "continue": "more"}, "items": [{"a": 1}, {"a": 2}]}


@pytest.mark.parametrize(
    ("path", "body", "status", "taken"),
    [
        ("/api/v1/pods", LIST, 200, [{"a": 1}, {"a": 2}]),
        ("/api/v1/namespaces/ns/pods", LIST, 200, [{"a": 1}, {"a": 2}]),
        ("/api/v1/pods", {**LIST, "items": None}, 200, []),
        ("/api/v1/secrets", LIST, 200, None),
        ("/api/v1/pods", {"kind": "Status", "code": 410}, 410, None),
        ("/api/v1", {"kind": "APIResourceList", "resources": []}, 200, None),
    ],
    ids=["a list", "of a namespace", "an empty page", "another kind", "a refusal", "discovery"],
)
async def test_only_lists_of_watched_kinds_are_taken(
    path: str, body: Any, status: int, taken: list[dict[str, Any]] | None
) -> None:
    found: list[tuple[Kind, list[Any], str, bool]] = []

    def take(kind: Kind, page: watch.Page) -> None:
        found.append((kind, list(page.items), page.namespace, page.last))

    async def answer(_: Seen) -> web.Response:
        return web.json_response(body, status=status)

    async with scripted(answer) as server:
        session = server.connection.session(limit=0, answers=watch._ends_lists({POD.plural: POD}, take))
        async with session, session.get(server.connection.server + path) as response:
            passed_on = await response.json()
    if taken is None:
        assert (found, passed_on) == ([], body)
    else:
        assert found == [(POD, taken, "ns" if "namespaces" in path else "", False)]
        assert passed_on == {**body, "items": []}
