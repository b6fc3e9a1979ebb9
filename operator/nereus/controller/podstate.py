"""What the sidecars say: pulls the state of every running pod, often while a service settles, seldom afterwards.

Beside the reconcile, never in it: a pod that does not answer costs nobody time. A report that says something new
wakes its service. A pod that is stuck before its containers run has no sidecar to ask; its newest warning event is
read instead (`podwarnings`), which names what the pod's own status does not: a volume that cannot be mounted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
from pydantic import TypeAdapter

from nereus.api import names, protocol
from nereus.api.manifests import Manifest
from nereus.api.protocol import ModelReport, PodReport
from nereus.controller.errors import ApiError
from nereus.controller.podwarnings import EVENTS_SECONDS, PodWarnings
from nereus.controller.store import Key

UNSETTLED_SECONDS = 2.0
SETTLED_SECONDS = 60.0
LONGEST_SECONDS = 300.0
LONGEST_UNSETTLED_SECONDS = 15.0
"""Between two questions to a pod that does not answer; somebody waits for one that is to become ready."""
DEADLINE_SECONDS = 2.0
STALE_SECONDS = 180.0
"""A report older than this is dropped: a pod that has not answered for so long is unknown."""
PATIENCE = 3
"""So often a pod that has never been heard may fail to answer before that means anything; takes a few seconds."""
AT_ONCE = 64
ASKS_PER_SECOND = 100.0
WAITED_TRIES = 3
"""Failures of a pod that has never reported and that a service is woken for: somebody may wait, see `unasked`."""
TICK_SECONDS = 0.25
MAX_REPORT_BYTES = 2**20

_REPORT = TypeAdapter(PodReport)
"""Checks every type: what runs in a pod is the user's, and may answer anything."""

log = logging.getLogger(__name__)


@dataclass
class _Watched:
    """A pod that is asked. `address` is empty while it does not run: then its events are read."""

    service: Key
    namespace: str
    address: str
    every: float
    due: float
    busy: bool = False
    failures: int = 0
    report: PodReport | None = None
    reported_at: float = 0.0
    warning: str = ""


