"""What a fresh API server is given: name server, metrics API, the rights of Prometheus. Rendered, not applied.

Nothing here knows about Nereus; it is what any small cluster has.
"""

from __future__ import annotations

import json
from typing import Any

from localcluster.components import METRICS_SERVER_PORT, POD_TARGETS
from localcluster.config import Cluster

Manifest = dict[str, Any]
COREDNS_IMAGE = "localhost/coredns:local"
SCRAPE_SECONDS = 5

# No upstream: the cluster has no outside, so every other name is answered at once instead of timing out.
COREFILE = """.:53 {
    errors
    health
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods verified
        ttl 5
        fallthrough in-addr.arpa ip6.arpa
    }
    template ANY ANY . {
        rcode NXDOMAIN
    }
    cache 5
    reload
}
"""


def addons(cluster: Cluster) -> list[Manifest]:
    """Everything that is applied to a cluster with a real node."""
    return [*_coredns(cluster), *_metrics_server(cluster), *_prometheus()]


def _metadata(name: str, namespace: str | None = None, **labels: str) -> Manifest:
    metadata: Manifest = {"name": name, "labels": {"app.kubernetes.io/part-of": "nereus-localcluster", **labels}}
    return {**metadata, "namespace": namespace} if namespace else metadata


def _cluster_role(name: str, *rules: tuple[list[str], list[str], list[str]]) -> Manifest:
    content = [{"apiGroups": groups, "resources": resources, "verbs": verbs} for groups, resources, verbs in rules]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": _metadata(name),
        "rules": content,
    }


def _bind(name: str, role: str, subject: Manifest, *, namespace: str | None = None) -> Manifest:
    """Bind a ClusterRole everywhere, or a Role of one namespace when it is given."""
    kind = "Role" if namespace else "ClusterRole"
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": f"{kind}Binding",
        "metadata": _metadata(name, namespace),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [subject],
    }


def _user(name: str) -> Manifest:
    return {"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"}


def _coredns(cluster: Cluster) -> list[Manifest]:
    account = {"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata("coredns", "kube-system")},
        _cluster_role(
            "nereus-local:coredns",
            ([""], ["services", "pods", "namespaces"], ["list", "watch"]),
            (["discovery.k8s.io"], ["endpointslices"], ["list", "watch"]),
        ),
        _bind("nereus-local:coredns", "nereus-local:coredns", account),
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _metadata("coredns", "kube-system"),
            "data": {"Corefile": COREFILE},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _metadata("kube-dns", "kube-system", **{"k8s-app": "kube-dns"}),
            "spec": {"clusterIP": cluster.addresses.dns, "selector": {"k8s-app": "kube-dns"}, "ports": ports},
        },
        _coredns_deployment(cluster),
    ]


def _coredns_deployment(cluster: Cluster) -> Manifest:
    labels = {"k8s-app": "kube-dns"}
    container = {
        "name": "coredns",
        "image": COREDNS_IMAGE,
        "imagePullPolicy": "Never",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": [
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "40Mi"}, "limits": {"memory": "170Mi"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "livenessProbe": {"httpGet": {"path": "/health", "port": 8080}, "initialDelaySeconds": 30},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        },
    }
    pod = {
        "serviceAccountName": "coredns",
        "priorityClassName": "system-cluster-critical",
        "dnsPolicy": "Default",
        # KWOK nodes would only pretend to run it.
        "nodeSelector": {"kubernetes.io/hostname": cluster.node_name},
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata("coredns", "kube-system", **labels),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _metrics_server(cluster: Cluster) -> list[Manifest]:
    """The API registration of a process that is not a pod: a service without a selector and its address."""
    user = _user("nereus-local:metrics-server")
    port = {"name": "https", "port": METRICS_SERVER_PORT, "protocol": "TCP"}
    return [
        _cluster_role(
            "nereus-local:metrics-server",
            ([""], ["nodes/metrics"], ["get"]),
            ([""], ["pods", "nodes"], ["get", "list", "watch"]),
        ),
        _bind("nereus-local:metrics-server", "nereus-local:metrics-server", user),
        _bind("nereus-local:metrics-server-auth", "system:auth-delegator", user),
        _bind(
            "nereus-local:metrics-server-auth",
            "extension-apiserver-authentication-reader",
            user,
            namespace="kube-system",
        ),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _metadata("metrics-server", "kube-system"),
            "spec": {"ports": [{"name": "https", "port": 443, "targetPort": METRICS_SERVER_PORT, "protocol": "TCP"}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": _metadata("metrics-server", "kube-system", **{"kubernetes.io/service-name": "metrics-server"}),
            "addressType": "IPv4",
            "ports": [port],
            "endpoints": [{"addresses": [cluster.addresses.node], "conditions": {"ready": True}}],
        },
    ]


def metrics_api(authority_base64: str) -> Manifest:
    """The registration, which comes last: while it is there and nothing answers, no namespace can be deleted."""
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": _metadata("v1beta1.metrics.k8s.io"),
        "spec": {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "caBundle": authority_base64,
            "service": {"name": "metrics-server", "namespace": "kube-system", "port": 443},
        },
    }


def _prometheus() -> list[Manifest]:
    """What Prometheus and its discovery may read: where the pods are, and the metrics of nodes."""
    role = _cluster_role(
        "nereus-local:prometheus",
        ([""], ["pods"], ["list", "watch"]),
        ([""], ["nodes/metrics"], ["get"]),
    )
    role["rules"].append({"nonResourceURLs": ["/metrics"], "verbs": ["get"]})
    return [role, _bind("nereus-local:prometheus", "nereus-local:prometheus", _user("nereus-local:prometheus"))]


def prometheus_config(cluster: Cluster) -> str:
    """Prometheus' configuration (JSON is YAML): pods as `discovery` finds them, container metrics, the API server."""
    tls = {
        "ca_file": str(cluster.pki("ca.crt")),
        "cert_file": str(cluster.pki("prometheus.crt")),
        "key_file": str(cluster.pki("prometheus.key")),
    }
    kubelet = {
        "scheme": "https",
        "tls_config": tls,
        "static_configs": [_target(cluster, 10250, node=cluster.node_name)],
    }
    jobs: list[Manifest] = [
        {"job_name": "kubelet", **kubelet},
        {"job_name": "cadvisor", "metrics_path": "/metrics/cadvisor", **kubelet},
        {"job_name": "apiserver", "scheme": "https", "tls_config": tls, "static_configs": [_target(cluster, 6443)]},
        {"job_name": "prometheus", "static_configs": [_target(cluster, 9090)]},
        {"job_name": "pods", "file_sd_configs": [{"files": [str(cluster.conf(POD_TARGETS))]}]},
    ]
    config = {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"},
        "rule_files": [f"{cluster.conf('prometheus-rules')}/*.yml", f"{cluster.conf('prometheus-rules')}/*.yaml"],
        "scrape_configs": jobs,
    }
    return json.dumps(config, indent=1)


def _target(cluster: Cluster, port: int, **labels: str) -> Manifest:
    return {"targets": [f"{cluster.addresses.node}:{port}"], "labels": labels}
