"""The Service: the address of a ModelService for clients. Metrics and the sidecar's port are not behind it: they
speak of one pod, not of the service."""

from __future__ import annotations

from nereus.api import names
from nereus.api.children import child
from nereus.api.manifests import Manifest
from nereus.api.service import ModelService
from nereus.api.spec.endpoint import ServiceType


def service_object(service: ModelService) -> Manifest:
    """The Service of a ModelService, with both inference protocols."""
    kind = service.endpoint.service_type or ServiceType.CLUSTER_IP
    return child(
        service,
        api_version="v1",
        kind="Service",
        annotations=service.endpoint.service_annotations,
        spec={
            "type": kind.value,
            "selector": names.selector_labels(service.name),
            "ports": [
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
            ],
        },
    )
