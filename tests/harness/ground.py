"""Where Nereus decides on a real control plane: real API server and autoscaler, a real Prometheus, pods on KWOK nodes.

The load is made up (KWOK pods have no Triton), and the policy's clock runs faster, because scaling down takes minutes.
Here is what its tests share: services, replicas of the operator and how they are registered, and what can be seen.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from localcluster.config import find_cluster
from tests.harness import externalmetrics
from tests.harness.apiserver import Api, Json
from tests.harness.operator import Operator
from tests.harness.prometheus import free_port
from tests.harness.services import Services
from tests.harness.traffic import Traffic
from tests.tiers import INTEGRATION_CLUSTER

HURRY = 40
RATE_WINDOW_SECONDS, SYNC_SECONDS = 4, 5
"""Over how long rates are taken, and how often the local cluster's autoscalers look: of real time."""
BACK_SECONDS = 600 + (RATE_WINDOW_SECONDS + SYNC_SECONDS) * HURRY
"""Of policy time, until pods go once the cause of a fault is gone: ten minutes of good data."""
HIGH, LOW = 420.0, 20.0
PEAK = 5
"""Pods that the high load needs at least."""
EXTERNAL = f"/apis/apiregistration.k8s.io/v1/apiservices/{externalmetrics.REGISTRATION}"
WAIT_SECONDS = 180.0
"""For what comes within seconds on a quiet machine."""


def scaling(name: str, **fields: object) -> Json:
    """This control plane has no metrics-server: an emergency metric that cannot be read would block scaling down, so
    the decision stands in for it. Its pods go as soon as they may."""
    metric = {"name": "nereus_replicas", "selector": {"matchLabels": {"serving.nereus.dev/service": name}}}
    external = {"metric": metric, "target": {"type": "AverageValue", "averageValue": "1"}}
    return {
        "strategy": "Predictive",
        "minReplicas": 1,
        "maxReplicas": 6,
        "capacity": {"inferencesPerSecond": 100},
        "forecast": {"horizon": "30s"},
        "metrics": [{"type": "External", "external": external}],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
        **fields,
    }


def advice() -> Json:
    """Under the autoscaler alone, whose only metric nobody serves here: so every pod too many would be ours."""
    return {key: value for key, value in scaling("").items() if key != "metrics"} | {"mode": "Advise"}


@dataclass(frozen=True)
class Ground:
    """The control plane, the traffic, and where the operator lives."""

    api: Api
    traffic: Traffic
    home: str
    logs: Path
    ports: dict[str, int] = field(default_factory=dict)

    def operator(self, identity: str, *, prometheus: str = "", watch: Sequence[str] = ()) -> Operator:
        """One more replica; registered for external metrics as a pod behind the chart's Service would be."""
        port = self.ports[identity] = free_port()
        self.endpoint(identity)
        variables = {
            "NEREUS_HURRY": str(HURRY),
            "NEREUS_HURRY_CLOCK": str(self._clock),
            "NEREUS_PROMETHEUS_URL": prometheus or self.traffic.prometheus.url,
            "NEREUS_PROMETHEUS_TIMEOUT": "5",
            "NEREUS_PROMETHEUS_SCRAPE_INTERVAL": "1",
            "NEREUS_PROMETHEUS_WINDOW": str(RATE_WINDOW_SECONDS),
            "NEREUS_EXTERNAL_METRICS_PORT": str(port),
        }
        return Operator(
            self.api.kubeconfig,
            lease_namespace=self.home,
            identity=identity,
            log=self.logs / f"{identity}.log",
            watch=tuple(watch),
            variables=variables,
            forked=True,
        )

    def set_clock(self, seconds: float) -> None:
        """The clock that replicas decide by is set ahead by so much, in time of the policy."""
        new = self._clock.with_suffix(".new")
        new.write_text(f"{seconds:.0f}")
        new.replace(self._clock)

    def policy_time(self, replica: Operator) -> float:
        """Now, by the clock that this replica decides by."""
        began = float((self.logs / f"began-{replica.identity}").read_text())
        return began + HURRY * (time.time() - began) + float(self._clock.read_text())

    @property
    def _clock(self) -> Path:
        return self.logs / "clock"

    def endpoint(self, name: str, *, of: str = "nereus") -> None:
        """The replica answers for this Service, and for no other."""
        host = find_cluster(INTEGRATION_CLUSTER).addresses.host
        body = externalmetrics.endpoints(self.home, of, name=name, host=host, port=self.ports[name])
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self.home}/endpointslices"
        self.api.request("DELETE", f"{path}/{name}")
        made = self.api.request("POST", path, body)
        assert made.accepted, made.message

    def no_endpoint(self, name: str) -> None:
        gone = self.api.request("DELETE", f"/apis/discovery.k8s.io/v1/namespaces/{self.home}/endpointslices/{name}")
        assert gone.accepted, gone.message

    def serve_as(self, service: str, name: str) -> None:
        """The metrics API is registered for this Service, behind which is this replica. Its certificate is for ours."""
        self.endpoint(name, of=service)
        trust = {"insecureSkipTLSVerify": service != "nereus", "caBundle": None}
        target = {"name": service, "namespace": self.home, "port": 443}
        patched = self.api.request("PATCH", EXTERNAL, {"spec": {"service": target, **trust}})
        assert patched.accepted, patched.message

    def read(self, services: Services, name: str = "svc") -> int | None:
        """The external metric as the autoscaler gets it; None while it cannot be read."""
        selector = f"labelSelector=serving.nereus.dev%2Fservice%3D{name}"
        path = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{services.namespace}/nereus_replicas?{selector}"
        answer = self.api.request("GET", path)
        return int(answer.body["items"][0]["value"]) if answer.accepted else None


