"""The Service: the address of a ModelService for clients. Metrics and the sidecar's port are not behind it: they
speak of one pod, not of the service."""

from __future__ import annotations

from nereus.api import names
from nereus.api.children import child
from nereus.api.manifests import Manifest
from nereus.api.problems import Problem
from nereus.api.service import ModelService
from nereus.api.spec.endpoint import ServiceType
from nereus.api.values import Json


def service_object(service: ModelService) -> Manifest:
    """The Service of a ModelService, with both inference protocols."""
    kind = service.endpoint.service_type or ServiceType.CLUSTER_IP
    return child(
        service,
        api_version="v1",
        kind="Service",
        annotations=service.endpoint.service_annotations,
        spec={"type": kind.value, "selector": names.selector_labels(service.name), "ports": _ports(service)},
    )


def headless_service(service: ModelService) -> Manifest:
    """The Service whose name stands for every pod that is ready, for clients that balance by themselves."""
    return child(
        service,
        api_version="v1",
        kind="Service",
        name=names.headless_name(service.name),
        spec={
            "type": ServiceType.CLUSTER_IP.value,
            "clusterIP": "None",
            "selector": names.selector_labels(service.name),
            "ports": _ports(service),
        },
    )


def problems(service: ModelService) -> tuple[Problem, ...]:
    """What keeps the Services from being made."""
    name = names.headless_name(service.name)
    if not service.endpoint.headless or len(name) <= names.MAX_NAME_LENGTH:
        return ()
    words = f"the Service {name} would have {len(name)} characters, {names.MAX_NAME_LENGTH} are allowed"
    return (Problem("spec.endpoint.headless", f"{words}: shorten metadata.name, or leave headless out"),)


def _ports(service: ModelService) -> list[Json]:
    return [
        {
            "name": names.PORT_NAME_HTTP,
            "port": service.ports.http,
            "targetPort": names.PORT_NAME_HTTP,
            "protocol": "TCP",
            "appProtocol": "http",
        },
        {
            "name": names.PORT_NAME_GRPC,
            "port": service.ports.grpc,
            "targetPort": names.PORT_NAME_GRPC,
            "protocol": "TCP",
            "appProtocol": "kubernetes.io/h2c",
        },
    ]
