"""Asking the sidecars: real HTTP on loopback, answers good, late, wrong and hostile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from nereus.api import names
from nereus.api.protocol import ModelReport, ModelState, PodReport
from nereus.controller import podstate as podstate_module
from nereus.controller import podwarnings as podwarnings_module
from nereus.controller.gateway import Gateway
from nereus.controller.podstate import PodStates
from nereus.controller.podwarnings import PodWarnings
from nereus.controller.store import Key
from tests.unit.controller.scripted import Seen, scripted, until

KEY = Key("ns", "svc")
READY = PodReport(
    revision="r1",
    ready=True,
    models=(ModelReport(name="m", state=ModelState.READY, serving=True, versions=("1",)),),
)


def pod(uid: str = "u1", *, running: bool = True, address: str = "127.0.0.1") -> dict[str, Any]:
    state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}} if running else {"waiting": {}}
    return {
        "metadata": {"name": uid, "namespace": "ns", "uid": uid},
        "status": {"podIP": address, "initContainerStatuses": [{"name": "sidecar", "state": state}]},
    }


class Sidecar:
    """Answers /v1/state with whatever a test puts here."""

    def __init__(self) -> None:
        self.body: str | bytes = READY.to_json()
        self.status = 200
        self.asked = 0
        self.events: list[dict[str, Any]] = []

    async def answer(self, seen: Seen) -> web.Response:
        if seen.path.endswith("/events"):
            return web.json_response({"items": self.events})
        self.asked += 1
        body = self.body.encode() if isinstance(self.body, str) else self.body
        return web.Response(status=self.status, body=body)


@asynccontextmanager
async def asking(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[PodStates, Sidecar, list[Key]]]:
    sidecar, woken = Sidecar(), list[Key]()
    async with scripted(sidecar.answer) as server, aiohttp.ClientSession() as session:
        monkeypatch.setattr(names, "SIDECAR_PORT", server.port)
        monkeypatch.setattr(podstate_module, "TICK_SECONDS", 0.005)
        monkeypatch.setattr(podstate_module, "UNSETTLED_SECONDS", 0.02)
        monkeypatch.setattr(podstate_module, "EVENTS_SECONDS", 0.02)
        monkeypatch.setattr(podwarnings_module, "EVENTS_SECONDS", 0.02)
        gateway = Gateway(server.connection)
        states = PodStates(PodWarnings(gateway), woken.append, session)
        running = asyncio.create_task(states.run())
        try:
            yield states, sidecar, woken
        finally:
            running.cancel()
            await asyncio.wait({running})
            await gateway.close()


async def test_a_running_pod_is_asked_and_its_service_is_woken_by_news_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(monkeypatch) as (states, sidecar, woken):
        states.watch(KEY, [pod()], settled=False)
        assert states.unasked(KEY)
        await until("a report", lambda: states.reports(KEY) == {"u1": READY})
        assert not states.unasked(KEY)
        await until("asked again", lambda: sidecar.asked > 3)
        assert woken == [KEY], "the same report is no news"
        sidecar.body = PodReport(revision="r2").to_json()
        await until("news", lambda: woken == [KEY, KEY])
        assert states.reports(KEY)["u1"].revision == "r2"


async def test_a_pod_that_runs_no_container_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(monkeypatch) as (states, sidecar, _):
        states.watch(KEY, [pod(running=False)], settled=False)
        await asyncio.sleep(0.1)
        assert sidecar.asked == 0
        assert not states.unasked(KEY)


async def test_a_pod_that_is_stuck_before_it_runs_has_its_newest_warning_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(monkeypatch) as (states, sidecar, woken):
        sidecar.events = [
            {
                "metadata": {"name": "b"},
                "involvedObject": {"uid": "u1"},
                "lastTimestamp": "2026-01-01T00:00:09Z",
                "reason": "FailedMount",
                "message": "x",
            },
            {
                "metadata": {"name": "a"},
                "involvedObject": {"uid": "u1"},
                "lastTimestamp": "2026-01-01T00:00:01Z",
                "reason": "Old",
                "message": "y",
            },
        ]
        states.watch(KEY, [pod(running=False)], settled=False)
        await until("a warning", lambda: states.warnings(KEY) == {"u1": "FailedMount: x"})
        assert woken == [KEY]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "[]",
        "{",
        "null",
        '{"protocol": 1, "models": 5}',
        '{"protocol": 1, "models": [{"name": {}, "state": "Ready"}]}',
        '{"protocol": 1, "models": [{"name": "m", "state": "Dreaming"}]}',
        '{"protocol": 1, "ready_at": "soon"}',
        json.dumps({"protocol": 1, "revision": "x" * (podstate_module.MAX_REPORT_BYTES + 1)}),
        b"\xff\xfe",
    ],
)
async def test_an_answer_that_is_no_report_is_as_good_as_none(
    monkeypatch: pytest.MonkeyPatch, answer: str | bytes
) -> None:
    async with asking(monkeypatch) as (states, sidecar, _):
        sidecar.body = answer
        states.watch(KEY, [pod()], settled=False)
        monkeypatch.setattr(podstate_module, "PATIENCE", 1)
        await until("asked", lambda: sidecar.asked and not states.unasked(KEY))
        assert states.reports(KEY) == {}


async def test_a_newer_sidecar_may_say_more_than_we_know(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(monkeypatch) as (states, sidecar, _):
        sidecar.body = json.dumps({**json.loads(READY.to_json()), "temperature": 40, "protocol": 2})
        states.watch(KEY, [pod()], settled=False)
        await until("a report", lambda: states.reports(KEY))
        assert states.reports(KEY)["u1"].revision == "r1"


async def test_the_last_report_stands_while_a_pod_fails_to_answer_and_is_dropped_when_it_is_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with asking(monkeypatch) as (states, sidecar, woken):
        states.watch(KEY, [pod()], settled=False)
        await until("a report", lambda: states.reports(KEY))
        sidecar.status = 500
        asked = sidecar.asked
        await until("asked again", lambda: sidecar.asked > asked)
        assert states.reports(KEY) == {"u1": READY}
        monkeypatch.setattr(podstate_module, "STALE_SECONDS", 0.0)
        await until("dropped", lambda: states.reports(KEY) == {})
        assert woken == [KEY, KEY]


async def test_pods_that_are_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(monkeypatch) as (states, sidecar, _):
        states.watch(KEY, [pod("u1"), pod("u2")], settled=False)
        await until("both", lambda: len(states.reports(KEY)) == 2)
        states.watch(KEY, [pod("u2")], settled=False)
        assert set(states.reports(KEY)) == {"u2"}
        states.forget(KEY)
        assert states.reports(KEY) == {}
        asked = sidecar.asked
        await asyncio.sleep(0.1)
        assert sidecar.asked <= asked + 1


async def test_the_first_answers_of_the_pods_of_a_service_wake_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(monkeypatch) as (states, sidecar, woken):
        monkeypatch.setattr(podstate_module, "AT_ONCE", 1)
        states.watch(KEY, [pod(f"u{number}") for number in range(5)], settled=True)
        await until("five reports", lambda: len(states.reports(KEY)) == 5)
        await until("woken", lambda: bool(woken))
        assert woken == [KEY]
        assert sidecar.asked == 5
