"""Every golden file is accepted by a real API server, by the operator's own client, exactly as it is rendered."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hack import quick_yaml
from nereus.controller import drift
from nereus.controller.connection import connect
from nereus.controller.gateway import Gateway
from nereus.controller.kinds import POD_MONITOR, PROMETHEUS_RULE, kind_of
from tests.golden.write import EXPECTED
from tests.harness.apiserver import Api, Json

GOLDENS = sorted(EXPECTED.glob("*.yaml"))


def documents(path: Path, namespace: str) -> list[Json]:
    """The objects of a golden file, in a namespace that exists; prometheus-operator's kinds are not in this cluster."""
    found = quick_yaml.load_all(path.read_text(encoding="utf-8"))
    for item in found:
        item["metadata"]["namespace"] = namespace
    return [item for item in found if item["kind"] not in (POD_MONITOR.kind, PROMETHEUS_RULE.kind)]


async def applied(manifests: list[Json], kubeconfig: Path) -> list[Json]:
    gateway = Gateway(await connect(str(kubeconfig)))
    try:
        return [await gateway.apply(kind_of(item["kind"]), item, dry_run=True) for item in manifests]
    finally:
        await gateway.close()


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_the_api_server_accepts_the_golden_objects_and_stores_what_they_say(
    api: Api, empty_namespace: str, path: Path
) -> None:
    manifests = documents(path, empty_namespace)
    assert manifests
    for wished, stored in zip(manifests, asyncio.run(applied(manifests, api.kubeconfig)), strict=True):
        assert drift.differences(wished, stored) == (), f"{wished['kind']} is written again and again"
