"""How the operator does with thousands of services: on a real API server, with pods on KWOK nodes.

It measures, in this order: creating the fleet, an idle minute, a restart while a hundredth of the children were
changed on purpose, the way from a changed spec to the applied Deployment on an idle fleet, that of a changed model
configuration to the pods, the first again while many services change each second, and (when asked for) memory over a
longer time of changes. The operator runs as in a pod, as a process of its own; API server, etcd, controllers, KWOK and
this load share the machine with it, so the load average stands beside the numbers. JSON goes to build/bench/.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bench import kedafleet, ticking
from bench.figures import Measured, looked, queue, ready, say, shares
from bench.fleet import AT_ONCE, Fleet, Name
from bench.soak import soak
from bench.staged import configuration
from localcluster.config import find_cluster
from nereus.api import names
from nereus.controller.connection import connect
from nereus.controller.gateway import Gateway
from nereus.controller.kinds import DEPLOYMENT
from tests.harness.operator import Operator

ROOT = Path(__file__).resolve().parent.parent
CLUSTER = "nereus-scale"
PODS_PER_NODE = 400
HPA_SYNC = "300s"
"""There is no metrics API here: each evaluation ends in two events that say so, which a real cluster does not have. At
the default of 15 s they were the larger part of what the API server did on an idle fleet."""
PROBE_SECONDS = 1.0
"""Between two measured changes: each replaces pods, so that more at once would measure the API server's own work."""
SAY_SECONDS = 5.0
POLL_SECONDS = 0.5
OPERATOR_NAMESPACE = "default"
DAMAGED_SHARE = 0.01
LATE_SECONDS = 60.0
STEPS = ("create", "idle", "restart", "latency", "configuration", "churn", "soak", "tick", "keda")


