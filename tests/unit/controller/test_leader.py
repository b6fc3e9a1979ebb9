"""Who may write: the lease between replicas, on clocks that a test moves and a store that keeps resource versions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from nereus.controller import leader as leader_module
from nereus.controller.gateway import Gateway
from nereus.controller.leader import LEASE_SECONDS, RENEW_DEADLINE, Leadership
from tests.unit.controller.scripted import Scripted, Seen, refusal, scripted, until


class Leases:
    """One Lease with the API server's rule: a write with an old resource version is refused."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.broken = False
        self.version = 0
        self.looks = 0

    async def answer(self, seen: Seen) -> web.Response:
        if self.broken:
            return refusal(403, "Forbidden", "broken")
        if seen.method == "GET":
            self.looks += 1
            return web.json_response(self.lease) if self.lease else refusal(404, "NotFound", "no lease")
        known = (self.lease or {}).get("metadata", {}).get("resourceVersion")
        if (seen.method == "POST") == (self.lease is not None) or (
            seen.method == "PUT" and seen.body["metadata"].get("resourceVersion") != known
        ):
            return refusal(409, "Conflict", "somebody was faster")
        self.version += 1
        self.lease = {**seen.body, "metadata": {**seen.body["metadata"], "resourceVersion": str(self.version)}}
        return web.json_response(self.lease)

    @property
    def holder(self) -> str:
        return str(self.lease["spec"]["holderIdentity"]) if self.lease else ""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def replicas(server: Scripted, *clocks: Clock) -> AsyncIterator[list[Leadership]]:
    gateways = [Gateway(server.connection) for _ in clocks]
    try:
        yield [
            Leadership(gateway, namespace="ns", identity=f"r{number}", clock=clock)
            for number, (gateway, clock) in enumerate(zip(gateways, clocks, strict=True))
        ]
    finally:
        for gateway in gateways:
            await gateway.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader_module, "RETRY_SECONDS", 0.01)


async def test_one_of_two_replicas_leads() -> None:
    leases = Leases()
    async with scripted(leases.answer) as server, replicas(server, Clock(), Clock()) as (first, second):
        runs = [asyncio.create_task(item.run()) for item in (first, second)]
        await until("a leader", lambda: first.held or second.held)
        await asyncio.sleep(0.1)
        assert first.held != second.held
        for item in (first, second):
            await item.stop()
        await asyncio.gather(*runs)


async def test_a_lease_given_back_is_taken_at_once() -> None:
    leases = Leases()
    async with scripted(leases.answer) as server, replicas(server, Clock(), Clock()) as (first, second):
        run = asyncio.create_task(first.run())
        await until("first leads", lambda: first.held)
        other = asyncio.create_task(second.run())
        await asyncio.sleep(0.05)
        assert not second.held
        await first.stop()
        await run
        assert not first.held
        # The clock of the second stands still: it did not wait for the lease to run out.
        await until("second leads", lambda: second.held)
        await second.stop()
        await other


async def test_a_dead_holder_is_replaced_only_after_the_lease_was_seen_unchanged_for_its_whole_time() -> None:
    leases = Leases()
    clock = Clock()
    async with scripted(leases.answer) as server, replicas(server, Clock(), clock) as (dead, second):
        run = asyncio.create_task(dead.run())
        await until("first leads", lambda: dead.held)
        run.cancel()
        looks = leases.looks
        other = asyncio.create_task(second.run())
        await until("the second has seen the lease", lambda: leases.looks >= looks + 3)
        clock.now += LEASE_SECONDS - 0.5
        await asyncio.sleep(0.1)
        assert not second.held, "took over too early"
        clock.now += 1
        await until("second leads", lambda: second.held)
        assert leases.lease is not None
        assert leases.lease["spec"]["leaseTransitions"] == 1
        await second.stop()
        await other


async def test_a_holder_that_cannot_renew_stops_writing_before_anybody_can_take_over_and_goes_on_when_nobody_did() -> (
    None
):
    leases = Leases()
    clock = Clock()
    began: list[str] = []
    async with scripted(leases.answer) as server, replicas(server, clock) as (first,):
        first._began = lambda: began.append("again" if began else "first")
        run = asyncio.create_task(first.run())
        await until("leads", lambda: first.held)
        leases.broken = True
        clock.now += RENEW_DEADLINE - 0.5
        held, until_when = [first.held], first.held_until
        clock.now += 1
        held.append(first.held)
        assert held == [True, False], "the deadline counts, not whether anybody noticed"
        assert clock.now - 1 < until_when < clock.now, "who is told until when knows it, too"
        assert first.held_until == 0
        await asyncio.sleep(0.1)
        assert not first.lost.is_set()
        leases.broken = False
        await until("leads again", lambda: first.held)
        assert began == ["first", "again"]
        await first.stop()
        await run
    assert RENEW_DEADLINE < LEASE_SECONDS


async def test_a_holder_that_slept_finds_another_one_and_never_writes_again() -> None:
    leases = Leases()
    async with scripted(leases.answer) as server, replicas(server, Clock()) as (first,):
        run = asyncio.create_task(first.run())
        await until("first leads", lambda: first.held)
        assert leases.lease is not None
        # Somebody else took the lease over while the first one's clock (and process) stood still.
        leases.version += 1
        leases.lease = {
            **leases.lease,
            "metadata": {**leases.lease["metadata"], "resourceVersion": str(leases.version)},
            "spec": {**leases.lease["spec"], "holderIdentity": "another"},
        }
        async with asyncio.timeout(5):
            await run
        assert first.lost.is_set()
        assert not first.held
        assert leases.holder == "another"
        await first.stop()
        assert leases.holder == "another", "gave back what was not its own"


async def test_a_lease_deleted_by_somebody_is_made_again() -> None:
    leases = Leases()
    async with scripted(leases.answer) as server, replicas(server, Clock()) as (first,):
        run = asyncio.create_task(first.run())
        await until("leads", lambda: first.held)
        leases.lease = None
        await until("made again", lambda: leases.holder == "r0")
        assert first.held
        await first.stop()
        await run
        assert leases.holder == ""
