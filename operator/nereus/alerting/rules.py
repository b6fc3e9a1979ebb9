"""Alerts as Prometheus reads them: groups of rules, a PrometheusRule, a rules file.

Three ways to the same alerts: a group per service (beside it, as a PrometheusRule), one group for a whole fleet, and
the operator's own. The title of a group is unique over a cluster, because that is how it is found in Prometheus'
list of loaded rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nereus.alerting import catalogue, operator
from nereus.alerting import conventions as c
from nereus.alerting.alert import Alert
from nereus.alerting.scope import OPERATOR, FleetScope, ServiceScope, promql_duration
from nereus.alerting.thresholds import Thresholds, thresholds
from nereus.api import names
from nereus.api.children import child
from nereus.api.manifests import Manifest
from nereus.api.service import ModelService

Json = dict[str, Any]

API_VERSION = "monitoring.coreos.com/v1"
KIND = "PrometheusRule"
INTERVAL = "1m"
FLEET_GROUP = "nereus/fleet"
OPERATOR_GROUP = "nereus/operator"
NO_LIMITS: Mapping[str, float] = {}


def limits(given: Thresholds) -> dict[str, float]:
    """The threshold of every alert that a service has."""
    return {
        alert.name: value
        for alert in catalogue.ALERTS
        if alert.name not in given.disabled and (value := alert.threshold(given)) is not None
    }


def group_name(namespace: str, name: str) -> str:
    """The title of the group of one service."""
    return f"nereus/{namespace}/{name}"


def service_group(service: ModelService, *, pace: float = 1.0, runbooks: str = names.RUNBOOKS) -> Json:
    """The rules of one service; no rules when all of its alerts are disabled. `pace` below 1 shortens every time of
    the rules by that factor, for tests; `runbooks` is the address below which the pages lie."""
    own = limits(thresholds(service))
    scope = ServiceScope(namespace=service.namespace, name=service.name, limits=own, pace=pace)
    labels = {c.NAMESPACE: service.namespace, "service": service.name, **(service.alerts.labels or {})}
    rules = [
        _rule(
            alert,
            alert.expression(scope),
            labels=labels,
            annotations=service.alerts.annotations or {},
            service=service.key,
            limit=alert.shown(own[alert.name]),
            pace=pace,
            runbooks=runbooks,
        )
        for alert in catalogue.ALERTS
        if alert.name in own
    ]
    return _group(group_name(service.namespace, service.name), rules, pace)


def prometheus_rule(
    service: ModelService, *, labels: Mapping[str, str], pace: float = 1.0, runbooks: str = names.RUNBOOKS
) -> Manifest | None:
    """The PrometheusRule beside a service, or None when there is nothing to alert on. `labels` are what the
    installation's Prometheus selects rules by."""
    group = service_group(service, pace=pace, runbooks=runbooks)
    if not group["rules"]:
        return None
    manifest = child(service, api_version=API_VERSION, kind=KIND, spec={"groups": [group]})
    manifest["metadata"]["labels"] = {**labels, **manifest["metadata"]["labels"]}
    return manifest


def fleet_group(*, pace: float = 1.0, runbooks: str = names.RUNBOOKS) -> Json:
    """One set of rules for every service, joined to the thresholds that the operator exports."""
    scope = FleetScope(pace=pace)
    renamed = f"max by ({c.ALERT}, {OPERATOR}) ({c.THRESHOLD})"
    for label, source in ((c.NAMESPACE, c.SERVICE_NAMESPACE), (c.POD_SERVICE, c.SERVICE)):
        renamed = f'label_replace({renamed}, "{label}", "$1", "{source}", "(.+)")'
    rules: list[Json] = [{"record": c.THRESHOLD_RECORD, "expr": renamed}]
    for alert in catalogue.ALERTS:
        namespace, name = (c.NAMESPACE, c.POD_SERVICE) if alert.from_pods else (c.SERVICE_NAMESPACE, c.SERVICE)
        labels = {c.NAMESPACE: f"{{{{ $labels.{namespace} }}}}", "service": f"{{{{ $labels.{name} }}}}"}
        rules.append(
            _rule(
                alert,
                alert.expression(scope),
                labels=labels,
                annotations={},
                service=f"{labels[c.NAMESPACE]}/{labels['service']}",
                limit="what the service sets",
                pace=pace,
                runbooks=runbooks,
            )
        )
    return _group(FLEET_GROUP, rules, pace)


def operator_group(*, pace: float = 1.0, runbooks: str = names.RUNBOOKS) -> Json:
    """The rules about the operator itself."""
    rules = [
        _ordered(
            alert.name,
            alert.expression,
            for_seconds=alert.for_seconds * pace,
            keep_seconds=alert.keep_seconds * pace,
            labels={"severity": alert.severity.value, "component": "nereus-operator"},
            annotations=_annotations(alert.name, alert.summary, alert.description, runbooks),
        )
        for alert in operator.ALERTS
    ]
    return {"name": OPERATOR_GROUP, "rules": rules}


def _group(name: str, rules: list[Json], pace: float) -> Json:
    """Evaluated once a minute, whatever the Prometheus does otherwise: no alert here is urgent to the quarter of a
    minute, and the cost of thousands of services is what it is multiplied with. Tests keep the server's own pace."""
    return {"name": name, **({"interval": INTERVAL} if pace == 1 else {}), "rules": rules}


def rules_file(*groups: Json) -> Json:
    """What a Prometheus without prometheus-operator reads from a file."""
    return {"groups": [group for group in groups if group["rules"]]}


def _rule(
    alert: Alert,
    expression: str,
    *,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    service: str,
    limit: str,
    pace: float,
    runbooks: str,
) -> Json:
    def filled(text: str) -> str:
        return text.replace("{service}", service).replace("{limit}", limit)

    return _ordered(
        alert.name,
        expression,
        for_seconds=alert.for_seconds * pace,
        keep_seconds=alert.keep_seconds * pace,
        labels={"severity": alert.severity.value, **labels},
        annotations={
            **annotations,
            **_annotations(alert.name, filled(alert.summary), filled(alert.description), runbooks),
        },
    )


def _annotations(name: str, summary: str, description: str, runbooks: str) -> dict[str, str]:
    return {"summary": summary, "description": description, "runbook_url": f"{runbooks.rstrip('/')}/{name}.md"}


def _ordered(
    name: str,
    expression: str,
    *,
    for_seconds: float,
    keep_seconds: float,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
) -> Json:
    """One rule, its fields in the order in which people read them; times of zero are left out, as Prometheus does."""
    rule: Json = {"alert": name, "expr": expression}
    if for_seconds:
        rule["for"] = promql_duration(max(1, for_seconds))
    if keep_seconds:
        rule["keep_firing_for"] = promql_duration(max(1, keep_seconds))
    return {**rule, "labels": dict(labels), "annotations": dict(annotations)}