@contextmanager
def ground(api: Api, folder: Path) -> Iterator[Ground]:
    """Traffic, and a home for operators; `folder` is for a Prometheus and for logs."""
    home = f"op-{uuid.uuid4().hex[:8]}"
    assert api.request("POST", "/api/v1/namespaces", {"metadata": {"name": home}}).accepted
    with Traffic(api, folder / "prometheus") as traffic:
        try:
            _register(api, home)
            made = Ground(api, traffic, home, folder)
            made.set_clock(0)
            yield made
        finally:
            # First of all, and before any namespace: while it is there and nobody answers, none can be deleted.
            api.request("DELETE", EXTERNAL)
            api.request("DELETE", f"/api/v1/namespaces/{home}")


def _register(api: Api, home: str) -> None:
    """The External Metrics API for processes on this machine, as the chart does it for pods."""
    for path, body in (
        (f"/api/v1/namespaces/{home}/services", externalmetrics.service(home, "nereus")),
        (f"/api/v1/namespaces/{home}/services", externalmetrics.service(home, "another")),
        (f"/api/v1/namespaces/{home}/configmaps", {"metadata": {"name": "nereus-external-metrics"}}),
        (EXTERNAL.rpartition("/")[0], externalmetrics.registration(home, "nereus")),
    ):
        made = api.request("POST", path, body)
        assert made.accepted, made.message


def floor(services: Services, name: str = "svc") -> int:
    found = services.get("HorizontalPodAutoscaler", name)
    return int(found["spec"]["minReplicas"]) if found else 0


def replicas(services: Services, name: str = "svc") -> int:
    return int(services.child("Deployment", name)["spec"]["replicas"])


def status(services: Services, name: str = "svc") -> Json:
    found: Json = services.service(name).get("status", {}).get("scaling", {})
    return found


def until(services: Services, name: str, what: str, look: Callable[[Services, str], object]) -> None:
    services.until_true(f"{name}: {what}", lambda: look(services, name), seconds=WAIT_SECONDS)


Change: TypeAlias = tuple[str, str]
"""When a floor was changed, and the sentence about it."""


def changes(services: Services, name: str) -> list[Change]:
    """The newest one first."""
    return [(entry["at"], entry["message"]) for entry in status(services, name).get("history") or []]


def changes_of(services: Services, names: Sequence[str]) -> Mapping[str, frozenset[Change]]:
    """What was told of each service until now."""
    return {name: frozenset(changes(services, name)) for name in names}


def pods_go(services: Services, before: Mapping[str, frozenset[Change]], *, since: float) -> None:
    """Normal scaling down is back: the pods of each service go, as decided within ten minutes of good data after a
    moment of the policy. `before` is what was told until the fault was over."""
    for name in before:
        until(services, name, "pods go", lambda at, of: replicas(at, of) <= 2)
        until(services, name, "lower", lambda at, of: (status(at, of).get("floor") or PEAK) <= 2)
    took = {name: _lowered_at(services, name, known) - since for name, known in before.items()}
    print(f"seconds of the policy until it was decided: {took}")
    assert all(seconds <= BACK_SECONDS for seconds in took.values()), took


def _lowered_at(services: Services, name: str, known: frozenset[Change]) -> float:
    """When it was decided that almost all pods may go."""
    new = [change for change in changes(services, name) if change not in known]
    for at, message in reversed(new):
        if int(message.partition(" -> ")[2].partition(":")[0]) <= 2:
            return datetime.fromisoformat(at).timestamp()
    raise AssertionError(f"{name}: no such change among {new}")


def told(reasons: frozenset[str]) -> Callable[[Services, str], object]:
    """Whether it is said that the load is not known, for one of these reasons."""

    def look(services: Services, name: str) -> bool:
        condition = services.condition("MetricsAvailable", name)
        return condition.get("status") == "False" and condition["reason"] in reasons

    return look


def metrics_of(services: Services, name: str = "svc") -> list[Json]:
    found: list[Json] = services.child("HorizontalPodAutoscaler", name)["spec"]["metrics"]
    return found


def active(services: Services, name: str) -> bool:
    """Whether the autoscaler reads its metrics, by its own word."""
    conditions = services.child("HorizontalPodAutoscaler", name).get("status", {}).get("conditions", [])
    return any(item["type"] == "ScalingActive" and item["status"] == "True" for item in conditions)


def bundle(api: Api) -> bytes:
    """The certificates that the API server trusts."""
    return base64.b64decode(api.get(EXTERNAL)["spec"].get("caBundle", ""))
