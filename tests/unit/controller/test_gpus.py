"""The controller's eyes for GPUs: nodes by demand and with or without the right, agents by name, and the guard."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from nereus.api import names
from nereus.controller.errors import ApiError, FencedError, ForbiddenError, UnavailableError
from nereus.controller.gateway import Gateway
from nereus.controller.gpuguard import Guard
from nereus.controller.gpus import Agents, Nodes
from nereus.controller.kinds import POD
from nereus.controller.store import Key, Store
from nereus.gpu.ask import GIB
from nereus.gpu.eviction import COOL_DOWN_SECONDS, GRACE_SECONDS
from nereus.gpu.usage import PATH_USAGE, NodeUsage, PodUsage, Usage
from tests.unit.gpu.nodes import manifest

SERVICE = Key("demo", "svc")
NODE = manifest("a", allocatable={"nvidia.com/gpu": 2}, product="NVIDIA-L4", memory="23034", sharing="none")


class Server:
    """An API server that lists nodes and takes evictions, as told."""

    def __init__(self) -> None:
        self.nodes = [NODE, {"metadata": {"name": "no-gpu"}, "status": {"allocatable": {"cpu": "1"}}}]
        self.error: ApiError | None = None
        self.lists = 0
        self.evicted: list[tuple[str, str, str]] = []

    async def list_objects(self, *_: Any, **__: Any) -> list[Any]:
        self.lists += 1
        if self.error:
            raise self.error
        return self.nodes

    async def evict(self, namespace: str, name: str, *, uid: str) -> None:
        if self.error:
            raise self.error
        self.evicted.append((namespace, name, uid))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def nodes(server: Server, clock: Clock, changed: list[str]) -> Nodes:
    return Nodes(cast(Gateway, server), lambda: changed.append("changed"), clock)


async def until(holds: Any) -> None:
    for _ in range(600):
        if holds():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come to hold")


async def test_nodes_are_listed_only_when_a_service_asks_and_those_without_a_gpu_are_left_out() -> None:
    server, changed = Server(), list[str]()
    seen = nodes(server, Clock(), changed)
    assert server.lists == 0
    found = await seen.current(SERVICE)
    assert found is not None
    assert [node.name for node in found] == ["a"]
    await seen.current(Key("demo", "other"))
    assert server.lists == 1


async def test_without_the_right_nobody_looks_and_nothing_fails() -> None:
    server = Server()
    server.error = ForbiddenError("nodes is forbidden", status=403)
    assert await nodes(server, Clock(), []).current(SERVICE) is None


async def test_an_api_server_in_trouble_is_an_error_at_first_and_later_what_was_known_stays() -> None:
    server, clock, changed = Server(), Clock(), list[str]()
    seen = nodes(server, clock, changed)
    server.error = UnavailableError("no answer")
    with pytest.raises(UnavailableError):
        await seen.current(SERVICE)
    server.error = None
    assert await seen.current(SERVICE)
    server.error = UnavailableError("no answer")
    task = asyncio.create_task(seen.run())
    clock.now += 3600
    before = server.lists
    await until(lambda: server.lists > before)
    assert await seen.current(SERVICE), "what was known stays"
    server.error, server.nodes = None, []
    clock.now += 3600
    await until(lambda: changed == ["changed"])
    assert await seen.current(SERVICE) == ()
    task.cancel()


async def _agent(answer: str) -> TestServer:
    async def say(_: web.Request) -> web.Response:
        return web.Response(text=answer)

    application = web.Application()
    application.router.add_get(PATH_USAGE, say)
    server = TestServer(application)
    await server.start_server()
    return server


def usage(used: float, *, uid: str = "u1", node: str = "a") -> NodeUsage:
    pod = PodUsage(uid=uid, namespace="demo", pod="svc-1", container="triton", used_bytes=int(used * GIB))
    return NodeUsage(node=node, pods=(pod,))


async def test_agents_are_found_by_name_and_what_they_say_wakes_the_pod_it_is_about() -> None:
    server, changed, clock = await _agent(usage(2).to_json()), list[Key](), Clock()
    async with aiohttp.ClientSession() as session:
        agents = Agents(f"{server.host}:{server.port}", session, changed.append, clock=clock)
        await agents.round()
        await agents.round()
        assert agents.usage().on("a") == usage(2)
        assert changed == [Key("demo", "svc-1")], "what says nothing new wakes nobody"
        clock.now += 61
        assert agents.usage() == Usage(asked=True), "an old answer is none"
    await server.close()


@pytest.mark.parametrize(
    "answer", ["", "{}", "[1]", '{"node": 3}', '{"node": "a", "pods": [{"uid": "x", "used_bytes": "lots"}]}']
)
async def test_an_agent_that_talks_nonsense_is_no_agent(answer: str) -> None:
    server = await _agent(answer)
    async with aiohttp.ClientSession() as session:
        agents = Agents(f"{server.host}:{server.port}", session, lambda _: None)
        await agents.round()
        assert agents.usage().nodes == {}
    await server.close()


async def test_without_agents_nobody_is_asked_and_a_name_that_does_not_resolve_is_no_error() -> None:
    async with aiohttp.ClientSession() as session:
        assert Agents("", session, lambda _: None).usage().asked is False
        lost = Agents("no-such-host.invalid:9410", session, lambda _: None)
        await lost.round()
        assert lost.usage() == Usage(asked=True)


class _Seen:
    """Agents that have said this."""

    def __init__(self) -> None:
        self.said = Usage(asked=True)

    def usage(self) -> Usage:
        return self.said


def guarded(server: Server, clock: Clock, *, leads: bool = True) -> tuple[Guard, _Seen, list[Key]]:
    store, seen, told = Store(), _Seen(), list[Key]()
    metadata = {"name": "svc-1", "namespace": "demo", "uid": "u1", "resourceVersion": "1"}
    labels = {names.LABEL_SERVICE: "svc", names.LABEL_MANAGED_BY: names.MANAGED_BY}
    store.put({"apiVersion": "v1", "kind": POD.kind, "metadata": {**metadata, "labels": labels}})
    guard = Guard(cast(Gateway, server), store, cast(Agents, seen), leads=lambda: leads, told=told.append, clock=clock)
    guard.watch(SERVICE, 8 * GIB)
    return guard, seen, told


async def look(guard: Guard) -> None:
    for service, entry in list(guard._guarded.items()):
        await guard.look(service, entry)


async def test_a_pod_above_its_limit_goes_after_the_grace_and_that_is_told() -> None:
    server, clock = Server(), Clock()
    guard, seen, told = guarded(server, clock)
    seen.said = Usage(nodes={"a": usage(9)}, asked=True)
    await look(guard)
    clock.now += GRACE_SECONDS - 1
    await look(guard)
    assert server.evicted == []
    clock.now += 1
    await look(guard)
    await look(guard)
    assert server.evicted == [("demo", "svc-1", "u1")]
    assert told == [SERVICE]
    assert "was evicted: it stayed above 8Gi" in guard.said(SERVICE)
    clock.now += 2 * COOL_DOWN_SECONDS
    assert guard.said(SERVICE) == "", "old news is none"


async def test_a_budget_that_forbids_it_is_told_and_tried_again_after_the_grace() -> None:
    server, clock = Server(), Clock()
    guard, seen, _ = guarded(server, clock)
    seen.said = Usage(nodes={"a": usage(9)}, asked=True)
    server.error = UnavailableError("it would violate the pod's disruption budget", status=429)
    await look(guard)
    clock.now += GRACE_SECONDS
    await look(guard)
    assert "was not evicted: it would violate" in guard.said(SERVICE)
    server.error = None
    clock.now += GRACE_SECONDS
    await look(guard)
    assert server.evicted


async def test_who_lost_the_lease_evicts_nobody_and_a_service_that_does_not_ask_is_not_watched() -> None:
    server, clock = Server(), Clock()
    guard, seen, _ = guarded(server, clock)
    seen.said = Usage(nodes={"a": usage(9)}, asked=True)
    server.error = FencedError("not sent")
    await look(guard)
    clock.now += GRACE_SECONDS
    await look(guard)
    assert guard.said(SERVICE) == ""
    guard.watch(SERVICE, None)
    assert guard._guarded == {}
