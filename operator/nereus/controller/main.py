"""`nereus run`: puts the parts of the controller together, keeps them running, and ends them in order.

Every replica watches, keeps its store warm and answers probes; the holder of the lease works. A part that ends by
itself, or a lost lease, ends the process: the kubelet starts it again, which is simpler to trust than repairing it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
import time
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

import aiohttp
import kopf
from kubernetes.aio.config import ConfigException

import nereus
from nereus.controller import health, logs, statuswriter, watch
from nereus.controller.apply import Applier
from nereus.controller.audit import Auditor
from nereus.controller.connection import Connection, connect
from nereus.controller.errors import ApiError, FencedError, TerminatingError
from nereus.controller.events import EventPoster
from nereus.controller.gateway import Gateway
from nereus.controller.gpuguard import Guard
from nereus.controller.gpus import Agents, Nodes
from nereus.controller.gpuworld import Gpus
from nereus.controller.kinds import (
    AUTOSCALER,
    DEPLOYMENT,
    MODEL_SERVICE,
    POD,
    POD_MONITOR,
    PROMETHEUS_RULE,
    WATCHED,
    Kind,
)
from nereus.controller.leader import Leadership
from nereus.controller.loadedrules import LoadedRules
from nereus.controller.metrics import Metrics, Reading
from nereus.controller.metricsfeed import Feed
from nereus.controller.metricsprocess import MetricsProcess
from nereus.controller.options import Options, parse
from nereus.controller.podstate import PodStates
from nereus.controller.podwarnings import PodWarnings
from nereus.controller.queue import Priority, Queue
from nereus.controller.reconcile import Reconciler
from nereus.controller.refusals import Refusals
from nereus.controller.registration import Place, Registration
from nereus.controller.scaler import Scaler
from nereus.controller.staging import Staging
from nereus.controller.statuswriter import StatusWriter
from nereus.controller.store import Change, Key, Store
from nereus.controller.subjects import Subjects
from nereus.prometheus.client import Client
from nereus.prometheus.reader import Reader
from nereus.workload.settings import absent_strategy

STUCK_SECONDS = 300.0
"""Work or a watch that makes no progress for this long is stuck: alive is answered with no."""
DISCOVERY_SECONDS = 30.0
"""How soon a kind that was installed, or removed, is noticed: three small requests each time."""
LEAVING_SECONDS = 10.0
"""When to look again at a service whose namespace is being deleted: it ought to be gone by then."""
TOLERANCE_SINCE = (1, 35)
"""Kubernetes where `behavior.*.tolerance` of autoscalers is on without a feature gate (beta)."""
GC_THRESHOLDS = (50_000, 20, 20)
"""Python looks for cycles after 700 new objects by default; a list of the API server makes a hundred thousand, without
any."""
SWITCH_SECONDS = 0.001
"""A thread that computes (the scaling tick, answers of Prometheus) lets others go on after 5 ms by default, and the
event loop has to ask for that each time it has waited for something: dozens of times for one service."""
FINISH_SECONDS = 5.0
"""How long work that has begun may take to end after SIGTERM: one write with its deadline."""

log = logging.getLogger(__name__)


def run(argv: Sequence[str]) -> int:
    """The command; returns the exit code."""
    options = parse(argv)
    logs.configure(level=options.log_level, form=options.log_format)
    try:
        gc.set_threshold(*GC_THRESHOLDS)
        sys.setswitchinterval(SWITCH_SECONDS)
        return asyncio.run(_serve(options))
    except ConfigException as error:
        log.error("no way to the API server: %s; run in a pod with a ServiceAccount, or set KUBECONFIG", error)
        return 1


async def _serve(options: Options) -> int:
    connection = await connect()
    log.info("nereus %s at %s", nereus.__version__, connection.server, extra={"lease": options.identity})
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        operator = Operator(options, connection, session)
        try:
            return await operator.run()
        finally:
            await operator.close()


class Operator:
    """The running operator."""

    def __init__(self, options: Options, connection: Connection, session: aiohttp.ClientSession) -> None:
        self._options = options
        self._connection = connection
        self._settings = options.settings
        self.metrics = Metrics()
        self._lease_gateway = Gateway(connection, observe=self.metrics.request)
        self.leadership = Leadership(
            self._lease_gateway, namespace=options.namespace, identity=options.identity, began=self._look_at_all
        )
        self.gateway = Gateway(connection, may_write=lambda: self.leadership.held, observe=self.metrics.request)
        self.store = Store()
        self.queue: Queue[Key] = Queue()
        self.auditor = Auditor(
            self.gateway,
            self.store,
            dropped=lambda key: self.queue.add(key, Priority.PROGRESS),
            namespaces=options.watch_namespaces,
        )
        self.refusals = Refusals()
        self.pods = PodStates(PodWarnings(self.gateway), lambda key: self.queue.add(key, Priority.PROGRESS), session)
        # A connection of its own: a long list of rules keeps no decision waiting.
        self._rules_source = Client(options.prometheus, threads=1) if options.prometheus.address else None
        self.loaded = LoadedRules(self._rules_source, lambda key: self.queue.add(key, Priority.ROUTINE))
        self.statuses = StatusWriter(
            self.gateway, self.store, declared=lambda key: self._wake(key, MODEL_SERVICE, Change.RELEVANT)
        )
        self._reasons_seen: set[str] = set()
        self.nodes = Nodes(self.gateway, self._look_at_gpus)
        self.agents = Agents(options.gpu_agents, session, self._look_at_pod, wanted=lambda: bool(self.nodes.services))
        self.guard = Guard(
            self.gateway,
            self.store,
            self.agents,
            leads=lambda: self.leadership.held,
            told=lambda key: self.queue.add(key, Priority.PROGRESS),
            grace_seconds=options.gpu_evict_after,
        )
        self.subjects = Subjects(self.store, absent_strategy=absent_strategy(self._settings))
        self._reader = Reader(options.prometheus, namespaces=options.watch_namespaces)
        self._feed = Feed()
        self.scaler = Scaler(
            self.subjects, self._reader, wake=self._decided, metrics=self.metrics, decided=self._feed.decided
        )
        self._metrics_process = MetricsProcess(
            self._feed,
            port=options.external_metrics_port,
            leads_until=lambda: self.leadership.held_until,
            decided_until=lambda: self.scaler.decided_until,
        )
        self.store.follow(AUTOSCALER, self._feed.autoscaler)
        self.store.follow(DEPLOYMENT, self._feed.deployment)
        self.applier = Applier(self.gateway, self.store)
        self.reconciler = Reconciler(
            gateway=self.gateway,
            store=self.store,
            applier=self.applier,
            statuses=self.statuses,
            events=EventPoster(self.gateway, count=lambda kind, reason: self.metrics.events.labels(kind, reason).inc()),
            pods=self.pods,
            staging=Staging(self.gateway, self.store, self.pods),
            gpus=Gpus(self.nodes, self.agents, self.guard),
            settings=lambda: self._settings,
            loaded=self.loaded,
            figures=self.metrics.services,
            decision=self.scaler.decision,
        )
        self.metrics.collect(self._gauges)
        self._stop = asyncio.Event()
        self._defined = False

    async def run(self) -> int:
        """Until SIGTERM (returns 0) or until a part ends by itself (returns 1)."""
        self._listen()
        server = await health.serve(
            self.metrics,
            host=self._options.http_host or "0.0.0.0",  # noqa: S104 - the kubelet and Prometheus ask from outside
            port=self._options.http_port,
            alive=self._alive,
            ready=self._ready,
            notes=lambda: str(self.refusals),
        )
        try:
            if not await self._until_defined():
                return 0
            return await self._work()
        finally:
            await server.cleanup()

    async def close(self) -> None:
        self._reader.close()
        if self._rules_source is not None:
            self._rules_source.close()
        await self.gateway.close()
        await self._lease_gateway.close()

    async def _until_defined(self) -> bool:
        """Wait for the ModelService definition and what the cluster knows; False when asked to stop meanwhile."""
        while not self._stop.is_set():
            try:
                self._defined = await self.gateway.serves(MODEL_SERVICE)
                if self._defined:
                    await self._discover()
                    return True
                log.warning("the cluster does not know %s yet; install the chart's definition", MODEL_SERVICE)
            except ApiError as error:
                log.warning("%s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(3):
                    await self._stop.wait()
        return False

    async def _work(self) -> int:
        leading = asyncio.create_task(self._lead(), name="work")
        parts = {
            asyncio.create_task(part, name=name)
            for name, part in {
                "lease": self._campaign(),
                "audit": self.auditor.run(),
                "pod states": self.pods.run(),
                "nodes": self.nodes.run(),
                "GPU agents": self.agents.run(),
                "GPU guard": self.guard.run(),
                "lag": health.measure_lag(self.metrics),
                "discovery": self._discover_again(),
                "loaded rules": self.loaded.run(),
                "scaling": self._scale(),
                **self._external_metrics_parts(),
            }.items()
        }
        tasks = await watch.start(
            self._connection,
            namespaces=self._options.watch_namespaces,
            store=self.store,
            wake=self._wake,
            delivered=lambda kind, relisted: self.auditor.delivered(kind, relisted=relisted),
            listed=self.auditor.listed,
            refusals=self.refusals,
        )
        self._listen()  # again: kopf has taken the signals
        stopped = asyncio.create_task(self._stop.wait(), name="stop")
        watches = asyncio.create_task(kopf.run_tasks(list(tasks), ignored=asyncio.all_tasks()), name="watches")
        # kopf's own tasks are waited for too: when one of them ends, kopf ends every task that it did not know before.
        await asyncio.wait({stopped, leading, *tasks, *parts}, return_when=asyncio.FIRST_COMPLETED)
        asked = self._stop.is_set()
        for task in {leading, *tasks, *parts}:
            if task.done() and not asked:
                log.error("%s ended by itself, the operator stops", task.get_name(), exc_info=_failure(task))
        await self._end(leading, {watches, stopped, *parts})
        return 0 if asked else 1

    async def _scale(self) -> None:
        """Tick once everything was seen: a service without its pods would look idle."""
        await self.auditor.complete.wait()
        await self.scaler.run()

    def _external_metrics_parts(self) -> dict[str, Coroutine[Any, Any, None]]:
        options = self._options
        if not options.external_metrics_port:
            return {}
        place = Place(
            namespace=options.namespace,
            service=options.external_metrics_service,
            config_map=options.external_metrics_config_map,
            identity=options.identity,
        )
        registration = Registration(
            place,
            gateway=self.gateway,
            publisher=self._lease_gateway,
            feed=self._feed,
            owned=self._external_metrics,
        )
        return {"external metrics": registration.run(), "process of external metrics": self._metrics_process.run()}

    def _external_metrics(self, ours: bool) -> None:
        if ours != self._settings.external_metrics:
            self._settings = replace(self._settings, external_metrics=ours)
            log.info("autoscalers %s external metrics from here", "read" if ours else "read no")
            self._look_at_all()

    def _decided(self, key: Key, after: float) -> None:
        if self.leadership.acquired.is_set():
            self.queue.add(key, Priority.ROUTINE if after else Priority.CHANGE, after=after)

    async def _campaign(self) -> None:
        """Ask for the lease once everything was seen: a replica that knows nothing yet would only hold up another."""
        await self.auditor.complete.wait()
        await self.leadership.run()

    async def _lead(self) -> None:
        """Work, from the moment on when the lease is ours."""
        await self.leadership.acquired.wait()
        self._look_at_all()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._options.workers):
                group.create_task(self._worker())

    async def _worker(self) -> None:
        while (key := await self.queue.take()) is not None:
            began = time.monotonic()
            word, again = "failed", None
            try:
                outcome = await self.reconciler.reconcile(key)
                word, again = outcome.word, outcome.again
            except FencedError:
                word = "fenced"  # with the lease, everything is looked at again
            except TerminatingError:
                word, again = "leaving", LEAVING_SECONDS
            except ApiError as error:
                log.warning("%s; trying again", error, extra={"service": str(key)})
            except Exception:
                # One service that trips us up must not keep the others from being looked at.
                log.exception("unexpected, trying again", extra={"service": str(key)})
            self.queue.done(key, failed=word == "failed")
            self.subjects.touched(key)  # what we wrote ourselves is no event
            if again is not None:
                self.queue.add(key, Priority.ROUTINE, after=again)
            if word == "gone":
                self.queue.forget(key)
            self.metrics.reconciles.labels(word).observe(time.monotonic() - began)

    async def _end(self, leading: asyncio.Task[None], rest: set[asyncio.Task[Any]]) -> None:
        """Let work that has begun end, give the lease back, then stop the rest."""
        began = time.monotonic()
        self.queue.close()
        if self.leadership.held:
            await asyncio.wait({leading}, timeout=FINISH_SECONDS)
        await _cancel({leading})
        await self.leadership.stop()
        await _cancel(rest)
        log.info("stopped after %.1f s", time.monotonic() - began)

    def _wake(self, service: Key, kind: Kind, change: Change) -> None:
        self.subjects.touched(service)
        if not self.leadership.acquired.is_set():
            return  # whoever takes over looks at everything
        if change is Change.FIGURES:
            self.queue.add(service, Priority.ROUTINE, after=statuswriter.FIGURES_SECONDS)
        else:
            self.queue.add(service, Priority.CHANGE if kind is MODEL_SERVICE else Priority.PROGRESS)

    async def _discover(self) -> None:
        """Whether the cluster knows the kinds of prometheus-operator may change while we run: somebody installs it."""
        known = replace(
            self._settings,
            pod_monitor=await self.gateway.serves(POD_MONITOR),
            prometheus_rule=await self.gateway.serves(PROMETHEUS_RULE),
            hpa_tolerance=await self.gateway.version() >= TOLERANCE_SINCE,
        )
        if known != self._settings:
            self._settings = known
            self.applier.forget_unwatched()
            log.info("PodMonitor is known: %s, PrometheusRule: %s", known.pod_monitor, known.prometheus_rule)
            self._look_at_all()

    def _look_at_all(self) -> None:
        for key in self.store.services():
            self.queue.add(key, Priority.ROUTINE)

    def _look_at_gpus(self) -> None:
        for key in self.nodes.services:
            self.queue.add(key, Priority.PROGRESS)

    def _look_at_pod(self, pod: Key) -> None:
        owner = self.store.owner(POD, pod)
        if owner is not None and owner in self.nodes.services:
            self.queue.add(owner, Priority.ROUTINE)

    async def _discover_again(self) -> None:
        while True:
            await asyncio.sleep(DISCOVERY_SECONDS)
            try:
                await self._discover()
            except ApiError as error:
                log.warning("%s", error)

    def _alive(self) -> str:
        stale = self.auditor.stale(STUCK_SECONDS, refused=self.refusals.seconds())
        working = self.queue.longest_working_seconds()
        silent = self._metrics_process.silent_seconds()
        if stale:
            return f"the watch shows nothing new: {stale}"
        if working > STUCK_SECONDS:
            return f"work hangs for {working:.0f} s"
        if silent > STUCK_SECONDS:
            return f"the External Metrics API is not served for {silent:.0f} s"
        return ""

    def _ready(self) -> str:
        if not self._defined:
            return "the cluster does not know ModelServices yet"
        if missing := self.refusals.missing(MODEL_SERVICE):
            return missing
        return "" if self.auditor.complete.is_set() else "the first lists are not in yet"

    def _gauges(self) -> Mapping[str, Reading]:
        return {
            "leader": ("1 when this replica holds the lease.", "", {"": float(self.leadership.held)}),
            "queue_depth": ("Services that wait to be looked at.", "", {"": float(self.queue.depth)}),
            "queue_oldest_seconds": (
                "How long the first of them waits.",
                "",
                {"": self.queue.oldest_waiting_seconds()},
            ),
            "working_seconds": (
                "How long the longest look takes so far.",
                "",
                {"": self.queue.longest_working_seconds()},
            ),
            "watch_age_seconds": ("Since the watch of a kind showed anything.", "kind", self.auditor.ages()),
            "watch_refused_seconds": (
                "Since the API server refuses to list or watch a kind; 0 when it does not.",
                "kind",
                {kind.kind: self.refusals.seconds().get(kind, 0.0) for kind in WATCHED},
            ),
            "objects": ("Objects known, by kind.", "kind", self.store.counts()),
            "scaling_services": ("Services decided for, by the state of their metrics.", "state", self.scaler.states),
            "scaling_tick_age_seconds": (
                "Since the last scaling tick ended.",
                "",
                {"": self.scaler.tick_age_seconds()},
            ),
            "scaling_history_share": ("Share of the past that was read back.", "", {"": self.scaler.history_share}),
            "services": ("ModelServices by the reason of Ready.", "reason", self._by_reason()),
        }

    def _by_reason(self) -> Mapping[str, int]:
        """A reason that was seen and is gone is 0: a curve that only ends looks like one that stays where it was."""
        now = Counter(self.statuses.reasons.values())
        self._reasons_seen |= now.keys()
        return {reason: now[reason] for reason in self._reasons_seen}

    def _listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)


def _failure(task: asyncio.Task[Any]) -> BaseException | None:
    return None if task.cancelled() else task.exception()


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=2)
