"""The kinds of objects that the controller reads and writes, and where the API server keeps them.

A table rather than discovery: the set is fixed at build time and so are the rights that the chart grants.
"""

from __future__ import annotations

from dataclasses import dataclass

from nereus.api import names


@dataclass(frozen=True)
class Kind:
    """One kind of object. `api_version` is empty of a group for the core API (`v1`)."""

    api_version: str
    kind: str
    plural: str

    @property
    def group(self) -> str:
        return self.api_version.partition("/")[0] if "/" in self.api_version else ""

    @property
    def version(self) -> str:
        return self.api_version.rpartition("/")[2]

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of a collection, of one object, or of its subresource."""
        parts = ["/apis" if self.group else "/api", self.api_version]
        if namespace:
            parts += ["namespaces", namespace]
        return "/".join([*parts, self.plural, *filter(None, (name, subresource))])

    def __str__(self) -> str:
        return self.kind


MODEL_SERVICE = Kind(names.API_VERSION, names.KIND, names.PLURAL)
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
CONTROLLER_REVISION = Kind("apps/v1", "ControllerRevision", "controllerrevisions")
SERVICE = Kind("v1", "Service", "services")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
POD = Kind("v1", "Pod", "pods")
AUTOSCALER = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
POD_MONITOR = Kind("monitoring.coreos.com/v1", "PodMonitor", "podmonitors")
PROMETHEUS_RULE = Kind("monitoring.coreos.com/v1", "PrometheusRule", "prometheusrules")
EVENT = Kind("v1", "Event", "events")
NODE = Kind("v1", "Node", "nodes")
"""Of the cluster, not of a namespace."""
API_SERVICE = Kind("apiregistration.k8s.io/v1", "APIService", "apiservices")
"""Belongs to the whole cluster: its namespace is empty."""
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")

CHILDREN = (CONTROLLER_REVISION, CONFIG_MAP, SERVICE, DISRUPTION_BUDGET, DEPLOYMENT, AUTOSCALER)
"""What a ModelService owns and the controller watches."""
WATCHED = (MODEL_SERVICE, *CHILDREN, POD)

_BY_NAME = {kind.kind: kind for kind in (*WATCHED, POD_MONITOR, PROMETHEUS_RULE, EVENT, LEASE)}


def kind_of(name: str) -> Kind:
    """The kind with this name, as it stands in a manifest; KeyError when the controller does not handle it."""
    return _BY_NAME[name]