@dataclass
class PodStates:
    """The last known state of every pod; `changed` is told which service has news."""

    events: PodWarnings
    changed: Callable[[Key], None]
    session: aiohttp.ClientSession
    clock: Callable[[], float] = time.monotonic
    _pods: dict[str, _Watched] = field(default_factory=dict)
    _of: dict[Key, set[str]] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _unsettled: int = 0
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def watch(self, service: Key, pods: Iterable[Manifest], *, settled: bool) -> None:
        """These are the pods of a service now. While it is not settled they are asked every two seconds."""
        now, seen = self.clock(), set()
        every = SETTLED_SECONDS if settled else UNSETTLED_SECONDS
        for pod in pods:
            uid = str(pod["metadata"].get("uid", ""))
            address = _address(pod)
            if not address and settled:
                continue
            seen.add(uid)
            watched = self._pods.get(uid)
            if watched is None or watched.address != address:
                # A pod that was just created has no events yet, one that just got its address answers soon.
                due = now + (0.0 if address else EVENTS_SECONDS)
                self._pods[uid] = _Watched(service, pod["metadata"]["namespace"], address, every, due)
            elif watched.every != every:
                watched.every = every
                watched.due = min(watched.due, now + every)
        for uid in self._of.get(service, set()) - seen:
            self._pods.pop(uid, None)
        if seen:
            self._of[service] = seen
        else:
            self._of.pop(service, None)

    def forget(self, service: Key) -> None:
        self.watch(service, (), settled=True)

    def reports(self, service: Key) -> dict[str, PodReport]:
        """The last report of each pod by uid, where there is one that is not too old."""
        found = {uid: self._pods[uid].report for uid in self._of.get(service, ())}
        return {uid: report for uid, report in found.items() if report}

    def warnings(self, service: Key) -> dict[str, str]:
        """The newest warning of each stuck pod by uid."""
        found = {uid: self._pods[uid].warning for uid in self._of.get(service, ())}
        return {uid: warning for uid, warning in found.items() if warning}

    def knows(self, service: Key) -> bool:
        """Whether any pod of a service is watched."""
        return service in self._of

    def unasked(self, service: Key, *, tries: int = 1) -> bool:
        """Whether a running pod has never reported and failed to less often than this: its report is a moment away."""
        found = [self._pods[uid] for uid in self._of.get(service, ())]
        return any(pod.address and pod.report is None and not pod.reported_at and pod.failures < tries for pod in found)

    async def run(self) -> None:
        """Ask whoever is due, for ever; who waits longest first, so that nobody waits for ever."""
        while True:
            now = self.clock()
            due = sorted((pod.due, uid) for uid, pod in self._pods.items() if pod.due <= now and not pod.busy)
            self._unsettled = sum(pod.every == UNSETTLED_SECONDS for pod in self._pods.values())
            for _, uid in due:
                await self._slots.acquire()
                pod = self._pods.get(uid)
                if pod is None:  # gone while others were asked
                    self._slots.release()
                    continue
                pod.busy = True
                task = asyncio.create_task(self._ask(uid, pod))
                self._tasks.add(task)
                task.add_done_callback(self._answered)
            await asyncio.sleep(TICK_SECONDS)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()

    async def _ask(self, uid: str, pod: _Watched) -> None:
        before = _meaning(pod)
        try:
            if pod.address:
                pod.report = await self._report(pod.address)
                pod.reported_at = self.clock()
            else:
                pod.warning = await self.events.newest(pod.namespace, uid)
            pod.failures = 0
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, ApiError) as error:
            pod.failures += 1
            if self.clock() - pod.reported_at > STALE_SECONDS:
                pod.report = None
            if pod.failures == PATIENCE and pod.report is None:
                self.changed(pod.service)  # whoever waits for it need not wait longer
            log.debug("pod %s does not answer: %s", uid, error, extra={"service": str(pod.service)})
        finally:
            pod.busy = False
            # Of thousands that start at once, each is asked less often.
            crowded = self._unsettled / ASKS_PER_SECOND if pod.every == UNSETTLED_SECONDS else 0.0
            pause = max(pod.every, crowded) if pod.address else EVENTS_SECONDS
            if pod.failures:
                longest = LONGEST_UNSETTLED_SECONDS if pod.every == UNSETTLED_SECONDS else LONGEST_SECONDS
                pause = min(0.5 * 2 ** min(pod.failures, 10), longest)
            pod.due = self.clock() + pause
        unheard = pod.address and not pod.reported_at and 0 < pod.failures <= WAITED_TRIES
        if (unheard or _meaning(pod) != before) and self._pods.get(uid) is pod:
            # While another pod is yet to be heard for the first time, its answer wakes the service for both.
            tries = WAITED_TRIES if pod.every == SETTLED_SECONDS else 1
            if not self.unasked(pod.service, tries=tries):
                self.changed(pod.service)

    async def _report(self, address: str) -> PodReport:
        url = f"http://{address}:{names.SIDECAR_PORT}{protocol.PATH_STATE}"
        async with asyncio.timeout(DEADLINE_SECONDS), self.session.get(url) as response:
            response.raise_for_status()
            body = bytearray()
            async for chunk in response.content.iter_chunked(2**16):
                body += chunk
                if len(body) > MAX_REPORT_BYTES:
                    raise ValueError(f"the report is larger than {MAX_REPORT_BYTES} bytes")
            return _REPORT.validate_json(bytes(body))


def _address(pod: Mapping[str, Any]) -> str:
    """Where the sidecar answers; empty while no container of the pod runs."""
    status = pod.get("status") or {}
    started = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    running = any("running" in (container.get("state") or {}) for container in started)
    address = str(status.get("podIP") or "") if running else ""
    return f"[{address}]" if ":" in address else address


def _meaning(pod: _Watched) -> object:
    """What a service is woken for: anything but the exact times and sizes of what is under way."""
    report = pod.report
    if report is None:
        return pod.warning
    return replace(report, models=tuple(map(_coarsely, report.models)))


def _coarsely(model: ModelReport) -> ModelReport:
    """A fetch is worth a look at every tenth of it."""
    tenths = int(10 * (model.fetched_bytes or 0) / model.total_bytes) if model.total_bytes else None
    return replace(model, fetched_bytes=tenths)
