"""What the operator is told at its start: flags, each with an environment variable that the chart sets."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nereus.api.names import RUNBOOKS
from nereus.gpu.eviction import GRACE_SECONDS
from nereus.prometheus import options as prometheus
from nereus.workload.settings import Settings

DEFAULT_NAMESPACE = "nereus-system"


@dataclass(frozen=True, kw_only=True)
class Options:
    """`watch_namespaces` is empty for all; `namespace` holds the Lease. `external_metrics_port` is 0 where the External
    Metrics API is not served."""

    settings: Settings
    namespace: str
    identity: str
    watch_namespaces: tuple[str, ...]
    http_host: str
    http_port: int
    workers: int
    log_level: str
    log_format: str
    prometheus: prometheus.Options
    external_metrics_port: int
    external_metrics_service: str
    external_metrics_config_map: str
    gpu_agents: str = ""
    gpu_evict_after: float = GRACE_SECONDS


def parse(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> Options:
    """Raises SystemExit with a usage line when something is wrong or missing."""

    def variable(name: str, default: str = "") -> str:
        return environment.get(f"NEREUS_{name}", default)

    parser = argparse.ArgumentParser(prog="nereus run", description="Run the operator.", allow_abbrev=False)
    add = parser.add_argument
    add("--sidecar-image", default=variable("SIDECAR_IMAGE"), help="image of the sidecar [NEREUS_SIDECAR_IMAGE]")
    add("--sidecar-pull-policy", default=variable("SIDECAR_PULL_POLICY", "IfNotPresent"))
    add("--triton-image", default=variable("TRITON_IMAGE"), help="image of services that name none; empty: they must")
    add("--namespace", default=variable("NAMESPACE", DEFAULT_NAMESPACE), help="namespace of the operator's Lease")
    add(
        "--identity",
        default=variable("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}",
        help="holder of the Lease",
    )
    add("--watch-namespaces", default=variable("WATCH_NAMESPACES"), help="comma-separated; empty: all")
    add(
        "--alert-rules",
        default=variable("ALERT_RULES", "Service"),
        choices=["Service", "Fleet", "None"],
        help="Service: a PrometheusRule beside each service; Fleet: thresholds as metrics, for one set of rules",
    )
    add("--alert-pace", type=float, default=variable("ALERT_PACE", "1"), help="below 1: shorter times, for tests")
    add("--rule-labels", default=variable("RULE_LABELS"), help="NAME=VALUE,... on PodMonitors and PrometheusRules")
    add(
        "--runbooks",
        metavar="URL",
        default=variable("RUNBOOKS") or RUNBOOKS,
        help="address below which the pages of the alerts lie [%(default)s]",
    )
    add("--http-host", default=variable("HTTP_HOST"), help="address of /healthz, /readyz and /metrics; empty: all")
    add("--http-port", type=int, default=variable("HTTP_PORT", "8080"))
    add("--gpu-agents", default=variable("GPU_AGENTS"), help="HOST:PORT of the GPU agents' Service; empty: none")
    add(
        "--gpu-evict-after",
        type=float,
        default=variable("GPU_EVICT_AFTER", f"{GRACE_SECONDS:g}"),
        help="seconds that a pod may be above its GPU memory limit before onExceed: Evict evicts it",
    )
    add("--workers", type=int, default=variable("WORKERS", "16"), help="services that are looked at at the same time")
    add("--log-level", default=variable("LOG_LEVEL", "info"), choices=["debug", "info", "warning", "error"])
    add("--log-format", default=variable("LOG_FORMAT", "auto"), choices=["auto", "json", "text"])
    add(
        "--external-metrics-port",
        type=int,
        default=variable("EXTERNAL_METRICS_PORT", "0"),
        help="port of the External Metrics API; 0: not served, and decisions reach autoscalers by their floor alone",
    )
    add(
        "--external-metrics-service",
        default=variable("EXTERNAL_METRICS_SERVICE", "nereus"),
        help="Service that the APIService names",
    )
    add(
        "--external-metrics-config-map",
        default=variable("EXTERNAL_METRICS_CONFIG_MAP", "nereus-external-metrics"),
        help="ConfigMap in which the replicas publish their certificates",
    )
    prometheus.add_arguments(parser, variable)
    given = parser.parse_args(argv)
    try:
        metrics = prometheus.from_arguments(given)
    except prometheus.OptionsError as error:
        parser.error(str(error))
    if not given.sidecar_image:
        parser.error("--sidecar-image (or NEREUS_SIDECAR_IMAGE) is required: every pod runs it beside Triton")
    if given.gpu_agents and not given.gpu_agents.rpartition(":")[2].isdigit():
        parser.error(f"--gpu-agents {given.gpu_agents}: write HOST:PORT")
    if given.workers < 1:
        parser.error(f"--workers {given.workers}: at least 1 is needed")
    if not 0.001 <= given.alert_pace <= 1:
        parser.error(f"--alert-pace {given.alert_pace}: a number from 0.001 to 1 is needed")
    labels = tuple(tuple(entry.split("=", 1)) for entry in given.rule_labels.split(",") if entry)
    if any(len(label) != 2 or not label[0] for label in labels):
        parser.error(f"--rule-labels {given.rule_labels!r}: NAME=VALUE,NAME=VALUE is needed")
    return Options(
        settings=Settings(
            sidecar_image=given.sidecar_image,
            triton_image=given.triton_image,
            sidecar_pull_policy=given.sidecar_pull_policy,
            alert_rules=given.alert_rules,
            alert_pace=given.alert_pace,
            runbooks=given.runbooks,
            rule_labels=tuple((label[0], label[1]) for label in labels),
            predictive=bool(metrics.address),
        ),
        namespace=given.namespace,
        identity=given.identity,
        watch_namespaces=tuple(filter(None, (name.strip() for name in given.watch_namespaces.split(",")))),
        http_host=given.http_host,
        http_port=given.http_port,
        workers=given.workers,
        log_level=given.log_level,
        log_format=given.log_format,
        gpu_agents=given.gpu_agents,
        gpu_evict_after=given.gpu_evict_after,
        prometheus=metrics,
        external_metrics_port=given.external_metrics_port,
        external_metrics_service=given.external_metrics_service,
        external_metrics_config_map=given.external_metrics_config_map,
    )
