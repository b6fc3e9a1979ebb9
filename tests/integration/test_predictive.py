"""Faults that strike a service at its peak, each beside a service without one; see `tests.harness.ground`.

What a fault must not do is shown beside a service without one: by the time its pods are taken away, those of the others
would have been too.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.harness.apiserver import Json
from tests.harness.ground import (
    HIGH,
    LOW,
    PEAK,
    WAIT_SECONDS,
    Ground,
    advice,
    changes_of,
    floor,
    pods_go,
    replicas,
    scaling,
    status,
    told,
    until,
)
from tests.harness.prometheus import Pod, back_fill
from tests.harness.services import Services
from tests.harness.traffic import Spoil

pytestmark = pytest.mark.usefixtures("sidecars")

ANTI_AFFINITY: Json = {
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {
                "labelSelector": {"matchLabels": {"serving.nereus.dev/service": "no-node"}},
                "topologyKey": "kubernetes.io/hostname",
            }
        ]
    }
}


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong for one service at its peak, and then is right again; the service is named like it.
    `reasons` are those of MetricsAvailable=False meanwhile, where it is told."""

    cause: Callable[[Ground, Services, str], None]
    clear: Callable[[Ground, Services, str], None]
    reasons: frozenset[str] = frozenset()
    floor: int = PEAK


def nothing(ground: Ground, services: Services, name: str) -> None:
    """The service is right by itself, or was made wrong once."""


def page(spoil: Spoil) -> Callable[[Ground, Services, str], None]:
    def cause(ground: Ground, services: Services, name: str) -> None:
        ground.traffic.spoiled[services.namespace, name] = spoil

    return cause


def well(ground: Ground, services: Services, name: str) -> None:
    del ground.traffic.spoiled[services.namespace, name]


def nan(pods: Sequence[Pod]) -> None:
    for pod in pods:
        pod.value = "NaN"


def silent(pods: Sequence[Pod]) -> None:
    for pod in pods:
        pod.dead = True


def half(pods: Sequence[Pod]) -> None:
    for number, pod in enumerate(pods):
        pod.dead = number % 2 == 0


def flapping(pods: Sequence[Pod]) -> None:
    """Back for less than a window of rates, again and again."""
    for pod in pods:
        pod.flaps = True


def pods_die_and_their_series_stay(ground: Ground, services: Services, name: str) -> None:
    ground.traffic.add_ghosts((services.namespace, name), PEAK, rate=1.0)
    page(silent)(ground, services, name)


def autoscaler_is_deleted(ground: Ground, services: Services, name: str) -> None:
    before = services.child("HorizontalPodAutoscaler", name)["metadata"]["uid"]
    assert services.delete("HorizontalPodAutoscaler", name).accepted

    def made_again() -> bool:
        found = services.get("HorizontalPodAutoscaler", name)
        return found is not None and found["metadata"]["uid"] != before and found["spec"]["minReplicas"] >= PEAK

    services.until_true("made again with its floor", made_again, seconds=WAIT_SECONDS)
    assert replicas(services, name) >= PEAK


def autoscaler_is_edited(ground: Ground, services: Services, name: str) -> None:
    services.patch("HorizontalPodAutoscaler", {"spec": {"minReplicas": 1, "maxReplicas": 2}}, name)
    until(services, name, "as it was", lambda at, of: floor(at, of) >= PEAK)
    assert services.child("HorizontalPodAutoscaler", name)["spec"]["maxReplicas"] == 6


def maximum_is_lowered(ground: Ground, services: Services, name: str) -> None:
    services.apply(name, scaling=scaling(name, maxReplicas=3))
    until(services, name, "not above the new maximum", lambda at, of: floor(at, of) == 3)
    until(services, name, "pods", lambda at, of: replicas(at, of) == 3)
    until(services, name, "said", lambda at, of: status(at, of).get("limitedBy") == "MaxReplicas")


def nodes_are_full(ground: Ground, services: Services, name: str) -> None:
    """More are asked for, and given up after a while (fifteen minutes of the policy)."""

    def given_up() -> bool:
        told = status(services, name)
        return told["limitedBy"] == "PendingReplicas" and "no node was found" in told["message"]

    services.until_true("given up", given_up, seconds=WAIT_SECONDS)
    until(services, name, "as many as have a node", lambda at, of: floor(at, of) <= 2)


def zone_does_not_exist(ground: Ground, services: Services, name: str) -> None:
    entry = {"name": "day", "timeZone": "Mars/Olympus_Mons", "from": "08:00", "to": "18:00", "maxReplicas": 1}
    services.apply(name, scaling=scaling(name, schedules=[entry]))
    found = services.until("InvalidSpec", name, seconds=WAIT_SECONDS)
    assert "spec.scaling.schedules[0].timeZone" in str(found["status"]["conditions"])


