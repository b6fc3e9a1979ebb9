"""The controller's eyes for GPUs: which nodes have them, and what the GPU agents see; only while a service asks.

Nodes are listed, not watched: a node changes every few minutes for reasons that nobody here cares about, and a list
that is due every ten seconds, stretched so that it takes at most a hundredth of the time, costs less than such a watch.
It needs the right to list nodes and nothing else; without it (a namespaced install) what is named in a spec is taken
at its word. The agents are asked directly over HTTP, found by the name of their headless Service: no Prometheus is
needed, and no right.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import aiohttp
from pydantic import TypeAdapter

from nereus.controller.errors import ApiError, ForbiddenError
from nereus.controller.gateway import Gateway
from nereus.controller.kinds import NODE
from nereus.controller.store import Key
from nereus.gpu import nodes as reading
from nereus.gpu.nodes import NodeGpus
from nereus.gpu.usage import PATH_USAGE, NodeUsage, PodUsage, Usage

NODES_SECONDS = 10.0
NODES_MISSING_SECONDS = 3.0
"""While a service waits for a GPU that no node offers: somebody may be preparing one."""
FORBIDDEN_SECONDS = 300.0
SHARE_OF_TIME = 0.01
LATEST_SECONDS = 30.0
"""A slow API server is spared by looking less often, but a GPU that is gone is told within a minute."""
AGENTS_SECONDS = 10.0
STALE_SECONDS = 60.0
"""An answer older than this is dropped: what an agent said a minute ago may be about another pod."""
DEADLINE_SECONDS = 3.0
AT_ONCE = 32
MAX_ANSWER_BYTES = 2**22
TICK_SECONDS = 0.5

_ANSWER = TypeAdapter(NodeUsage)

log = logging.getLogger(__name__)


@dataclass
class Nodes:
    """The nodes with GPUs, by demand; `changed` is told when they are others than before."""

    gateway: Gateway
    changed: Callable[[], None]
    clock: Callable[[], float] = time.monotonic
    _wanted: set[Key] = field(default_factory=set)
    _missing: set[Key] = field(default_factory=set)
    _known: tuple[NodeGpus, ...] | None = None
    _listed: bool = False
    _due: float = 0.0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def current(self, service: Key) -> tuple[NodeGpus, ...] | None:
        """For a service that has `spec.gpu`; None when nodes may not be read. Raises ApiError."""
        self._wanted.add(service)
        async with self._lock:
            if not self._listed:
                await self._list()
        return self._known

    @property
    def services(self) -> frozenset[Key]:
        """The services that have asked."""
        return frozenset(self._wanted)

    def missing(self, service: Key, *, is_missing: bool) -> None:
        """Whether a service waits for a GPU that no node offers: then the nodes are looked at more often."""
        (self._missing.add if is_missing else self._missing.discard)(service)

    def forget(self, service: Key) -> None:
        self._wanted.discard(service)
        self._missing.discard(service)

    async def run(self) -> None:
        """Look again and again, for ever."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if not self._wanted or not self._listed or self.clock() < self._due:
                continue
            before = self._known
            try:
                async with self._lock:
                    await self._list()
            except ApiError as error:
                log.warning("nodes cannot be listed, what was known stays: %s", error)
                self._due = self.clock() + NODES_SECONDS
            if self._known != before:
                self.changed()

    async def _list(self) -> None:
        began = self.clock()
        try:
            listed = await self.gateway.list_objects(NODE)
            self._known = tuple(sorted(filter(None, map(reading.read, listed)), key=lambda node: node.name))
            pause = NODES_MISSING_SECONDS if self._missing else NODES_SECONDS
        except ForbiddenError as error:
            if not self._listed:
                log.warning("nodes may not be read, gpu.isolation must be named: %s", error)
            self._known, pause = None, FORBIDDEN_SECONDS
        self._listed = True
        spared = min((self.clock() - began) / SHARE_OF_TIME, LATEST_SECONDS)
        self._due = self.clock() + max(pause, spared)


@dataclass
class Agents:
    """What the GPU agents see. `address` is HOST:PORT of their headless Service, empty where there are none;
    `changed` is told of each (namespace, pod) whose meaning changed."""

    address: str
    session: aiohttp.ClientSession
    changed: Callable[[Key], None]
    wanted: Callable[[], bool] = lambda: True
    clock: Callable[[], float] = time.monotonic
    every: float = AGENTS_SECONDS
    _answers: dict[str, tuple[float, NodeUsage]] = field(default_factory=dict)

    def usage(self) -> Usage:
        """The answers that are fresh."""
        now = self.clock()
        fresh = {node: answer for node, (at, answer) in self._answers.items() if now - at <= STALE_SECONDS}
        return Usage(nodes=fresh, asked=bool(self.address))

    async def run(self) -> None:
        """Ask all of them, for ever, while a service wants to know."""
        while True:
            if self.address and self.wanted():
                await self.round()
            await asyncio.sleep(self.every)

    async def round(self) -> None:
        """Ask every agent once."""
        before = _meaning(self.usage())
        host, _, port = self.address.rpartition(":")
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
        except OSError as error:
            log.warning("no GPU agent is found under %s: %s", self.address, error)
            found = []
        gate = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(self._ask(address, gate) for address in sorted({entry[4][:2] for entry in found})))
        after = _meaning(self.usage())
        for pod in {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}:
            self.changed(pod)

    async def _ask(self, address: tuple[object, ...], gate: asyncio.Semaphore) -> None:
        host = f"[{address[0]}]" if ":" in str(address[0]) else address[0]
        try:
            async with (
                gate,
                asyncio.timeout(DEADLINE_SECONDS),
                self.session.get(f"http://{host}:{address[1]}{PATH_USAGE}") as response,
            ):
                response.raise_for_status()
                body = await response.content.read(MAX_ANSWER_BYTES)
                answer = _ANSWER.validate_json(body)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            log.debug("a GPU agent does not answer: %s", error)
            return
        self._answers[answer.node] = (self.clock(), answer)


def _meaning(usage: Usage) -> Mapping[Key, object]:
    """What a service is woken for: another device, limit or trouble, and amounts in tenths of a GiB."""
    found: dict[Key, list[object]] = {}
    for node in usage.nodes.values():
        for pod in node.pods:
            found.setdefault(Key(pod.namespace, pod.pod), []).append(_pod_meaning(pod))
    return found


def _pod_meaning(pod: PodUsage) -> object:
    def tenths(amount: int | None) -> int | None:
        return None if amount is None else round(amount / 2**30 * 10)

    return pod.uid, pod.container, pod.device, pod.limit_bytes, tenths(pod.used_bytes), tenths(pod.peak_bytes)
