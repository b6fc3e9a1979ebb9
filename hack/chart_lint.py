"""Checks the chart as an installer would meet it: helm's own lint, every rendered object against Kubernetes' schemas,
what a security reviewer asks of objects and Dockerfiles (manifest_checks), and what kube-score says of the chart and of
what services become.

Each case is a set of values that renders other templates. What has no schema here (kinds of other projects) is named,
not skipped silently. Needs the local cluster's helm, and kube-score; both are built when they are missing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate

from hack import kube_score, manifest_checks, quick_yaml
from hack.kubernetes_types import KUBERNETES_VERSION
from localcluster import build
from localcluster.report import Progress, Refusal
from nereus.api import names

Json = dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "nereus"
FOREIGN_KINDS = {
    ("monitoring.coreos.com/v1", "PodMonitor"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
    ("monitoring.coreos.com/v1alpha1", "AlertmanagerConfig"),
}
"""Kinds of other projects, for which Kubernetes has no schema."""


@dataclass(frozen=True)
class Case:
    """Values of an installation, and kinds that must be there or must not. `asked_for` are checks of a reviewer that
    these values, and no others, put aside."""

    what: str
    arguments: tuple[str, ...] = ()
    present: tuple[str, ...] = ("Deployment", "CustomResourceDefinition", "ServiceAccount")
    absent: tuple[str, ...] = ()
    asked_for: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tools:
    """Programs that are needed."""

    helm: Path
    kube_score: Path


@dataclass
class Found:
    """What both reviewers say, over all cases; kube-score's with whose objects they are about."""

    checks: list[manifest_checks.Finding] = field(default_factory=list)
    scores: list[tuple[str, kube_score.Remark]] = field(default_factory=list)


CASES = (
    Case("the default values", present=("Deployment", "CustomResourceDefinition", "ServiceAccount", "ClusterRole")),
    Case("without the definition", ("--set", "crds.install=false"), ("Deployment",), ("CustomResourceDefinition",)),
    Case("one watched namespace", ("--set", "watchNamespaces={team-a}"), ("Deployment", "Role", "RoleBinding")),
    Case(
        "network policies",
        (
            *("--set", "networkPolicy.enabled=true,networkPolicy.apiServerCIDR=192.0.2.1/32"),
            *("--set-json", 'networkPolicy.metricsFrom=[{"namespaceSelector":{}}]'),
            *("--set-json", 'networkPolicy.extraEgress=[{"ports":[{"port":9090}]}]', "--set", "gpu.agent.enabled=true"),
        ),
        ("Deployment", "DaemonSet", "NetworkPolicy"),
    ),
    Case(
        "recording rules without alerts",
        ("--set", "recordingRules=true", "--set", "alerts.rules=None", "--set", "alerts.install=ConfigMap"),
        ("ConfigMap",),
        ("PrometheusRule",),
    ),
    Case("the GPU agent", ("--set", "gpu.agent.enabled=true"), ("DaemonSet", "Service"), ("PodMonitor",)),
    Case(
        "the GPU agent inside MIG slices, watched by prometheus-operator",
        ("--set", "gpu.agent.enabled=true,gpu.agent.migMonitor=true,gpu.agent.runtimeClassName=nvidia,podMonitor=true"),
        ("DaemonSet", "Service", "PodMonitor"),
        # NVIDIA's container runtime shows processes inside slices to root with this capability only.
        asked_for=("non-root", "user", "capabilities", "container-security-context-user-group-id"),
    ),
    Case(
        "a Prometheus",
        ("--set", "prometheus.url=http://prometheus.monitoring:9090"),
        ("APIService", "Service", "ConfigMap"),
    ),
    Case(
        "a Prometheus and another provider of external metrics",
        ("--set", "prometheus.url=http://prometheus.monitoring:9090", "--set", "externalMetrics.enabled=false"),
        absent=("APIService", "Service", "ConfigMap"),
    ),
    Case(
        "a Prometheus and rights in one namespace",
        ("--set", "prometheus.url=http://p:9090", "--set", "watchNamespaces={team-a}"),
        absent=("APIService", "ClusterRoleBinding"),
    ),
    Case("one replica", ("--set", "replicas=1")),
    Case("a PodMonitor", ("--set", "podMonitor=true"), ("PodMonitor",)),
    Case(
        "a cluster with prometheus-operator", ("--api-versions", "monitoring.coreos.com/v1/PodMonitor"), ("PodMonitor",)
    ),
    Case(
        "rules where the cluster has prometheus-operator",
        ("--api-versions", "monitoring.coreos.com/v1/PrometheusRule", "--set", "alerts.rules=Fleet"),
        ("PrometheusRule",),
    ),
    Case(
        "rules for a plain Prometheus",
        ("--set", "alerts.install=ConfigMap", "--set", "alerts.ruleLabels.release=monitoring"),
        ("ConfigMap",),
        ("PrometheusRule",),
    ),
    Case(
        "notifications through AlertmanagerConfig",
        (
            *(
                "--api-versions",
                "monitoring.coreos.com/v1alpha1/AlertmanagerConfig",
                "--set",
                "notifications.slack.channel=#a",
            ),
            *("--set", "notifications.namespaces={team-a,team-b}", "--set", "notifications.webhook.url=http://hook"),
        ),
        ("AlertmanagerConfig",),
    ),
    Case(
        "notifications for a plain Alertmanager, and dashboards",
        (
            *("--set", "notifications.install=ConfigMap", "--set", "notifications.email.to=a@example.com"),
            *("--set", "notifications.email.from=b@example.com", "--set", "notifications.email.smarthost=mail:25"),
            *("--set", "dashboards.install=true"),
        ),
        ("ConfigMap",),
        ("AlertmanagerConfig",),
    ),
    Case(
        "no alerts",
        ("--set", "alerts.rules=None", "--set", "alerts.install=PrometheusRule"),
        absent=("PrometheusRule",),
    ),
)
WRONG_VALUES = (
    "gpu.agent.privileged=true",
    "replicas=many",
    "noSuchValue=1",
    "podMonitor=perhaps",
    "alerts.rules=Sometimes",
    "alerts.pace=2",
    "notifications.email.to=nobody",
    "notifications.webhook.url=ftp://x",
    "prometheus.url=prometheus:9090",
)