class Bench:
    """One fleet, one operator at a time, and what was measured."""

    def __init__(
        self,
        fleet: Fleet,
        kubeconfig: Path,
        log: Path,
        *,
        profile: Path | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """With `profile`, each operator is slower and leaves what cProfile saw in a numbered file in there.
        `variables` is what each is told beyond the usual."""
        self._variables = variables
        self.fleet = fleet
        self._profile = profile
        self._started = 0
        self.results: dict[str, Any] = {}
        self._kubeconfig = kubeconfig
        self._log = log
        self._operator: Operator | None = None
        self.changed = 0

    @property
    def operator(self) -> Operator:
        assert self._operator is not None, "the operator was not started"
        return self._operator

    def start(self) -> None:
        self._started += 1
        self._operator = Operator(
            self._kubeconfig,
            lease_namespace=OPERATOR_NAMESPACE,
            identity=f"bench-{time.time():.0f}",
            log=self._log,
            profile=self._profile / f"operator-{self._started}.prof" if self._profile else None,
            variables=self._variables,
        )

    def stop(self) -> None:
        if self._operator is not None and self._profile is not None:
            self._operator.terminate()
        elif self._operator is not None:
            self._operator.kill()

    async def create(self) -> None:
        """From the first service to all of them Ready, pods included."""
        services = self.fleet.services()
        async with self.measured("create") as result:
            await self.until("operator ready", lambda _: self.operator.probe("readyz")[0] == 200)
            began = time.monotonic()
            making = asyncio.create_task(self.fleet.make(services))
            await self.until("all Ready", lambda seen: ready(seen) >= len(services), limit=60 + 1.5 * len(services))
            await making
            result["seconds"] = round(time.monotonic() - began, 1)
            result["services_per_second"] = round(len(services) / result["seconds"], 1)
        assert not (left := await self.fleet.unsettled()), f"not Ready: {left[:5]}"

    async def idle(self, seconds: float) -> None:
        """Nothing is changed by anybody but the cluster's own controllers."""
        await self.settle()
        async with self.measured("idle"):
            await asyncio.sleep(seconds)

    async def restart(self) -> None:
        """Ended, a hundredth of the children changed, started: exactly those are to be written."""
        await self.settle()
        self.operator.terminate()
        count = max(7, round(self.fleet.count * DAMAGED_SHARE * 6))
        chosen = self.fleet.services()[:: max(1, self.fleet.count // count)][:count]
        before = await self.fleet.written()
        counts = await self.fleet.damage(chosen)
        say(f"changed on purpose: {counts}")
        began = time.monotonic()
        self.start()
        async with self.measured("restart") as result:
            await self.until("ready", lambda _: self.operator.probe("readyz")[0] == 200, limit=300)
            result["ready_seconds"] = round(time.monotonic() - began, 1)
            await self.until("all looked at", lambda seen: looked(seen) >= self.fleet.count, limit=600)
            result["verified_seconds"] = round(time.monotonic() - began, 1)
        after = await self.fleet.written()
        written = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        result["children"] = len(before)
        result["changed_on_purpose"] = sum(counts.values())
        result["children_written"] = len(written)
        result["children_gone"] = len(before.keys() - after.keys())
        result["applied"] = {
            series: count for series, count in self.operator.writes().items() if 'verb="status"' not in series
        }

    async def latency(self, name: str, *, changes: int, per_second: float) -> None:
        """From sending a changed spec to seeing the Deployment applied; meanwhile `per_second` other services change
        (a value that reaches their Service object and no pod)."""
        await self.settle()
        services = self.fleet.services()
        probed = services[:: max(1, len(services) // changes)][:changes]
        before = {service: await self.fleet.applied_digest(service) for service in probed}
        applied: dict[Name, float] = {}
        sent: dict[Name, float] = {}
        watching = asyncio.create_task(self._watch(applied, before))
        churn = asyncio.create_task(self.churn(services, per_second, exclude=frozenset(probed)))
        async with self.measured(name) as result:
            await asyncio.sleep(1)  # the watch is open before the first change
            stamp = f"{name}-{time.time():.0f}"
            for service in probed:
                sent[service] = time.monotonic()
                await self.fleet.apply(service, pod_annotation=stamp)
                await asyncio.sleep(PROBE_SECONDS)
            await self.until("all applied", lambda _: len(applied) == len(sent), limit=LATE_SECONDS, or_go_on=True)
            for task in (churn, watching):
                if task.done() and (error := task.exception()):
                    raise error
                task.cancel()
            taken = [applied.get(key, sent[key] + LATE_SECONDS) - sent[key] for key in probed]
            result["changes_seen"] = len(applied)
            result["changes_sent"] = len(sent)
            result.update(shares("", taken))
        result["other_changes_per_second"] = round(self.changed / result["wall_seconds"], 1)

    async def settle(self) -> None:
        """Until nothing waits to be looked at and every service is Ready."""
        await self.until(
            "settled",
            lambda seen: queue(seen) == 0 and ready(seen) >= self.fleet.count,
            limit=600,
        )

    async def until(
        self, what: str, look: Callable[[dict[str, float]], bool], *, limit: float = 120.0, or_go_on: bool = False
    ) -> None:
        """Wait for a condition on the operator's metrics; says how far it is."""
        began = said = time.monotonic()
        while True:
            seen = await asyncio.to_thread(self.seen)
            if await asyncio.to_thread(look, seen):
                return
            far = f"{looked(seen):.0f} looks, {ready(seen):.0f} Ready, queue {queue(seen):.0f}"
            now = time.monotonic()
            if now - began > limit and or_go_on:
                say(f"{what}: not within {limit:.0f} s")
                return
            if now - began > limit:
                raise SystemExit(f"{what}: not within {limit:.0f} s; {far}; log: {self._log}")
            if now - said > SAY_SECONDS:
                said = now
                say(f"waiting for: {what} ({now - began:.0f} s; {far})")
            await asyncio.sleep(POLL_SECONDS)

    def seen(self) -> dict[str, float]:
        """The operator's metrics; empty while it does not answer."""
        return self.operator.series() if self.operator.probe("healthz")[0] else {}

    async def _watch(self, applied: dict[Name, float], before: dict[Name, str]) -> None:
        """Notes when each of these Deployments was applied anew."""
        async for moment, name, metadata in self.fleet.changes(DEPLOYMENT):
            digest = metadata.get("annotations", {}).get(names.ANNOTATION_APPLIED)
            if name in before and name not in applied and digest != before[name]:
                applied[name] = moment

    async def churn(self, services: list[Name], per_second: float, *, exclude: frozenset[Name]) -> None:
        """Changes so many services each second until it is cancelled; `changed` counts them."""
        self.changed = 0
        if per_second <= 0:
            await asyncio.Event().wait()
        tasks: set[asyncio.Task[None]] = set()

        async def change(service: Name, value: str) -> None:
            await self.fleet.apply(service, service_annotation=value)
            self.changed += 1

        began, number = time.monotonic(), 0
        chosen = [service for service in services if service not in exclude]
        while True:
            due = int((time.monotonic() - began) * per_second)
            while number < due and len(tasks) < AT_ONCE:
                task = asyncio.create_task(change(chosen[number % len(chosen)], f"{number}"))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                number += 1
            await asyncio.sleep(0.02)

    def measured(self, name: str) -> Measured:
        return Measured(self, name)


def _localcluster(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "localcluster", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"localcluster {' '.join(arguments)} failed; its own line is above")
    return done.stdout.strip()


@contextmanager
def _sidecars(cluster: str, kubeconfig: Path, log: Path) -> Iterator[None]:
    inside = ["env", f"PYTHONPATH={ROOT / 'operator'}:{ROOT}", sys.executable, "-m", "bench.sidecars"]
    pods = find_cluster(cluster).addresses.kwok_pods
    command = [sys.executable, "-m", "localcluster", "exec", "--name", cluster, "--", *inside, str(kubeconfig), pods]
    with (
        log.open("ab") as out,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=out, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            if "listening" not in process.stdout.readline():
                raise SystemExit(f"the stand-in for the sidecars did not start; log: {log}")
            yield
        finally:
            process.terminate()


async def _run(arguments: argparse.Namespace, kubeconfig: Path, logs: Path, results: dict[str, Any]) -> None:
    connection = await connect(str(kubeconfig))
    gateway = Gateway(connection)
    async with connection.session(limit=0) as session, AsyncExitStack() as stack:
        fleet = Fleet(arguments.services, connection, gateway, session)
        if arguments.tick or arguments.keda:
            fleet = replace(fleet, scaling=ticking.scaling if arguments.tick else kedafleet.scaling)
            ground = stack.enter_context(ticking.ground(find_cluster(arguments.cluster), fleet.sizes()))
        bench = Bench(
            fleet,
            kubeconfig,
            logs / "operator.log",
            profile=logs if arguments.profile else None,
            variables=ground.variables() if arguments.tick else None,
        )
        bench.results = results
        idle, churn = arguments.idle_seconds, arguments.churn
        steps: dict[str, Callable[[], Awaitable[None]]] = {
            "create": bench.create,
            "idle": lambda: bench.idle(idle),
            "restart": bench.restart,
            "latency": lambda: bench.latency("latency_idle", changes=arguments.changes, per_second=0.0),
            "configuration": lambda: configuration(bench, arguments.changes),
            "churn": lambda: bench.latency("latency_churn", changes=arguments.changes, per_second=churn),
            "soak": lambda: soak(bench, arguments.soak_minutes, arguments.soak_churn),
        }
        if arguments.tick:
            steps["tick"] = partial(ticking.tick, bench, ground, arguments.changes)
        if arguments.keda:
            steps["keda"] = partial(kedafleet.measure, bench, ground)
        wanted = [step for step in steps if step not in arguments.skip]
        try:
            await fleet.make_namespaces()
            if arguments.tick:
                await ground.register(fleet)
            bench.start()
            for step in wanted:
                await steps[step]()
        finally:
            bench.stop()
            await gateway.close()


def main() -> None:
    """Measure, print and keep the results."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    add = parser.add_argument
    add("--services", type=int, default=int(os.environ.get("N") or 1000))
    add("--changes", type=int, default=100, help="measured changes of a spec (default: 100)")
    add("--churn", type=float, default=50.0, metavar="PER_SECOND", help="other changes meanwhile (default: 50)")
    add("--idle-seconds", type=float, default=60.0)
    add("--soak-minutes", type=float, default=0.0, help="watch the memory so long (default: 0)")
    add("--soak-churn", type=float, default=2.0, metavar="PER_SECOND", help="changes meanwhile (default: 2)")
    add("--tick", action="store_true", help="all services Predictive, with a load in a real Prometheus (default: no)")
    add("--keda", action="store_true", help="all services scaled by KEDA, for the same table of costs (default: no)")
    add("--cluster", default=CLUSTER, metavar="NAME", help=f"name of the local cluster (default: {CLUSTER})")
    add("--skip", nargs="*", default=[], choices=STEPS)
    add("--profile", action="store_true", help="profile the operator into the directory of the logs; it gets slower")
    add("--keep", action="store_true", help="leave the cluster running")
    arguments = parser.parse_args()
    if not arguments.soak_minutes:
        arguments.skip.append("soak")
    nodes = 2 + (arguments.services * 2 * 5 // 4) // PODS_PER_NODE
    kubeconfig = Path(
        _localcluster(
            *("up", "--name", arguments.cluster, "--profile", "control"),
            *("--kwok-nodes", str(nodes), "--hpa-sync", HPA_SYNC),
        )
    )
    # Ended with kill, it ends what it started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    logs = Path(tempfile.mkdtemp(prefix="nereus-scale-"))
    say(f"logs in {logs}")
    _establish(kubeconfig)
    results: dict[str, Any] = {}
    try:
        with _sidecars(arguments.cluster, kubeconfig, logs / "sidecars.log"):
            asyncio.run(_run(arguments, kubeconfig, logs, results))
    finally:
        if results:  # also of a run that was ended before its time
            _keep(arguments, results)
        if not arguments.keep:
            _localcluster("down", "--name", arguments.cluster)


def _keep(arguments: argparse.Namespace, results: Mapping[str, Any]) -> None:
    machine = {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()}
    kind = "-soak" if arguments.soak_minutes else "-tick" if arguments.tick else "-keda" if arguments.keda else ""
    out = ROOT / "build" / "bench" / f"scale-{arguments.services}{kind}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"services": arguments.services, "machine": machine, **results}, indent=2) + "\n")
    sys.stdout.write(f"{out}\n")


def _establish(kubeconfig: Path) -> None:
    kubectl = [str(Path(_localcluster("bin")) / "kubectl"), f"--kubeconfig={kubeconfig}"]
    definition = str(ROOT / "crds/modelservices.yaml")
    applied = ["apply", "--server-side", "--force-conflicts", "-f", definition]
    subprocess.run([*kubectl, *applied], check=True, stdout=sys.stderr)
    for _ in range(60):
        if subprocess.run([*kubectl, "get", "modelservices"], check=False, capture_output=True).returncode == 0:
            return
        time.sleep(1)
    raise SystemExit("the API server does not serve ModelServices a minute after their definition was applied")


if __name__ == "__main__":
    main()
