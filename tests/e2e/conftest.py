"""One cluster with Nereus installed for the whole tier, and a namespace of its own for each test."""

from __future__ import annotations

import fcntl
import os
import subprocess
import uuid
from collections.abc import Iterator

import pytest

from demo import clusters, install
from demo.kube import Kube
from localcluster.config import cache_dir
from tests.e2e.world import World
from tests.tiers import e2e_values


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that hangs must not hold the tier: the longest measured one takes about a third of this."""
    for item in items:
        item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def kube() -> Kube:
    """The cluster, with the images of this checkout and the chart installed; one worker at a time looks after it."""
    with (cache_dir() / "e2e.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        prepared = clusters.prepare(print, os.environ.get("CLUSTER", ""))
        install.install_chart(prepared.kube, print, *prepared.helm_values, *e2e_values(local=prepared.kube.routed))
    return prepared.kube


@pytest.fixture
def world(kube: Kube, request: pytest.FixtureRequest) -> Iterator[World]:
    """A fresh namespace; what happened in it is printed when the test fails."""
    namespace = f"e2e-{uuid.uuid4().hex[:8]}"
    kube.kubectl("create", "namespace", namespace)
    try:
        yield World(kube=kube, namespace=namespace)
    finally:
        if request.session.testsfailed:
            _print_state(kube, namespace)
        kube.kubectl("delete", "namespace", namespace, "--wait=false")


def _print_state(kube: Kube, namespace: str) -> None:
    for arguments in (
        ["-n", namespace, "get", "msvc,pods,hpa,deployments", "-o", "wide"],
        ["-n", namespace, "describe", "msvc"],
        ["-n", namespace, "get", "events", "--sort-by=.lastTimestamp"],
        ["-n", install.NAMESPACE, "logs", "deployment/nereus", "--tail=40"],
    ):
        done = subprocess.run(
            [kube.tool("kubectl"), *arguments], env=kube.environment, capture_output=True, text=True, check=False
        )
        print(f"$ kubectl {' '.join(arguments)}\n{done.stdout}{done.stderr}")
