"""One service whose world dies piece by piece at its peak: replicas, Prometheus, the metrics API. See
`tests.harness.ground`; one test, because each piece begins where the one before ended.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness.apiserver import eventually
from tests.harness.ground import (
    HIGH,
    LOW,
    PEAK,
    WAIT_SECONDS,
    Ground,
    active,
    bundle,
    changes_of,
    floor,
    metrics_of,
    pods_go,
    replicas,
    scaling,
    status,
    told,
    until,
)
from tests.harness.operator import Operator
from tests.harness.prometheus import Gate
from tests.harness.services import Services

pytestmark = pytest.mark.usefixtures("sidecars")
LATE_SECONDS = 12.0
"""More than the operator waits for Prometheus."""


class Stage:
    """The service `svc`, its load, and the replicas of the operator that are left."""

    def __init__(self, ground: Ground, services: Services, stack: ExitStack) -> None:
        self.ground, self.services = ground, services
        self.gate = Gate(ground.traffic.prometheus.url)
        self._stack = stack
        stack.callback(self.gate.stop)
        stack.callback(ground.traffic.rates.clear)
        stack.callback(ground.set_clock, 0)

    def load(self, rate: float) -> None:
        self.ground.traffic.rates[self.services.namespace, "svc"] = rate

    def replica(self, identity: str) -> Operator:
        """One more; it reads Prometheus through the gate."""
        made = self.ground.operator(identity, prometheus=self.gate.url, watch=[self.services.namespace])
        self._stack.callback(made.kill)
        made.until_ready()
        return made

    def dies(self, replica: Operator) -> None:
        """And with it the process in which it answers the metrics API."""
        answering = replica.children()
        replica.kill()
        eventually(lambda: "its process answers on" if any(map(_runs, answering)) else None, seconds=WAIT_SECONDS)
        self.ground.no_endpoint(replica.identity)

    @property
    def floor(self) -> int:
        return floor(self.services)

    @property
    def replicas(self) -> int:
        return replicas(self.services)

    def stays(self) -> None:
        """Nothing was taken away."""
        assert self.floor >= PEAK
        assert self.replicas >= PEAK

    def is_told(self, reason: str) -> None:
        until(self.services, "svc", reason, told(frozenset({reason})))

    def comes(self) -> None:
        until(self.services, "svc", "floor", lambda at, of: floor(at, of) >= PEAK)
        until(self.services, "svc", "pods come", lambda at, of: replicas(at, of) >= PEAK)

    def served(self) -> int:
        """What an autoscaler reads as the decision; 0 while it reads none."""
        return self.ground.read(self.services) or 0


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.fixture
def stage(ground: Ground, services: Services) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(ground, services, stack)


def test_replicas_and_prometheus_may_die_at_the_peak_and_the_metrics_api_may_be_gone(stage: Stage) -> None:
    stage.load(HIGH)
    stage.services.apply(scaling=scaling("svc"))
    standby = the_leader_dies_and_the_standby_takes_over(stage)
    prometheus_is_late_and_then_something_else(stage)
    the_metrics_api_is_gone_and_back(stage, standby)
    pods_come_without_the_metrics_api(stage, standby)
    another_provider_owns_the_metrics_api(stage, standby)
    last = prometheus_and_every_replica_die(stage, standby)
    prometheus_is_back_under_full_load(stage)
    the_clock_is_set_back_by_a_day(stage, last)


def the_leader_dies_and_the_standby_takes_over(stage: Stage) -> Operator:
    """First the process in which the leader answers the metrics API, which it starts again; then the leader itself."""
    leader = stage.replica("first")
    until(stage.services, "svc", "floor", lambda at, of: floor(at, of) >= PEAK)
    eventually(lambda: None if stage.served() == stage.floor else "not served", seconds=WAIT_SECONDS)
    answering = leader.children()
    for pid in answering:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: None if leader.children() not in ([], answering) else "nobody answers", seconds=WAIT_SECONDS)
    eventually(lambda: None if stage.served() == stage.floor else "not served", seconds=WAIT_SECONDS)
    standby = stage.replica("second")
    assert leader.leads
    stage.dies(leader)
    eventually(lambda: None if stage.served() >= PEAK else "the standby is silent", seconds=WAIT_SECONDS)
    assert stage.floor >= PEAK
    eventually(lambda: None if standby.leads else "the standby does not lead", seconds=WAIT_SECONDS)
    assert stage.floor >= PEAK
    return standby


def prometheus_is_late_and_then_something_else(stage: Stage) -> None:
    stage.gate.delay = LATE_SECONDS
    stage.load(LOW)
    stage.is_told("Slow")
    stage.stays()
    stage.gate.delay, stage.gate.page = 0.0, (200, b"<html>Welcome!</html>")
    stage.is_told("NotPrometheus")
    stage.stays()


def the_metrics_api_is_gone_and_back(stage: Stage, standby: Operator) -> None:
    """Prometheus answers again: what is decided then waits for the API."""
    services = stage.services
    stage.ground.no_endpoint(standby.identity)
    before, cleared = changes_of(services, ["svc"]), stage.ground.policy_time(standby)
    stage.gate.page = None
    until(services, "svc", "lower", lambda at, of: floor(at, of) <= 2)
    until(services, "svc", "the autoscaler is blind", lambda at, of: not active(at, of))
    assert stage.replicas >= PEAK
    stage.ground.endpoint(standby.identity)
    pods_go(services, before, since=cleared)


def pods_come_without_the_metrics_api(stage: Stage, standby: Operator) -> None:
    stage.ground.no_endpoint(standby.identity)
    stage.load(HIGH)
    stage.comes()


def another_provider_owns_the_metrics_api(stage: Stage, standby: Operator) -> None:
    """The floor alone is the decision, and that is said. The autoscaler reads the metric of the service's own spec from
    that other provider."""
    services = stage.services
    stage.ground.serve_as("another", standby.identity)
    stage.load(HIGH)
    until(services, "svc", "said", lambda at, of: "another provider" in at.condition("ScalingActive", of)["message"])
    assert len(metrics_of(services)) == 1
    stage.stays()
    stage.ground.serve_as("nereus", standby.identity)
    until(services, "svc", "the autoscaler reads ours", lambda at, of: len(metrics_of(at, of)) == 2)


def prometheus_and_every_replica_die(stage: Stage, standby: Operator) -> Operator:
    services = stage.services
    stage.ground.traffic.prometheus.kill()
    stage.is_told("Unreachable")
    stage.dies(standby)
    until(services, "svc", "the autoscaler is blind, too", lambda at, of: not active(at, of))
    stage.stays()

    last = stage.replica("third")
    unread = 'nereus_operator_scaling_services{state="Unreachable"}'
    eventually(lambda: None if last.leads and last.metric(unread) == 1 else "no tick yet", seconds=WAIT_SECONDS)
    until(services, "svc", "the autoscaler reads again", active)
    stage.stays()
    return last


def prometheus_is_back_under_full_load(stage: Stage) -> None:
    """The windows of rates are partial first: they say less than the load there is."""
    stage.ground.traffic.prometheus.start()

    def fresh() -> str | None:
        stage.stays()
        available = stage.services.condition("MetricsAvailable")
        return None if available.get("status") == "True" else f"MetricsAvailable is {available}"

    eventually(fresh, seconds=WAIT_SECONDS)
    stage.stays()


def the_clock_is_set_back_by_a_day(stage: Stage, last: Operator) -> None:
    """By which it is to decide."""
    services, certificates = stage.services, bundle(stage.ground.api)
    stage.ground.set_clock(-86_400)
    eventually(lambda: None if "the clock was set" in last.log() else "not noticed", seconds=WAIT_SECONDS)
    stage.stays()
    before, quiet = changes_of(services, ["svc"]), stage.ground.policy_time(last)
    stage.load(LOW)
    pods_go(services, before, since=quiet)
    assert all(change["id"] for change in status(services)["history"])
    eventually(
        lambda: None if bundle(stage.ground.api) != certificates else "no certificate was renewed",
        seconds=WAIT_SECONDS,
    )
    assert b"BEGIN CERTIFICATE" in bundle(stage.ground.api)
