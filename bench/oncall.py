"""A site where somebody is on call: Nereus watched by a real prometheus-operator, and faults that are caused for real.

A local cluster of its own, with Prometheus and Alertmanager in pods (see `monitoring`), real Triton pods, and messages
that end in this process. The times of the rules are shortened (`pace`). The e2e tier causes the faults side by side and
asks that everything comes; the benchmark causes them one after the other and reports when.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import monitoring
from bench.monitoring import NAMESPACE, SELECTED, Inbox, Way, query
from demo import install
from demo.kube import Kube, StepError
from demo.load import Load
from localcluster.config import Cluster, find_cluster
from localcluster.report import Progress
from nereus.alerting import rules
from tests.e2e.world import CRASH, DOUBLE, World, X, model

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
SHOP = "shop"
WAYS = ("mail", "webhook", "slack")
SLEEPER = """
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.2)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", pb_utils.get_input_tensor_by_name(r, "X").as_numpy())])
                for r in requests]
"""
"""Slow without using the processor, so that only what is meant to suffer does."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that goes wrong, the alert that must tell of it, and how the summary of the alert begins."""

    what: str
    alert: str
    about: str
    cause: Callable[[], object]
    mend: Callable[[], object]


@dataclass
class Row:
    """What one fault led to; seconds since it was caused, or since it was mended. None: not within the limit."""

    fault: str
    alert: str
    fires: float | None = None
    mail: float | None = None
    webhook: float | None = None
    slack: float | None = None
    ends: float | None = None
    mail_over: float | None = None
    webhook_over: float | None = None
    slack_over: float | None = None

    @property
    def missing(self) -> list[str]:
        return [name for name, value in vars(self).items() if value is None]


@dataclass
class Site:
    """The cluster, what watches it, and where messages end. `way` leads from the operator to Prometheus."""

    cluster: Cluster
    kube: Kube
    inbox: Inbox
    way: Way
    prometheus: str
    loads: dict[str, Clients] = field(default_factory=dict)

    @property
    def world(self) -> World:
        return World(kube=self.kube, namespace=SHOP)

    def firing(self, alert: str) -> bool:
        return bool(query(self.prometheus, f'ALERTS{{alertname="{alert}",alertstate="firing"}}'))

    def load(self, service: str, clients: int) -> None:
        """Clients that send as fast as they are answered, until `rest`."""
        self.loads[service] = Clients(self.world, service, clients)

    def rest(self, service: str) -> None:
        self.loads.pop(service).stop()

    def component(self, command: str, name: str) -> None:
        """`kill` or `start` one component of the cluster."""
        _localcluster(command, "--name", self.cluster.name, name)


class Clients:
    """A load that is started and stopped as a fault."""

    def __init__(self, world: World, service: str, clients: int) -> None:
        self._stop = threading.Event()

        def run() -> None:
            with (
                world.kube.address(service, 8001, namespace=world.namespace) as address,
                Load(address, protocol="grpc", model="double", inputs=X, clients=clients),
            ):
                self._stop.wait()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=60)


@contextmanager
def site(
    name: str, *, pace: float, scrape_seconds: int, values: Sequence[str] = (), say: Callable[[str], None] = print
) -> Iterator[Site]:
    """Starts the cluster and everything on it; the cluster stays, the servers of this process end with the block.
    `values` are further arguments of helm."""
    kube = install.local_cluster(name)
    cluster = find_cluster(name)
    built = install.images(say)
    install.load_into_local_cluster(built, say, name)
    programs = monitoring.images(cluster, Progress())
    with ExitStack() as stack:
        inbox, mail_port, web_port = stack.enter_context(monitoring.receivers(cluster.addresses.host))
        way = Way(cluster.addresses.host)
        stack.callback(way.close)
        log = cluster.log("prometheus-operator")
        stack.enter_context(monitoring.prometheus_operator(kube, programs, log))
        for namespace in (NAMESPACE, install.NAMESPACE, SHOP):
            kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, namespace=namespace)
        for manifest in monitoring.stack(scrape_seconds=scrape_seconds):
            kube.apply(manifest, namespace=NAMESPACE)
        web = f"http://{cluster.addresses.host}:{web_port}"
        for manifest in _of_the_operator(web, pace):
            kube.run("kubectl", "-n", install.NAMESPACE, "apply", "-f", "-", stdin=json.dumps(manifest))
        told = _values(pace, scrape_seconds, mail=f"{cluster.addresses.host}:{mail_port}", web=web)
        address = ("--set", f"prometheus.url=http://{cluster.addresses.host}:{way.port}")
        install.install_chart(kube, say, *install.image_values(built), *told, *address, *values)
        prometheus = monitoring.pod_address(kube, "prometheus-main-0", 9090)
        monitoring.pod_address(kube, "alertmanager-main-0", 9093)
        host, _, port = prometheus.removeprefix("http://").partition(":")
        way.target = (host, int(port))
        made = Site(cluster, kube, inbox, way, prometheus)
        try:
            yield made
        finally:
            for load in made.loads.values():
                load.stop()


