"""The External Metrics API: the decision on each service, as a metric that its autoscaler reads.

Served by every replica from memory, so that it costs the API server's clients nothing to ask. Only the API server may
ask: it presents its front-proxy certificate. What it may hand on was decided by its own rights before.

A service that is not known is answered with 404 and so is left as it is: an autoscaler that cannot read a metric takes
no pod away.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from nereus.api import names
from nereus.controller.store import Key
from nereus.scaling.hpa import METRIC

GROUP, VERSION = "external.metrics.k8s.io", "v1beta1"
BASE = f"/apis/{GROUP}/{VERSION}"

Replicas = Callable[[Key], int | None]
"""The number of pods decided for a service; None when nothing is known of it."""


@dataclass(frozen=True, kw_only=True)
class Callers:
    """Who may ask: certificates signed by `authority` (PEM) whose common name is one of `allowed` (empty: any)."""

    authority: str
    allowed: tuple[str, ...] = ()


def context(callers: Callers) -> ssl.SSLContext:
    """TLS for callers with a certificate; the server's own is loaded by the caller. Raises ssl.SSLError."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(cadata=callers.authority)
    return made


def application(replicas: Replicas, callers: Callable[[], Callers]) -> web.Application:
    """The routes that the API server and its controllers ask for."""

    @web.middleware
    async def only_the_api_server(request: web.Request, handler: Any) -> web.StreamResponse:
        allowed = callers().allowed
        name = _common_name(request)
        if allowed and name not in allowed:
            return _refused(403, "Forbidden", f"{name or 'a caller without a name'} is not the API server")
        answer: web.StreamResponse = await handler(request)
        return answer

    async def resources(_: web.Request) -> web.Response:
        return web.json_response(
            {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": f"{GROUP}/{VERSION}",
                "resources": [
                    {
                        "name": METRIC,
                        "singularName": "",
                        "namespaced": True,
                        "kind": "ExternalMetricValueList",
                        "verbs": ["get"],
                    }
                ],
            }
        )

    async def value(request: web.Request) -> web.Response:
        metric = request.match_info["metric"]
        service = _service_of(request.query.get("labelSelector", ""))
        if metric != METRIC or not service:
            wanted = f"{METRIC} with labelSelector {names.LABEL_SERVICE}=NAME"
            return _refused(404, "NotFound", f"{metric}: the only metric here is {wanted}")
        key = Key(request.match_info["namespace"], service)
        number = replicas(key)
        if number is None:
            return _refused(404, "NotFound", f"nothing is decided for the ModelService {key}")
        item = {
            "metricName": METRIC,
            "metricLabels": {names.LABEL_SERVICE: service},
            "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "value": str(number),
        }
        return web.json_response(
            {"kind": "ExternalMetricValueList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}, "items": [item]}
        )

    async def specification(_: web.Request) -> web.Response:
        # Keeps the API server from asking again and again, and its log quiet.
        info = {"title": "Nereus", "version": VERSION}
        return web.json_response({"swagger": "2.0", "info": info, "paths": {}})

    app = web.Application(middlewares=[only_the_api_server])
    app.router.add_get(BASE, resources)
    app.router.add_get(f"{BASE}/namespaces/{{namespace}}/{{metric}}", value)
    app.router.add_get("/openapi/v2", specification)
    return app


def _service_of(selector: str) -> str:
    """The service that a selector `KEY=NAME` names; empty when it is another one."""
    key, _, name = selector.partition("=")
    return name if key == names.LABEL_SERVICE and "," not in name else ""


def _common_name(request: web.Request) -> str:
    certificate = request.transport.get_extra_info("peercert") if request.transport else None
    for part in (certificate or {}).get("subject", ()):
        for name, value in part:
            if name == "commonName":
                return str(value)
    return ""


def _refused(code: int, reason: str, message: str) -> web.Response:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    return web.json_response(status, status=code)
