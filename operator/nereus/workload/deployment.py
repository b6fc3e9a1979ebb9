"""The Deployment: how pods of one template are brought up and replaced, never how many there are.

`replicas` is left out on purpose: it belongs to the autoscaler (or to a field manager of its own under strategy
Manual); applying it here would scale a running service down to what was written once.
"""

from __future__ import annotations

from nereus.api import names
from nereus.api.children import child
from nereus.api.manifests import Manifest
from nereus.api.service import SURGE_PERCENT, ModelService
from nereus.api.values import Json

PROGRESS_DEADLINE_SECONDS = 3600
"""Only a word in a condition: a large model may take long to fetch, and the real reason is told by the pods."""
MIN_READY_SECONDS = 3
"""Lets endpoints reach every node before the next old pod goes."""


def deployment(service: ModelService, template: Json, *, surge: bool = True) -> Manifest:
    """The Deployment of a service, with the pod template that is in effect.

    `surge` is False where no node could ever take one pod more than wanted, for which a rollout would wait for ever, or
    where a limit of GPUs forbids it.
    """
    # Rounded up, so one more pod than wanted even for a single one; nothing goes before it is replaced.
    pace = {"maxUnavailable": 0, "maxSurge": f"{SURGE_PERCENT}%"} if surge else {"maxUnavailable": 1, "maxSurge": 0}
    return child(
        service,
        api_version="apps/v1",
        kind="Deployment",
        spec={
            "selector": {"matchLabels": names.selector_labels(service.name)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": pace},
            "minReadySeconds": MIN_READY_SECONDS,
            "progressDeadlineSeconds": PROGRESS_DEADLINE_SECONDS,
            "revisionHistoryLimit": 3,
            "template": template,
        },
    )