def main() -> int:
    try:
        tools = Tools(
            helm=build.ensure_binaries(progress=Progress()) / "helm",
            kube_score=build.ensure_module(build.KUBE_SCORE, progress=Progress()) / "kube-score",
        )
    except Refusal as refusal:
        print(f"ERROR: helm and kube-score are needed to check the chart: {refusal}", file=sys.stderr)
        return 1
    problems = list(_problems(tools))
    for problem in problems:
        print(f"ERROR: {problem}", file=sys.stderr)
    print(f"chart: {len(CASES)} sets of values rendered, {len(problems)} problems")
    return 1 if problems else 0


def _problems(tools: Tools) -> Iterator[str]:
    linted = _run(tools.helm, "lint", "--strict", "--quiet", CHART)
    if linted.returncode != 0:
        yield f"helm lint: {linted.stdout}{linted.stderr}"
    found = Found()
    for case in CASES:
        yield from (f"{case.what}: {problem}" for problem in _case_problems(tools, case, found))
    for path in sorted((ROOT / "images").glob("*/Dockerfile")):
        said = manifest_checks.dockerfile(path.read_text(encoding="utf-8"))
        found.checks += [(check, f"{path.parent.name}: {what}") for check, what in said]
    for path in sorted((ROOT / "tests" / "golden" / "expected").glob("*.yaml")):
        remarks = kube_score.remarks(tools.kube_score, path.read_text(encoding="utf-8"))
        found.scores += [("service", remark) for remark in remarks]
    yield from dict.fromkeys(manifest_checks.unexplained(found.checks))
    yield from kube_score.unexplained(found.scores)
    for value in WRONG_VALUES:
        if _run(tools.helm, "template", "nereus", CHART, "--set", value).returncode == 0:
            yield f"--set {value} is accepted: values.schema.json must refuse it"


def _case_problems(tools: Tools, case: Case, found: Found) -> Iterator[str]:
    rendered = _run(tools.helm, "template", "nereus", CHART, "--namespace", "nereus-system", *case.arguments)
    if rendered.returncode != 0:
        yield f"helm template: {rendered.stderr.strip()}"
        return
    objects = quick_yaml.load_all(rendered.stdout)
    kinds = {document["kind"] for document in objects}
    yield from (f"no {kind} is rendered" for kind in case.present if kind not in kinds)
    yield from (f"a {kind} is rendered" for kind in case.absent if kind in kinds)
    found.checks += [said for said in manifest_checks.objects(objects) if said[0] not in case.asked_for]
    remarks = kube_score.remarks(tools.kube_score, rendered.stdout)
    found.scores += [("chart", remark) for remark in remarks if remark.check not in case.asked_for]
    for document in objects:
        yield from _object_problems(document)
    if "NetworkPolicy" in case.present and f"port: {names.SIDECAR_PORT}," not in rendered.stdout:
        yield f"the NetworkPolicy does not let the operator reach the sidecars on port {names.SIDECAR_PORT}"


def _object_problems(document: Json) -> Iterator[str]:
    name = f"{document['kind']} {document['metadata']['name']}"
    if (document["apiVersion"], document["kind"]) in FOREIGN_KINDS:
        print(f"chart: {name} has no schema here; its CRD checks it when it is installed")
        return
    if document["kind"] == "CustomResourceDefinition":
        yield from _definition_problems(document)
    yield from (f"{name}: {problem}" for problem in _schema_problems(json.dumps(document)))


@cache
def _schema_problems(manifest: str) -> tuple[str, ...]:
    """What Kubernetes' own schema refuses; most objects are the same under most values."""
    try:
        kubernetes_validate.validate(json.loads(manifest), KUBERNETES_VERSION.removeprefix("v"), strict=True)
    except kubernetes_validate.ValidationError as error:
        return (f"{'.'.join(map(str, error.path))}: {error.message}",)
    except kubernetes_validate.SchemaNotFoundError as error:
        return (str(error.message),)
    return ()


@cache
def _definition() -> Json:
    found: Json = quick_yaml.load((ROOT / "crds" / "modelservices.yaml").read_text(encoding="utf-8"))
    return found


def _definition_problems(document: Json) -> Iterator[str]:
    """The rendered definition is the one of crds/, kept when the chart is removed."""
    annotations = document["metadata"].pop("annotations", {})
    if annotations.get("helm.sh/resource-policy") != "keep":
        yield "the definition lacks helm.sh/resource-policy: keep, so removing the chart would remove every service"
    if document != _definition():
        yield "the rendered definition is not that of crds/modelservices.yaml: run `make generate`"
    document["metadata"]["annotations"] = annotations


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


if __name__ == "__main__":
    sys.exit(main())
