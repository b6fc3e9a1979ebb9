"""The PodMonitor: tells a prometheus-operator to read Triton's and the sidecar's metrics from every pod.

Made only where the cluster knows the kind; elsewhere the pods carry scrape annotations (template.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from nereus.api import names
from nereus.api.children import child
from nereus.api.manifests import Manifest
from nereus.api.service import ModelService


def pod_monitor(service: ModelService, *, labels: Mapping[str, str] | None = None) -> Manifest:
    """The PodMonitor of a service; its series carry the service's name as a label. `labels` are what the
    installation's Prometheus selects it by."""
    manifest = child(
        service,
        api_version="monitoring.coreos.com/v1",
        kind="PodMonitor",
        spec={
            "selector": {"matchLabels": names.selector_labels(service.name)},
            "podTargetLabels": [names.LABEL_SERVICE],
            "podMetricsEndpoints": [
                {"port": names.PORT_NAME_METRICS, "path": "/metrics"},
                {"port": names.PORT_NAME_SIDECAR, "path": "/metrics"},
            ],
        },
    )
    manifest["metadata"]["labels"] = {**(labels or {}), **manifest["metadata"]["labels"]}
    return manifest
