"""`nereus explain NAME`: gathers what one screen shows; reads only, with the rights of the person who asks.

What is shown is put together in `diagnosis.screen`. A Prometheus that does not answer costs one line, not the screen.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import aiohttp
from kubernetes.aio.config import ConfigException, list_kube_config_contexts

from nereus.controller.connection import connect
from nereus.controller.errors import ApiError
from nereus.controller.gateway import Gateway
from nereus.controller.kinds import EVENT, MODEL_SERVICE
from nereus.diagnosis.reading import items, mapping
from nereus.diagnosis.screen import screen

PROMETHEUS_SECONDS = 5.0
CLEAR = "\x1b[H\x1b[2J"


def main(argv: Sequence[str]) -> int:
    """The command; 0 when the service is ready, 1 when it is not or cannot be read."""
    parser = argparse.ArgumentParser(
        prog="nereus explain",
        description="One screen for one ModelService: why it is not ready, why there are N pods, what changed last,"
        " which alerts fire. Exit status 1 while it is not ready. Also as `kubectl nereus explain`.",
    )
    parser.add_argument("name", help="of the ModelService")
    parser.add_argument("-n", "--namespace", default="", help="otherwise that of the kubeconfig's context")
    parser.add_argument("--kubeconfig", default="", help="otherwise KUBECONFIG, otherwise ~/.kube/config")
    parser.add_argument(
        "--prometheus",
        metavar="URL",
        default=os.environ.get("NEREUS_PROMETHEUS_URL", ""),
        help="shows firing alerts [NEREUS_PROMETHEUS_URL]",
    )
    parser.add_argument("-w", "--watch", action="store_true", help="again every 2 s, until interrupted")
    given = parser.parse_args(argv)
    try:
        return asyncio.run(_run(given))
    except KeyboardInterrupt:
        return 0
    except (ConfigException, ApiError) as error:
        print(f"nereus explain: {error}", file=sys.stderr)
        return 1


async def _run(given: argparse.Namespace) -> int:
    namespace = given.namespace or _context_namespace(given.kubeconfig)
    gateway = Gateway(await connect(given.kubeconfig), may_write=lambda: False)
    try:
        while True:
            shown, ready = await _look(gateway, namespace, given.name, given.prometheus)
            sys.stdout.write(f"{CLEAR}{shown}" if given.watch and sys.stdout.isatty() else shown)
            sys.stdout.flush()
            if not given.watch:
                return 0 if ready else 1
            await asyncio.sleep(2)
    finally:
        await gateway.close()


async def _look(gateway: Gateway, namespace: str, name: str, prometheus: str) -> tuple[str, bool]:
    resource = await gateway.get(MODEL_SERVICE, namespace, name)
    fields = f"involvedObject.kind={MODEL_SERVICE.kind},involvedObject.name={name}"
    events = await gateway.list_objects(EVENT, namespace=namespace, fields=fields)
    alerts = await _alerts(prometheus, namespace, name) if prometheus else None
    width = min(120, shutil.get_terminal_size((100, 40)).columns)
    shown = screen(resource, events=events, alerts=alerts, now=datetime.now(UTC), width=width)
    conditions = items(mapping(resource.get("status")).get("conditions"))
    ready = any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)
    return shown, ready


async def _alerts(url: str, namespace: str, name: str) -> list[dict[str, Any]] | None:
    """Pending and firing alerts of one service; None when Prometheus does not answer."""
    try:
        timeout = aiohttp.ClientTimeout(total=PROMETHEUS_SECONDS)
        address = f"{url.rstrip('/')}/api/v1/alerts"
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session, session.get(address) as answer:
            found = mapping(json.loads(await answer.read())).get("data")
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        print(f"nereus explain: Prometheus at {url} does not answer: {error!r}", file=sys.stderr)
        return None
    return [
        dict(alert)
        for alert in items(mapping(found).get("alerts"))
        if mapping(alert.get("labels")).get("namespace") == namespace
        and mapping(alert.get("labels")).get("service") == name
    ]


def _context_namespace(kubeconfig: str) -> str:
    try:
        _, active = list_kube_config_contexts(kubeconfig or None)  # type: ignore[no-untyped-call]
        return str(active["context"].get("namespace") or "default")
    except (ConfigException, OSError, KeyError):
        return "default"
