"""`spec.endpoint`: how clients reach the service."""

from __future__ import annotations

from enum import StrEnum
from itertools import combinations
from typing import Annotated

from pydantic import Field

from nereus.api import names
from nereus.api.rules import Rule
from nereus.api.spec.section import AnnotationMap, Section
from nereus.api.values import Duration, Within

Port = Annotated[int, Field(ge=1024, le=65535)]


_PORTS = (
    "(has(self.http) ? self.http : 8000)",
    "(has(self.grpc) ? self.grpc : 8001)",
    "(has(self.metrics) ? self.metrics : 8002)",
    str(names.SIDECAR_PORT),
)


class Ports(Section):
    """Ports of the pods and of the Service; all different, 8003 belongs to the sidecar."""

    http: Port | None = Field(None, description="HTTP inference port. When absent: 8000.")
    grpc: Port | None = Field(None, description="gRPC inference port. When absent: 8001.")
    metrics: Port | None = Field(None, description="Prometheus metrics port. When absent: 8002.")
    rules = (
        Rule(
            cel=" && ".join(f"{one} != {other}" for one, other in combinations(_PORTS, 2)),
            message="endpoint.ports: http [8000], grpc [8001] and metrics [8002] must differ from each other and from"
            f" {names.SIDECAR_PORT}, the sidecar's port: choose other numbers",
            holds=lambda it: (
                len({it.http or 8000, it.grpc or 8001, it.metrics or 8002, names.SIDECAR_PORT}) == len(_PORTS)
            ),
        ),
    )


class ServiceType(StrEnum):
    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"


class Endpoint(Section):
    """How clients reach the service."""

    ports: Ports | None = Field(None, description="Port numbers. When absent: 8000, 8001, 8002.")
    service_type: ServiceType | None = Field(None, description="Type of the Service. When absent: ClusterIP.")
    service_annotations: AnnotationMap | None = Field(
        None, description="Annotations of the Service, e.g. for a load balancer."
    )
    headless: bool | None = Field(
        None,
        description="Also make the Service NAME-pods without an address of its own (clusterIP None), so that clients"
        " that balance by themselves find every pod by DNS; see examples/clients. When absent: false. Turned off later,"
        " that Service stays until it is deleted by hand.",
    )
    connection_age: Annotated[Duration, Within("1s", "10m")] | None = Field(
        None,
        description="After this time a gRPC client is asked to reconnect, so that it moves to other pods before one"
        " stops; between 1s and 10m. Longer makes every scale-down longer, shorter costs reconnects. When absent: 30s.",
    )
    connection_age_grace: Annotated[Duration, Within("1s", "10m")] | None = Field(
        None,
        description="How long a gRPC call that is running may go on after connectionAge; between 1s and 10m. The"
        " longest request that survives a scale-down. When absent: 10s.",
    )
