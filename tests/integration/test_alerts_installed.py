"""AlertsInstalled on a real API server with a real Prometheus: what comes, goes, is refused or selected by nobody.

The test plays prometheus-operator (it copies rules from the API into Prometheus' file), because that one needs a
kubelet; with it the same is shown by `make bench BENCH=alerts`. NEREUS_HURRY shortens the operator's patience.
"""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from localcluster.packages import ensure_tools
from localcluster.report import Progress
from tests.harness import monitoringkinds
from tests.harness.apiserver import Api, Json, eventually
from tests.harness.operator import Operator
from tests.harness.prometheus import Prometheus
from tests.harness.services import Services

pytestmark = [pytest.mark.usefixtures("sidecars"), pytest.mark.timeout(600)]

SECONDS = 120.0
"""For each thing that has to come; most take two or three."""
POLICY = "nereus-test-refuses-rules"
ADMISSION = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic"


class World:
    """A service, its PrometheusRule, and the Prometheus that may or may not read it."""

    def __init__(self, services: Services, prometheus: Prometheus, file: Path) -> None:
        self.services = services
        self.prometheus = prometheus
        self.file = file

    def rule(self) -> Json | None:
        return monitoringkinds.rule(self.services.api, self.services.namespace)

    def until(self, status: str, reason: str) -> str:
        """Waits for the condition; returns its message."""

        def lack() -> str | None:
            found = self.services.condition("AlertsInstalled")
            return None if (found.get("status"), found.get("reason")) == (status, reason) else f"{found}"

        eventually(lack, seconds=SECONDS)
        return str(self.services.condition("AlertsInstalled")["message"])

    def until_rule(self, holds: str) -> Json:
        """Waits for a rule of the service with these words in it."""
        self.services.until_true(f"a rule with {holds!r}", lambda: holds in str(self.rule()), seconds=SECONDS)
        found = self.rule()
        assert found is not None
        return found

    def sync(self) -> None:
        """What prometheus-operator does."""
        self.file.write_text(yaml.safe_dump(self.until_rule("NereusLatencyHigh")["spec"]))
        urllib.request.urlopen(
            urllib.request.Request(f"{self.prometheus.url}/-/reload", method="POST"), timeout=60
        ).close()

    def refuse_rules(self, api: Api) -> None:
        """The API server refuses every write of a PrometheusRule in this namespace from now on."""
        rules = {"apiGroups": [monitoringkinds.GROUP], "apiVersions": ["v1"], "resources": ["prometheusrules"]}
        validation = {"expression": "false", "message": "no rules today, says the platform team"}
        policy = {
            "metadata": {"name": POLICY},
            "spec": {
                "matchConstraints": {"resourceRules": [{**rules, "operations": ["CREATE", "UPDATE"]}]},
                "validations": [validation],
            },
        }
        own = {"matchLabels": {"kubernetes.io/metadata.name": self.services.namespace}}
        binding = {
            "metadata": {"name": POLICY},
            "spec": {"policyName": POLICY, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": own}},
        }
        for kind, body in (("ies", policy), ("ybindings", binding)):
            answer = api.request("POST", f"{ADMISSION}{kind}", body)
            assert answer.accepted, answer.message
        probe = {
            "apiVersion": f"{monitoringkinds.GROUP}/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "probe", "namespace": self.services.namespace},
        }
        path = f"/apis/{monitoringkinds.GROUP}/v1/namespaces/{self.services.namespace}/prometheusrules?dryRun=All"
        eventually(
            lambda: None if not api.request("POST", path, probe).accepted else "rules are still allowed",
            seconds=SECONDS,
        )


@pytest.fixture
def no_policy(api: Api) -> Iterator[None]:
    yield
    allow_rules(api)


def allow_rules(api: Api) -> None:
    for kind in ("ybindings", "ies"):
        api.request("DELETE", f"{ADMISSION}{kind}/{POLICY}")


@pytest.fixture
def world(api: Api, services: Services, tmp_path: Path) -> Iterator[World]:
    ensure_tools("prometheus", "promtool", progress=Progress())
    file = tmp_path / "rules.yml"
    file.write_text("groups: []\n")
    with Prometheus(tmp_path / "prometheus", rule_files=(file,)) as prometheus:
        variables = {"NEREUS_PROMETHEUS_URL": prometheus.url, "NEREUS_HURRY": "60"}
        with Operator(
            api.kubeconfig,
            lease_namespace=services.namespace,
            identity="op",
            log=tmp_path / "log",
            watch=(services.namespace,),
            variables=variables,
            forked=True,
        ):
            yield World(services, prometheus, file)


@pytest.fixture
def no_kinds_left(api: Api) -> Iterator[None]:
    yield
    monitoringkinds.remove(api, tuple(f"{kind.lower()}s.{monitoringkinds.GROUP}" for kind in monitoringkinds.KINDS))


def explained(api: Api, world: World) -> str:
    """What `nereus explain` prints; it must end with 0."""
    command = [sys.executable, "-m", "nereus", "explain", "svc", "-n", world.services.namespace]
    done = subprocess.run(
        [*command, "--kubeconfig", str(api.kubeconfig), "--prometheus", world.prometheus.url],
        env={**os.environ, "PYTHONPATH": "operator"},
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.usefixtures("no_kinds_left", "no_policy")
def test_whether_alerts_would_fire_is_told_whatever_happens_to_the_rules(api: Api, world: World) -> None:
    services, scaling = world.services, {"strategy": "Metrics", "maxReplicas": 2}
    services.apply(scaling=scaling)
    services.until_ready(seconds=SECONDS)
    assert "no kind PrometheusRule" in world.until("False", "NoRuleKind")

    # prometheus-operator is installed while we run: the rules are there within its patience; nobody selects them.
    kinds = monitoringkinds.install(api)
    world.until_rule("NereusLatencyHigh")
    assert "nobody selects PrometheusRule svc" in world.until("False", "RulesNotLoaded")
    world.sync()
    world.until("True", "RulesLoaded")
    assert "none is firing" in explained(api, world)

    # Prometheus is cut off: nothing is known, and the rules stay as they were.
    before = world.until_rule("NereusLatencyHigh")["metadata"]["resourceVersion"]
    world.prometheus.kill()
    assert world.prometheus.url in world.until("Unknown", "RulesUnverified")
    assert world.until_rule("NereusLatencyHigh")["metadata"]["resourceVersion"] == before
    assert services.condition()["reason"] == "Serving"
    world.prometheus.start()
    world.until("True", "RulesLoaded")

    # The API server refuses the new rules: its words are told, the old ones stay, and they follow when it accepts them.
    world.refuse_rules(api)
    services.apply(scaling=scaling, alerts={"latency": "250ms"})
    assert "no rules today" in world.until("False", "RulesRefused")
    assert world.until_rule("NereusLatencyHigh")["metadata"]["resourceVersion"] == before
    assert services.condition()["reason"] == "Serving", "a service serves without its alerts"
    allow_rules(api)
    world.until_rule("is 250 ms")
    # What Prometheus has loaded is still the old text.
    assert "NereusLatencyHigh" in world.until("False", "RulesNotLoaded")
    world.sync()
    world.until("True", "RulesLoaded")

    # prometheus-operator is uninstalled, with every rule, and comes back.
    monitoringkinds.remove(api, kinds)
    world.until("False", "NoRuleKind")
    assert services.condition()["reason"] == "Serving"
    monitoringkinds.install(api)
    world.until_rule("is 250 ms")
    world.until("True", "RulesLoaded")

    # Meanwhile the autoscaler had time enough to read the pods' CPU, which nothing serves here: that is told, too.
    def blind() -> str | None:
        active = services.condition("ScalingActive")
        told = (active.get("status"), active.get("reason")) == ("False", "MetricsUnavailable")
        return None if told and "unable to get metrics for resource cpu" in active["message"] else str(active)

    eventually(blind, seconds=SECONDS)
    assert services.condition()["reason"] == "Serving", "a blind autoscaler takes no pod away"
