"""Alerts on the real thing: faults caused for real, and when the alert fires, the message arrives and it ends.

A local cluster with real Triton pods, the real prometheus-operator, Prometheus and Alertmanager (see `monitoring`), and
Nereus from the chart. The times of the rules are shortened (`--pace`); the measured time from the cause to the message
contains them. Every panel of every dashboard is asked for data on the way. Exit status 1 when anything did not come.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import monitoring
from bench.monitoring import NAMESPACE, SELECTED, Inbox, query
from demo import install
from demo.kube import Kube, StepError, condition_of, wait
from demo.load import Load
from localcluster.config import find_cluster
from localcluster.report import Progress
from nereus.alerting import rules
from tests.e2e.world import CRASH, World, X, model
from tests.harness.dashboards import dashboards, filled, panels

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
QUIET_PANELS = frozenset({"Objects written", "Latency"})
"""Nothing is written while nothing changes; the histogram of the latency exists from Triton 24.11 on."""
SLEEPER = """
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.2)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", pb_utils.get_input_tensor_by_name(r, "X").as_numpy())])
                for r in requests]
"""


@dataclass
class Row:
    """What one fault led to; seconds since it was caused, None when it did not come within the limit."""

    fault: str
    alert: str
    fires: float | None = None
    mail: float | None = None
    webhook: float | None = None
    slack: float | None = None
    ends: float | None = None
    over: float | None = None

    @property
    def complete(self) -> bool:
        return all(getattr(self, name) is not None for name in ("fires", "mail", "webhook", "slack", "ends", "over"))


@dataclass
class Bench:
    """Everything that a fault needs."""

    kube: Kube
    world: World
    prometheus: str
    inbox: Inbox
    limit: float
    rows: list[Row] = field(default_factory=list)

    def firing(self, alert: str) -> bool:
        return bool(query(self.prometheus, f'ALERTS{{alertname="{alert}",alertstate="firing"}}'))

    def fault(self, what: str, alert: str, cause: Callable[[], object], mend: Callable[[], object]) -> Row:
        """Causes it, waits for alert and messages, mends it, waits for the end and the message that it is over."""
        row = Row(what, alert)
        self.rows.append(row)
        began = time.monotonic()
        cause()
        row.fires = self._until(lambda: self.firing(alert), began)
        for way in ("mail", "webhook", "slack"):
            arrived = self._until(lambda way=way: self.inbox.first(way, alert, since=began), began)  # type: ignore[misc]
            setattr(row, way, arrived)
        mended = time.monotonic()
        mend()
        row.ends = self._until(lambda: not self.firing(alert), mended)
        row.over = self._until(lambda: self.inbox.first("webhook", alert, '"status":"resolved"', since=mended), mended)
        _say(f"  {row}")
        return row

    def _until(self, holds: Callable[[], object], began: float) -> float | None:
        while time.monotonic() - began < self.limit:
            if holds():
                return round(time.monotonic() - began, 1)
            time.sleep(0.5)
        return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench BENCH=alerts BENCH_ARGS=", description=__doc__)
    parser.add_argument("--name", default="alerts", help="of the local cluster, which is started and ended")
    parser.add_argument("--pace", type=float, default=0.01, help="times of the rules are shortened by this")
    parser.add_argument("--limit", type=float, default=150, help="seconds to wait for an alert or its end")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    given = parser.parse_args()
    began = time.monotonic()
    try:
        kube = install.local_cluster(given.name)
        report = _run(kube, given)
    finally:
        if not given.keep:
            subprocess.run([sys.executable, "-m", "localcluster", "down", "--name", given.name], cwd=ROOT, check=False)
    report["seconds"] = round(time.monotonic() - began)
    folder = ROOT / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "alerts.json").write_text(json.dumps(report, indent=1) + "\n")
    _print(report)
    return 0 if report["passed"] else 1


def _run(kube: Kube, given: argparse.Namespace) -> Json:
    cluster = find_cluster(given.name)
    built = install.images(print)
    install.load_into_local_cluster(built, print, given.name)
    programs = monitoring.images(cluster, Progress())
    log = cluster.log("prometheus-operator")
    with (
        monitoring.receivers(cluster.addresses.host) as (inbox, mail_port, web_port),
        monitoring.prometheus_operator(kube, programs, log),
    ):
        web = f"http://{cluster.addresses.host}:{web_port}"
        for namespace in (NAMESPACE, install.NAMESPACE, "shop"):
            kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, namespace=namespace)
        for manifest in monitoring.stack():
            kube.apply(manifest, namespace=NAMESPACE)
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "nereus-slack"},
            "stringData": {"url": f"{web}/slack"},
        }
        kube.apply(secret, namespace=install.NAMESPACE)
        values = _values(given.pace, mail=f"{cluster.addresses.host}:{mail_port}", web=web)
        install.install_chart(kube, print, *install.image_values(built), *values)
        operator_rules: Json = {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            # The chart's rules have their full times; this is the same group at the pace of the bench.
            "metadata": {"name": "nereus-operator", "labels": SELECTED},
            "spec": {"groups": [rules.operator_group(pace=given.pace)]},
        }
        kube.run("kubectl", "-n", install.NAMESPACE, "apply", "-f", "-", stdin=json.dumps(operator_rules))
        prometheus = monitoring.pod_address(kube, "prometheus-main-0", 9090)
        monitoring.pod_address(kube, "alertmanager-main-0", 9093)
        kube.kubectl("-n", install.NAMESPACE, "set", "env", "deployment/nereus", f"NEREUS_PROMETHEUS_URL={prometheus}")
        bench = Bench(
            kube=kube,
            world=World(kube=kube, namespace="shop"),
            prometheus=prometheus,
            inbox=inbox,
            limit=given.limit,
        )
        return _measure(bench, cluster_name=given.name)


def _values(pace: float, *, mail: str, web: str) -> list[str]:
    settings = {
        "alerts.ruleLabels.release": SELECTED["release"],
        "alerts.install": "none",
        "replicas": 1,
        "notifications.install": "AlertmanagerConfig",
        "notifications.groupWait": "1s",
        "notifications.groupInterval": "5s",
        "notifications.slack.channel": "#alerts",
        "notifications.webhook.url": f"{web}/webhook",
        "notifications.heartbeat.url": f"{web}/heartbeat",
        "notifications.email.to": "oncall@example.com",
        "notifications.email.from": "nereus@example.com",
        "notifications.email.smarthost": mail,
        "notifications.email.requireTls": "false",
    }
    chosen = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    return [*chosen, "--set-json", f"alerts.pace={pace}"]  # --set makes a text of a fraction


def _measure(bench: Bench, *, cluster_name: str) -> Json:
    world, kube = bench.world, bench.kube
    world.models_config_map(**{"double.model.py": SLEEPER, "crash.model.py": CRASH})
    good = model()
    alerts: Json = {"latency": "50ms", "queue": {"above": 4}, "disable": ["NereusTrafficVanished"]}
    world.apply(models=[good], alerts=alerts, scaling={"minReplicas": 1, "maxReplicas": 2})
    began = time.monotonic()
    world.wait_ready(seconds=180)
    world.wait_condition("AlertsInstalled", "True", seconds=240)
    installed = round(time.monotonic() - began, 1)
    wait(
        lambda: query(bench.prometheus, "nv_inference_request_success"), "Triton's series by our PodMonitor", seconds=60
    )
    wait(lambda: query(bench.prometheus, "nereus_model_ready"), "the sidecar's series by our PodMonitor", seconds=60)

    load = _Loads(world)
    bench.fault("a model that takes 200 ms (objective 50 ms)", "NereusLatencyHigh", lambda: load.start(1), load.stop)
    bench.fault("16 clients at once (limit 4 waiting)", "NereusQueueBacklog", lambda: load.start(16), load.stop)
    bad = model("crash", source="configmap://models/crash")
    bench.fault(
        "a model that Triton refuses",
        "NereusModelLoadFailing",
        lambda: world.apply(models=[good, bad], alerts=alerts, scaling={"minReplicas": 1, "maxReplicas": 2}),
        lambda: world.apply(models=[good], alerts=alerts, scaling={"minReplicas": 1, "maxReplicas": 2}),
    )
    world.wait_ready(seconds=180)
    bench.fault(
        "the only pod cannot start again",
        "NereusNoPodReady",
        lambda: (
            kube.kubectl("cordon", f"{cluster_name}-node"),
            kube.kubectl("-n", "shop", "delete", "pods", "--all", "--wait=false"),
        ),
        lambda: kube.kubectl("uncordon", f"{cluster_name}-node"),
    )
    world.wait_ready(seconds=180)
    component = ("-m", "localcluster")
    bench.fault(
        "metrics-server gone",
        "NereusAutoscalerBlind",
        lambda: _quietly(*component, "kill", "--name", cluster_name, "metrics-server"),
        lambda: _quietly(*component, "start", "--name", cluster_name, "metrics-server"),
    )
    empty = _panels(bench, load)
    scale = ("-n", install.NAMESPACE, "scale", "deployment/nereus")
    bench.fault(
        "the operator gone",
        "NereusOperatorDown",
        lambda: kube.kubectl(*scale, "--replicas=0"),
        lambda: kube.kubectl(*scale, "--replicas=1"),
    )
    unselected = _unselected(bench)
    heartbeat = bench.inbox.first("heartbeat", "NereusWatchdog") is not None
    passed = all(row.complete for row in bench.rows) and not empty and heartbeat and unselected is not None
    return {
        "rows": [asdict(row) for row in bench.rows],
        "installed_seconds": installed,
        "unselected_seconds": unselected,
        "heartbeat": heartbeat,
        "empty_panels": empty,
        "passed": passed,
    }


def _unselected(bench: Bench) -> float | None:
    """Prometheus no longer selects the rules: AlertsInstalled must say so."""
    bench.world.wait_condition("AlertsInstalled", "True", seconds=120)
    selector = {"spec": {"ruleSelector": {"matchLabels": {"release": "somebody-else"}}}}
    began = time.monotonic()
    bench.kube.kubectl("-n", NAMESPACE, "patch", "prometheus", "main", "--type=merge", "-p", json.dumps(selector))
    try:
        bench.world.wait_condition("AlertsInstalled", "False", seconds=300)
    except StepError as error:
        _say(str(error))
        return None
    said = condition_of(bench.world.service(), "AlertsInstalled")
    _say(f"  {said['reason']}: {said['message']}")
    return round(time.monotonic() - began, 1)


def _panels(bench: Bench, load: _Loads) -> list[str]:
    """Every query of every panel while the load runs; the panels without data."""
    load.start(4)
    try:
        time.sleep(30)  # a rate over a minute needs several scrapes
        empty = []
        for board in dashboards().values():
            for panel in panels(board):
                asked = [filled(each, namespace="shop", service="svc") for each in panel.queries]
                found = [bool(query(bench.prometheus, each)) for each in asked]
                if not any(found) and not panel.optional:
                    empty.append(f"{panel.board}: {panel.title}")
        return empty
    finally:
        load.stop()


class _Loads:
    """A load that is started and stopped as a fault."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, clients: int) -> None:
        self._stop.clear()

        def run() -> None:
            with (
                self._world.kube.address("svc", 8001, namespace=self._world.namespace) as address,
                Load(address, protocol="grpc", model="double", inputs=X, clients=clients),
            ):
                self._stop.wait()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=60)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _quietly(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, check=True)


def _print(report: Json) -> None:
    _say(f"\n{'fault':48} {'alert':26} {'fires':>7} {'mail':>7} {'hook':>7} {'slack':>7} {'ends':>7} {'told':>7}")
    for row in report["rows"]:
        times = "".join(
            f"{'-' if row[name] is None else row[name]:>8}"
            for name in ("fires", "mail", "webhook", "slack", "ends", "over")
        )
        _say(f"{row['fault']:48} {row['alert']:26}{times}")
    _say(f"rules loaded {report['installed_seconds']} s after the service was applied; unselected noticed after")
    _say(f"{report['unselected_seconds']} s; heartbeat arrived: {report['heartbeat']}")
    _say(f"empty panels: {report['empty_panels']}")
    _say(f"{'passed' if report['passed'] else 'FAILED'} in {report['seconds']} s")


if __name__ == "__main__":
    sys.exit(main())
