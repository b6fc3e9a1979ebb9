"""One cluster with Nereus installed for the whole tier, and a namespace of its own for each test."""

from __future__ import annotations

import fcntl
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from demo import clusters, install
from demo.kube import Kube
from localcluster.config import cache_dir
from tests.e2e.proxied import proxied
from tests.e2e.world import World
from tests.tiers import e2e_values


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that hangs must not hold the tier: the longest measured one takes about a third of this."""
    items.sort(key=lambda item: "world_alone" in getattr(item, "fixturenames", ()))  # the others need not wait for it
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def prepared() -> clusters.Prepared:
    """The cluster, with the images of this checkout and the chart installed; one worker at a time looks after it."""
    with (cache_dir() / "e2e.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        prepared = clusters.prepare(print, os.environ.get("CLUSTER", ""))
        values = (*prepared.helm_values, *e2e_values(local=prepared.kube.routed))
        install.install_chart(prepared.kube, print, *values)
    return replace(prepared, helm_values=values)


@pytest.fixture(scope="session")
def kube(prepared: clusters.Prepared) -> Iterator[Kube]:
    """The cluster as most tests see it: what is looked at again and again is read without a process for each look."""
    with proxied(prepared.kube) as kube:
        yield kube


@contextmanager
def _release(how: int) -> Iterator[None]:
    """Tests use the installed release together (LOCK_SH), or one has it to itself (LOCK_EX)."""
    with (cache_dir() / "e2e-release.lock").open("w") as lock:
        fcntl.flock(lock, how)
        yield


@pytest.fixture
def world(kube: Kube, request: pytest.FixtureRequest) -> Iterator[World]:
    """A fresh namespace; what happened in it is printed when the test fails."""
    with _release(fcntl.LOCK_SH):
        yield from _world(kube, request)


@pytest.fixture
def world_alone(kube: Kube, request: pytest.FixtureRequest) -> Iterator[World]:
    """The same while no other test runs: for a test that exchanges the operator."""
    with _release(fcntl.LOCK_EX):
        yield from _world(kube, request)


def _world(kube: Kube, request: pytest.FixtureRequest) -> Iterator[World]:
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
