"""The External Metrics API: the decision on each service, as a metric that its autoscaler reads.

Pure: what is known of each service, and what is answered to a request. Answers come from memory, so that asking costs
the API server's clients nothing. Only the API server may ask: it presents its front-proxy certificate. What it may
hand on was decided by its own rights before.

A service that is not known is answered with 404 and so is left as it is: an autoscaler that cannot read a metric takes
no pod away.

Little is imported: the process that answers (metricsserver.py) has to stay small.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote

from nereus.api import names

GROUP, VERSION = "external.metrics.k8s.io", "v1beta1"
BASE = f"/apis/{GROUP}/{VERSION}"


@dataclass(frozen=True, kw_only=True)
class Callers:
    """Who may ask: certificates signed by `authority` (PEM) whose common name is one of `allowed` (empty: any)."""

    authority: str
    allowed: tuple[str, ...] = ()


class Known(NamedTuple):
    """What is known of one service: the number of pods `decided` (None: no decision yet) and whether that was decided
    with its load known; the `floor` that was written last, None where no autoscaler reads the decision as a metric; the
    pods that are wished for now (`there`)."""

    decided: int | None = None
    load_known: bool = False
    floor: int | None = None
    there: int | None = None


NOTHING = Known()


def served(known: Known, *, leads: bool) -> int | None:
    """What an autoscaler shall read as the decision; None where it reads none.

    The replica that leads knows best; any other serves what that one wrote last, so that two replicas never contradict
    each other. Pods above the floor may have been added by the emergency metric while nobody decided: a replica that
    does not know the load, be it that it just started, asks for those that are there.
    """
    if leads and known.decided is not None:
        return known.decided
    if known.floor is None or (known.decided is not None and known.load_known):
        return known.floor
    return max(known.floor, known.there or 0)


@dataclass
class Numbers:
    """What is known of every service, by namespace and name. Moments on the monotonic clock: the replica leads until
    `leads_until`, decisions hold until `decided_until`, and after `heard_until` nothing that is known here counts."""

    known: dict[tuple[str, str], Known] = field(default_factory=dict)
    leads_until: float = 0.0
    decided_until: float = 0.0
    heard_until: float = 0.0

    def replicas(self, namespace: str, name: str, *, now: float) -> int | None:
        """What the autoscaler of a service reads; None where nothing is known."""
        known = self.known.get((namespace, name))
        if known is None or now >= self.heard_until:
            return None
        if now >= self.decided_until:
            known = known._replace(decided=None)
        return served(known, leads=now < self.leads_until)


@dataclass(frozen=True)
class Answer:
    """An HTTP status and a JSON body."""

    status: int
    body: dict[str, Any]


RESOURCES = Answer(
    200,
    {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{GROUP}/{VERSION}",
        "resources": [
            {
                "name": names.EXTERNAL_METRIC,
                "singularName": "",
                "namespaced": True,
                "kind": "ExternalMetricValueList",
                "verbs": ["get"],
            }
        ],
    },
)
# Keeps the API server from asking again and again, and its log quiet.
SPECIFICATION = Answer(200, {"swagger": "2.0", "info": {"title": "Nereus", "version": VERSION}, "paths": {}})


def answer(method: str, target: str, *, caller: str, callers: Callers, numbers: Numbers, now: float) -> Answer:
    """To one request: its method and target (path and query), and the common name of who asks."""
    if callers.allowed and caller not in callers.allowed:
        return refused(403, "Forbidden", f"{caller or 'a caller without a name'} is not the API server")
    if method != "GET":
        return refused(405, "MethodNotAllowed", f"{method}: metrics can only be read")
    path, _, query = target.partition("?")
    if path == BASE:
        return RESOURCES
    if path == "/openapi/v2":
        return SPECIFICATION
    match path.removeprefix(f"{BASE}/").split("/"):
        case ["namespaces", namespace, metric] if path.startswith(f"{BASE}/"):
            selector = parse_qs(query).get("labelSelector", [""])[0]
            return _value(numbers, unquote(namespace), unquote(metric), selector, now=now)
    return refused(404, "NotFound", f"{path} is not served here")


def _value(numbers: Numbers, namespace: str, metric: str, selector: str, *, now: float) -> Answer:
    service = _service_of(selector)
    if metric != names.EXTERNAL_METRIC or not service:
        wanted = f"{names.EXTERNAL_METRIC} with labelSelector {names.LABEL_SERVICE}=NAME"
        return refused(404, "NotFound", f"{metric}: the only metric here is {wanted}")
    number = numbers.replicas(namespace, service, now=now)
    if number is None:
        return refused(404, "NotFound", f"nothing is decided for the ModelService {namespace}/{service}")
    item = {
        "metricName": names.EXTERNAL_METRIC,
        "metricLabels": {names.LABEL_SERVICE: service},
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "value": str(number),
    }
    return Answer(
        200, {"kind": "ExternalMetricValueList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}, "items": [item]}
    )


def _service_of(selector: str) -> str:
    """The service that a selector `KEY=NAME` names; empty when it is another one."""
    key, _, name = selector.partition("=")
    return name if key == names.LABEL_SERVICE and "," not in name else ""


def refused(code: int, reason: str, message: str) -> Answer:
    """A Kubernetes Status that says why not."""
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    return Answer(code, status)


def encoded(message: dict[str, Any]) -> bytes:
    """A message to the process that answers, or from it: one line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
