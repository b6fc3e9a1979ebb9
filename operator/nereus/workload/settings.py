"""What the operator's installation decides for every service: images and how they are pulled."""

from __future__ import annotations

from dataclasses import dataclass

from nereus.api.names import RUNBOOKS
from nereus.api.spec.scaling import Strategy


@dataclass(frozen=True, kw_only=True)
class Settings:
    """From the chart's values, through the operator's environment.

    `triton_image` is empty when the installation has no default; then `spec.runtime.image` is required.
    `pod_monitor` says whether the cluster knows the PodMonitor kind (scrape annotations are used otherwise),
    `prometheus_rule` the same of PrometheusRule. `alert_rules` is Service (rules beside each service), Fleet (one set
    of rules, made elsewhere; thresholds as metrics) or None. `rule_labels` are put on PodMonitors and PrometheusRules,
    for the selectors of the cluster's Prometheus. `alert_pace` below 1 shortens every time of the rules, for tests.
    `runbooks` is the address below which the pages of the alerts are found.
    `predictive`: a Prometheus address is configured, so services that name no strategy are Predictive from now on.
    `external_metrics`: autoscalers can read Nereus's decisions through the External Metrics API.
    `hpa_tolerance`: the API server knows `behavior.*.tolerance` of autoscalers (Kubernetes 1.35 and later).
    """

    sidecar_image: str
    triton_image: str = ""
    sidecar_pull_policy: str = "IfNotPresent"
    pod_monitor: bool = False
    prometheus_rule: bool = False
    alert_rules: str = "Service"
    rule_labels: tuple[tuple[str, str], ...] = ()
    alert_pace: float = 1.0
    runbooks: str = RUNBOOKS
    predictive: bool = False
    external_metrics: bool = False
    hpa_tolerance: bool = False


def absent_strategy(settings: Settings) -> Strategy:
    """What a new service that names no strategy gets."""
    return Strategy.PREDICTIVE if settings.predictive else Strategy.METRICS
