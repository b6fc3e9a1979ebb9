"""Warnings of stuck pods: one list a namespace for all of them, the newest of each pod."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from nereus.controller.errors import ApiError
from nereus.controller.gateway import Gateway
from nereus.controller.podwarnings import EVENTS_SECONDS, PodWarnings
from tests.unit.controller.scripted import Seen, scripted


def event(uid: str, second: int, message: str) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{uid}-{second}"},
        "involvedObject": {"kind": "Pod", "uid": uid},
        "lastTimestamp": f"2026-01-01T00:00:{second:02d}Z",
        "reason": "FailedMount",
        "message": message,
    }


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_a_thousand_stuck_pods_cost_one_list_for_each_namespace() -> None:
    asked: list[str] = []

    async def answer(seen: Seen) -> web.Response:
        asked.append(seen.path)
        assert "type=Warning" in seen.query["fieldSelector"]
        items = [event("u1", 9, "new"), event("u1", 1, "old"), event("u2", 5, "other")]
        return web.json_response({"items": items})

    async with scripted(answer) as server:
        gateway, clock = Gateway(server.connection), Clock()
        try:
            warnings = PodWarnings(gateway, clock)
            first = await asyncio.gather(*(warnings.newest("a", f"u{number}") for number in range(1000)))
            assert (first[1], first[2], first[3]) == ("FailedMount: new", "FailedMount: other", "")
            assert len(asked) == 1
            await warnings.newest("b", "u1")
            clock.now += EVENTS_SECONDS
            await warnings.newest("a", "u1")
            assert [path.split("/")[-2] for path in asked] == ["a", "b", "a"]
        finally:
            await gateway.close()


async def test_a_list_that_fails_is_asked_for_again() -> None:
    answers = [web.json_response({"message": "no"}, status=403), web.json_response({"items": [event("u1", 1, "x")]})]

    async def answer(_: Seen) -> web.Response:
        return answers.pop(0)

    async with scripted(answer) as server:
        gateway = Gateway(server.connection)
        try:
            warnings = PodWarnings(gateway, Clock())
            with pytest.raises(ApiError):
                await warnings.newest("a", "u1")
            assert await warnings.newest("a", "u1") == "FailedMount: x"
        finally:
            await gateway.close()
