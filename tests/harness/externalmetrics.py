"""The External Metrics API for a process of this machine: the objects that a chart makes for pods."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
REGISTRATION = "v1beta1.external.metrics.k8s.io"


def service(namespace: str, name: str) -> Json:
    """Without a selector: `endpoints` say who answers."""
    metadata = {"name": name, "namespace": namespace}
    ports = [{"name": "https", "port": 443}]
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports}}


def endpoints(namespace: str, service: str, *, name: str, host: str, port: int) -> Json:
    """One process behind the Service."""
    labels = {"kubernetes.io/service-name": service}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [host], "conditions": {"ready": True}}],
    }


def registration(namespace: str, service: str, **more: Any) -> Json:
    """The APIService; `more` are further fields of its spec."""
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": REGISTRATION},
        "spec": {
            "group": "external.metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"name": service, "namespace": namespace, "port": 443},
            **more,
        },
    }
