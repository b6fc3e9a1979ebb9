"""The PodDisruptionBudget: a node drain takes one pod of a service at a time, and may always take a broken one."""

from __future__ import annotations

from nereus.api import names
from nereus.api.children import child
from nereus.api.manifests import Manifest
from nereus.api.service import ModelService


def disruption_budget(service: ModelService) -> Manifest:
    """At most one pod away at a time; pods that are not ready never hold up a drain."""
    return child(
        service,
        api_version="policy/v1",
        kind="PodDisruptionBudget",
        spec={
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": names.selector_labels(service.name)},
        },
    )