def zone_is_right(ground: Ground, services: Services, name: str) -> None:
    services.apply(name, scaling=scaling(name))


FAULTS = {
    "not-a-number": Fault(page(nan), well, frozenset({"Invalid"})),
    "empty": Fault(page(silent), well, frozenset({"Missing", "Stale"})),
    "half": Fault(page(half), well, frozenset({"Partial"})),
    "ghosts": Fault(pods_die_and_their_series_stay, well, frozenset({"Missing", "Stale", "Partial", "Recovering"})),
    "flapping": Fault(page(flapping), well),
    "no-zone": Fault(zone_does_not_exist, zone_is_right),
    "deleted": Fault(autoscaler_is_deleted, nothing, floor=1),
    "edited": Fault(autoscaler_is_edited, nothing, floor=1),
    "shrunk": Fault(maximum_is_lowered, nothing, floor=1),
    "no-node": Fault(nodes_are_full, nothing, floor=1),
}


@pytest.fixture
def idle_for_days(ground: Ground, services: Services) -> str:
    """A service whose past in Prometheus is three days without a single inference."""
    now = time.time() - 120
    labels = f'namespace="{services.namespace}",pod="idle-0",serving_nereus_dev_service="idle",model="m",version="1"'
    samples = [(now - 60 * minute, 0.0) for minute in range(3 * 1440, 0, -1)]
    ground.traffic.prometheus.stop()
    back_fill(ground.traffic.prometheus.store, {labels: samples}, family="nv_inference_count")
    ground.traffic.prometheus.start()
    return "idle"


def test_no_fault_takes_a_pod_away_and_each_that_passes_lets_them_go(
    ground: Ground, services: Services, idle_for_days: str
) -> None:
    """Also the first hour: every service here is new, and has its full load from the first moment on."""
    traffic = ground.traffic
    with ExitStack() as stack:
        stack.callback(traffic.rates.clear)
        fleet = stack.enter_context(ground.operator("fleet", watch=[services.namespace]))
        stack.callback(ground.no_endpoint, "fleet")

        everyone = ("calm", "advised", *FAULTS)
        for name in everyone:
            traffic.rates[services.namespace, name] = HIGH
            runtime = {"affinity": ANTI_AFFINITY} if name == "no-node" else {}
            services.apply(name, scaling=advice() if name == "advised" else scaling(name), runtime=runtime)
        traffic.rates[services.namespace, idle_for_days] = 0.0
        services.apply(idle_for_days, scaling=scaling(idle_for_days))
        for name in ("calm", *FAULTS):
            if name != "no-node":
                until(services, name, "floor", lambda at, of: floor(at, of) >= PEAK)
                services.until_ready(name, seconds=WAIT_SECONDS)
        until(services, "calm", "why", lambda at, of: "load " in status(at, of).get("message", ""))
        until(services, "advised", "advice", lambda at, of: (status(at, of).get("reactive") or 0) >= PEAK)
        assert re.match(r"advice only: [56] pods: load 4", status(services, "advised")["message"])
        assert "floor" not in status(services, "advised")
        assert (floor(services, "advised"), replicas(services, "advised")) == (1, 1), "nobody asked for more"
        assert floor(services, idle_for_days) == 1

        traffic.rates[services.namespace, idle_for_days] = HIGH
        for name, fault in FAULTS.items():
            fault.cause(ground, services, name)
        for name in everyone:
            traffic.rates[services.namespace, name] = LOW
        until(services, "calm", "lower", lambda at, of: floor(at, of) <= 2)
        until(services, "calm", "pods go", lambda at, of: replicas(at, of) <= 2)
        for name, fault in FAULTS.items():
            assert floor(services, name) >= fault.floor, f"{name}: {services.service(name)['status']}"
            assert replicas(services, name) >= fault.floor, name
        for name, fault in FAULTS.items():
            if fault.reasons:
                until(services, name, "said", told(fault.reasons))
        until(services, idle_for_days, "woken", lambda at, of: floor(at, of) >= PEAK)
        until(services, idle_for_days, "pods come", lambda at, of: replicas(at, of) >= PEAK)

        lasting = [name for name, fault in FAULTS.items() if fault.floor == PEAK]
        before, cleared = changes_of(services, lasting), ground.policy_time(fleet)
        for name, fault in FAULTS.items():
            fault.clear(ground, services, name)
        traffic.rates[services.namespace, idle_for_days] = LOW
        pods_go(services, before, since=cleared)
        for name in (*FAULTS, idle_for_days):
            until(services, name, "lower", lambda at, of: floor(at, of) <= 2)
            until(services, name, "pods go", lambda at, of: replicas(at, of) <= 2)
