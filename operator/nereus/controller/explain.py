"""`nereus explain NAME`: gathers what one screen shows; reads only, with the rights of the person who asks.

What is shown is put together in `diagnosis.screen`. A Prometheus that does not answer costs one line, not the screen.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from kubernetes.aio.config import ConfigException, list_kube_config_contexts

from nereus.alerting import conventions as c
from nereus.controller.connection import connect
from nereus.controller.errors import ApiError
from nereus.controller.gateway import Gateway
from nereus.controller.kinds import EVENT, MODEL_SERVICE
from nereus.diagnosis.reading import items, mapping
from nereus.diagnosis.screen import Curve, screen
from nereus.prometheus import options as prometheus
from nereus.prometheus.client import Client, QueryError

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
    parser.add_argument("-w", "--watch", action="store_true", help="again every 2 s, until interrupted")
    prometheus.add_connection_arguments(
        parser,
        lambda name, default: os.environ.get(f"NEREUS_{name}", default),
        purpose="shows firing alerts [NEREUS_PROMETHEUS_URL, and so on for those below]",
    )
    given = parser.parse_args(argv)
    try:
        metrics = prometheus.connection(given)
    except prometheus.OptionsError as error:
        parser.error(str(error))
    try:
        return asyncio.run(_run(given, metrics))
    except KeyboardInterrupt:
        return 0
    except (ConfigException, ApiError) as error:
        print(f"nereus explain: {error}", file=sys.stderr)
        return 1


async def _run(given: argparse.Namespace, metrics: prometheus.Options) -> int:
    namespace = given.namespace or _context_namespace(given.kubeconfig)
    source = Client(metrics, threads=1) if metrics.address else None
    gateway = Gateway(await connect(given.kubeconfig), may_write=lambda: False)
    try:
        while True:
            shown, ready = await _look(gateway, namespace, given.name, source, metrics.timeout)
            sys.stdout.write(f"{CLEAR}{shown}" if given.watch and sys.stdout.isatty() else shown)
            sys.stdout.flush()
            if not given.watch:
                return 0 if ready else 1
            await asyncio.sleep(2)
    finally:
        if source is not None:
            source.close()
        await gateway.close()


async def _look(gateway: Gateway, namespace: str, name: str, source: Client | None, within: float) -> tuple[str, bool]:
    resource = await gateway.get(MODEL_SERVICE, namespace, name)
    fields = f"involvedObject.kind={MODEL_SERVICE.kind},involvedObject.name={name}"
    events = await gateway.list_objects(EVENT, namespace=namespace, fields=fields)
    alerts = await firing(source, namespace, name, within=within) if source else None
    curves = await costs(source, namespace, name, within=within) if source else ()
    width = min(120, shutil.get_terminal_size((100, 40)).columns)
    shown = screen(resource, events=events, alerts=alerts, now=datetime.now(UTC), curves=curves, width=width)
    conditions = items(mapping(resource.get("status")).get("conditions"))
    ready = any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)
    return shown, ready


async def firing(source: Client, namespace: str, name: str, *, within: float) -> list[dict[str, Any]] | None:
    """Pending and firing alerts of one service; None, and why on standard error, when Prometheus does not say."""
    try:
        found = (await source.page("alerts", within=within)).data
    except QueryError as error:
        print(f"nereus explain: {error.message}", file=sys.stderr)
        return None
    return [
        dict(alert)
        for alert in items(found.get("alerts"))
        if mapping(alert.get("labels")).get("namespace") == namespace
        and mapping(alert.get("labels")).get("service") == name
    ]


async def costs(source: Client, namespace: str, name: str, *, within: float) -> tuple[Curve, ...]:
    """What batches cost, averaged over the pods; nothing where nobody measured, or Prometheus does not say."""
    whose = f'{c.NAMESPACE}="{namespace}",{c.POD_SERVICE}="{name}"'
    fits = f'avg by (__name__, model) ({{__name__=~"{c.BATCH_FIXED_SECONDS}|{c.BATCH_SECONDS_EACH}",{whose}}})'
    try:
        rows = (
            await source.instant(f"{fits} or max by (__name__, model) ({c.BATCH_LARGEST}{{{whose}}})", within=within)
        ).rows
    except QueryError:
        return ()  # told already, with the alerts
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        metric = row["metric"]
        found.setdefault(str(metric.get("model", "")), {})[str(metric.get("__name__", ""))] = float(row["value"][1])
    return tuple(
        Curve(
            model=model,
            fixed_seconds=figures[c.BATCH_FIXED_SECONDS],
            seconds_per_inference=figures[c.BATCH_SECONDS_EACH],
            largest=int(figures[c.BATCH_LARGEST]),
        )
        for model, figures in found.items()
        if figures.keys() >= {c.BATCH_FIXED_SECONDS, c.BATCH_SECONDS_EACH, c.BATCH_LARGEST}
    )


def _context_namespace(kubeconfig: str) -> str:
    try:
        _, active = list_kube_config_contexts(kubeconfig or None)  # type: ignore[no-untyped-call]
        return str(active["context"].get("namespace") or "default")
    except (ConfigException, OSError, KeyError):
        return "default"