def remove(name: str) -> None:
    """Takes the cluster away."""
    subprocess.run([sys.executable, "-m", "localcluster", "down", "--name", name], cwd=ROOT, check=False)


def _of_the_operator(web: str, pace: float) -> list[Json]:
    """The Secret with Slack's address; and the rules about the operator, which the chart has with their full times."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "nereus-slack"},
            "stringData": {"url": f"{web}/slack"},
        },
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "nereus-operator", "labels": SELECTED},
            "spec": {"groups": [rules.operator_group(pace=pace)]},
        },
    ]


def _values(pace: float, scrape_seconds: int, *, mail: str, web: str) -> list[str]:
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
        "extraEnv[0].name": "NEREUS_PROMETHEUS_SCRAPE_INTERVAL",
    }
    chosen = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    chosen += ["--set-string", f"extraEnv[0].value={scrape_seconds}"]
    return [*chosen, "--set-json", f"alerts.pace={pace}"]  # --set makes a text of a fraction


# --- services, and what happens to them

SERVICES: dict[str, Json] = {
    "slow": {"alerts": {"latency": "50ms"}, "scaling": {"strategy": "Metrics", "minReplicas": 1, "maxReplicas": 2}},
    "crowded": {"alerts": {"queue": {"above": 4}, "disable": ["NereusLatencyHigh"]}},
    "refused": {},
    "gone": {},
    "steady": {"scaling": {"minReplicas": 1, "maxReplicas": 2}},
}
"""What the spec of each says besides its model. `steady` scales by the load that Prometheus has, `slow` by the
processor time that its autoscaler reads itself; the others do not scale."""
NOT_HERE = ["NereusTrafficVanished", "NereusColdStartSlower", "NereusForecastOff"]
"""At this pace an hour is half a minute, in which every load looks like one that came out of nothing."""


def apply(world: World, name: str, *more: Json) -> None:
    """A service of the site, with further models."""
    spec = {"scaling": {"minReplicas": 1, "maxReplicas": 1}, **SERVICES[name]}
    alerts = {**spec.pop("alerts", {})}
    alerts["disable"] = [*alerts.get("disable", []), *NOT_HERE]
    source = "sleeper" if name in ("slow", "crowded") else "double"
    world.apply(name, models=[model(source=f"configmap://models/{source}"), *more], alerts=alerts, **spec)


def open_shop(site: Site) -> None:
    """Every service serves, its rules are loaded, and Prometheus has series of it."""
    world = site.world
    files = {"double": DOUBLE, "sleeper": SLEEPER, "crash": CRASH}
    world.models_config_map(**{f"{name}.model.py": text for name, text in files.items()})
    for name in SERVICES:
        apply(world, name)
    for name in SERVICES:
        world.wait_ready(name, seconds=300)
    world.wait_condition("MetricsAvailable", "True", name="steady", seconds=300)
    for name in SERVICES:
        world.wait_condition("AlertsInstalled", "True", name=name, seconds=300)
    for metric in ("nv_inference_request_success", "nereus_model_ready", "nereus_service_pods_wanted"):
        world.wait(
            lambda metric=metric: len(query(site.prometheus, metric)) >= len(SERVICES),  # type: ignore[misc]
            f"{metric} in Prometheus",
            seconds=300,
        )


def faults(site: Site) -> list[Fault]:
    """Those that do not disturb each other."""
    world, kube = site.world, site.kube
    bad = model("crash", source="configmap://models/crash")

    def no_node() -> None:
        kube.kubectl("cordon", site.cluster.node_name)
        [pod] = world.pods("gone")
        kube.kubectl("-n", SHOP, "delete", "pod", pod["metadata"]["name"], "--wait=false")

    def loaded(name: str, clients: int, *, alert: str, what: str) -> Fault:
        return Fault(
            what=what,
            alert=alert,
            about=f"{SHOP}/{name}",
            cause=lambda: site.load(name, clients),
            mend=lambda: site.rest(name),
        )

    return [
        loaded("slow", 1, alert="NereusLatencyHigh", what="a model that takes 200 ms (objective 50 ms)"),
        loaded("crowded", 16, alert="NereusQueueBacklog", what="16 clients at once (limit 4 waiting)"),
        Fault(
            what="a model that Triton refuses",
            alert="NereusModelLoadFailing",
            about=f"{SHOP}/refused",
            cause=lambda: apply(world, "refused", bad),
            mend=lambda: apply(world, "refused"),
        ),
        Fault(
            what="the only pod killed, no node for another",
            alert="NereusNoPodReady",
            about=f"{SHOP}/gone",
            cause=no_node,
            mend=lambda: kube.kubectl("uncordon", site.cluster.node_name),
        ),
        Fault(
            what="the operator cut off from Prometheus",
            alert="NereusAutoscalerBlind",
            about=f"{SHOP}/steady",
            cause=site.way.cut,
            mend=site.way.mend,
        ),
    ]


def operator_gone(site: Site) -> Fault:
    """While it is gone nobody speaks of the services, so this one comes alone."""
    scale = ("-n", install.NAMESPACE, "scale", "deployment/nereus")
    return Fault(
        what="the operator gone",
        alert="NereusOperatorDown",
        about="The Nereus operator is not there",
        cause=lambda: site.kube.kubectl(*scale, "--replicas=0"),
        mend=lambda: site.kube.kubectl(*scale, "--replicas=1"),
    )


def go_through(site: Site, faults: Sequence[Fault], *, limit: float) -> list[Row]:
    """Causes them all, waits for alerts and messages, mends them all, waits for the ends and their messages."""
    rows = [Row(fault.what, fault.alert) for fault in faults]
    caused, mended = {}, {}
    for fault in faults:
        caused[fault.alert] = time.monotonic()
        fault.cause()
    _watch(site, rows, faults, caused, None, limit=limit)
    for fault in faults:
        mended[fault.alert] = time.monotonic()
        fault.mend()
    _watch(site, rows, faults, caused, mended, limit=limit)
    return rows


def _watch(
    site: Site,
    rows: list[Row],
    faults: Sequence[Fault],
    caused: dict[str, float],
    mended: dict[str, float] | None,
    *,
    limit: float,
) -> None:
    """Until each row has what belongs to firing, or, with `mended`, to the end of it."""
    first, suffix = ("fires", "") if mended is None else ("ends", "_over")
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        for row, fault in zip(rows, faults, strict=True):
            begun = caused[fault.alert]
            since = begun if mended is None else mended[fault.alert]
            if getattr(row, first) is None and site.firing(fault.alert) is (mended is None):
                setattr(row, first, round(time.monotonic() - since, 1))
            heard = site.inbox.told if mended is None else site.inbox.ended
            for way in WAYS:
                at = heard(way, fault.alert, fault.about, since=begun)
                if at is not None and getattr(row, way + suffix) is None:
                    setattr(row, way + suffix, round(max(0.0, at - since), 1))
        wanted = (first, *(way + suffix for way in WAYS))
        if all(getattr(row, name) is not None for row in rows for name in wanted):
            return
        time.sleep(0.25)


def unselected(site: Site) -> float | None:
    """Prometheus no longer selects the rules: seconds until AlertsInstalled says so."""
    world = site.world
    world.wait_condition("AlertsInstalled", "True", name="steady", seconds=120)
    selector = {"spec": {"ruleSelector": {"matchLabels": {"release": "somebody-else"}}}}
    began = time.monotonic()
    site.kube.kubectl("-n", NAMESPACE, "patch", "prometheus", "main", "--type=merge", "-p", json.dumps(selector))
    try:
        said = world.wait_condition("AlertsInstalled", "False", name="steady", seconds=300)
    except StepError as error:
        sys.stdout.write(f"{error}\n")
        return None
    sys.stdout.write(f"  {said['reason']}: {said['message']}\n")
    return round(time.monotonic() - began, 1)


def _localcluster(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "localcluster", *arguments], cwd=ROOT, capture_output=True, check=True)
