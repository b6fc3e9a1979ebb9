"""The operator exchanged under a service that works: from the previous release to this one, back, and away.

Everything here runs in namespaces that admit only pods of the restricted standard, the operator's own included.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo import install
from demo.clusters import Prepared
from demo.load import Load
from nereus.api import names
from tests.e2e import previous
from tests.e2e.world import Json, World

pytestmark = pytest.mark.timeout(900)  # two images are built where the cache lacks them

CLIENTS = 2
ONE_REPLICA = ("--set", "replicas=1")
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


@pytest.fixture
def releases(world_alone: World, prepared: Prepared, tmp_path: Path) -> Iterator[Releases]:
    """Both releases; this one is installed again at the end, whatever happened."""
    kube = prepared.kube
    if not kube.routed:
        pytest.skip("needs the local cluster: the previous release's images are put into its node")
    triton = dict(value.split("=", 1) for value in prepared.helm_values if "=" in value)["triton.image"]
    try:
        before = previous.prepare(kube, triton, tmp_path)
    except previous.NoHistoryError as error:
        pytest.skip(str(error))
    kube.kubectl("label", "namespace", install.NAMESPACE, RESTRICTED, "--overwrite")
    kube.kubectl("label", "namespace", world_alone.namespace, RESTRICTED)
    try:
        yield Releases(world_alone, before, prepared.helm_values)
    finally:
        kube.kubectl("label", "namespace", install.NAMESPACE, RESTRICTED.partition("=")[0] + "-")
        install.install_chart(kube, print, *prepared.helm_values)


class Releases:
    """Installs one or the other, and says what the service's pods noticed of it."""

    def __init__(self, world: World, before: previous.Previous, now: tuple[str, ...]) -> None:
        self.world = world
        self._before = before
        self._now = now

    def install_previous(self) -> None:
        print(f"previous release: {self._before.commit}")
        install.install_chart(self.world.kube, print, *self._before.helm_values, *ONE_REPLICA, chart=self._before.chart)

    def install_this(self) -> None:
        # The GPU agent needs a directory of the node, which the restricted standard refuses.
        install.install_chart(self.world.kube, print, *self._now, *ONE_REPLICA, "--set", "gpu.agent.enabled=false")

    def pods(self) -> dict[str, list[int]]:
        """How often each container of each pod was restarted, by the pod's uid."""
        return {
            pod["metadata"]["uid"]: [
                status["restartCount"]
                for kind in ("initContainerStatuses", "containerStatuses")
                for status in pod["status"].get(kind, [])
            ]
            for pod in self.world.pods()
        }

    def template(self) -> Any:
        return (self.world.kube.get("deployment", "svc", namespace=self.world.namespace) or {})["spec"]["template"]

    def looked_at_by(self, sidecar_tag: str) -> None:
        """Until the operator that brings this sidecar leads and has looked at the service: it answers a change."""
        world = self.world
        mark = f"{sidecar_tag}-{len(world.service()['metadata'].get('managedFields', []))}"
        patch = json.dumps({"spec": {"endpoint": {"serviceAnnotations": {"example.com/mark": mark}}}})
        world.kube.kubectl("-n", world.namespace, "patch", "msvc", "svc", "--type=merge", "-p", patch)

        def seen() -> bool:
            service: Json = world.kube.get("service", "svc", namespace=world.namespace) or {}
            return bool((service["metadata"].get("annotations") or {}).get("example.com/mark") == mark)

        world.wait(seen, "the new operator to answer a change", seconds=60)
        world.wait_ready()


def test_an_upgrade_touches_no_pod_a_downgrade_neither_and_what_it_would_change_waits_to_be_asked_for(
    releases: Releases,
) -> None:
    world = releases.world
    releases.install_previous()
    world.models_config_map()
    world.apply(scaling={"strategy": "Manual", "replicas": 2})
    world.wait_ready()
    pods, template = releases.pods(), releases.template()
    assert len(pods) == 2
    with (
        world.kube.address("svc", 8001, namespace=world.namespace) as grpc_address,
        world.kube.address("svc", 8000, namespace=world.namespace) as http_address,
        world.load(grpc_address, protocol="grpc", clients=CLIENTS) as grpc,
        world.load(http_address, protocol="http", clients=CLIENTS) as http,
    ):
        world.wait(lambda: min(grpc.outcome.answered, http.outcome.answered) > 100, "traffic", seconds=30)

        def assert_untouched(after: str) -> None:
            assert releases.pods() == pods, f"after the {after}"
            assert releases.template() == template, f"after the {after}"
            seen = min(grpc.outcome.answered, http.outcome.answered)
            world.wait(
                lambda: min(grpc.outcome.answered, http.outcome.answered) > seen + 20, f"traffic after the {after}"
            )
            assert_none_failed(grpc, http, after)

        releases.install_this()
        releases.looked_at_by("upgrade")
        world.wait(lambda: pending(world), "what the upgrade would change", seconds=30)
        assert "image" in pending(world)
        assert_untouched("upgrade")

        releases.install_previous()
        releases.looked_at_by("downgrade")
        world.wait(lambda: not pending(world), "nothing pending: the template is this operator's own", seconds=30)
        assert_untouched("downgrade")

        releases.install_this()
        releases.looked_at_by("second upgrade")
        world.kube.kubectl("-n", world.namespace, "annotate", "msvc", "svc", f"{names.ANNOTATION_ROLLOUT}=1")
        world.wait(lambda: not set(pods) & set(releases.pods()), "both pods replaced", seconds=120)
        world.wait_ready()
        assert not pending(world)
        assert releases.template() != template
        assert_none_failed(grpc, http, "rollout that was asked for")
        rolled_out = releases.pods()

        world.kube.run("helm", "uninstall", install.RELEASE, "--namespace", install.NAMESPACE, "--wait")
        answered = min(grpc.outcome.answered, http.outcome.answered)
        world.wait(
            lambda: min(grpc.outcome.answered, http.outcome.answered) > answered + 100, "traffic without an operator"
        )
        assert world.service()["spec"]["scaling"]["replicas"] == 2, "the ModelService is gone"
        assert releases.pods() == rolled_out
        assert_none_failed(grpc, http, "removal of the chart")
    assert_no_metrics_api_left(world)
    print(f"gRPC: {grpc.outcome}\nHTTP: {http.outcome}")


def assert_no_metrics_api_left(world: World) -> None:
    """While the External Metrics API is registered and nobody answers, no namespace can be deleted."""
    listed = world.kube.kubectl("get", "apiservices", "-o", "name")
    assert "external.metrics.k8s.io" not in listed
    other = f"{world.namespace}-other"
    world.kube.kubectl("create", "namespace", other)
    world.kube.kubectl("delete", "namespace", other, "--wait=false")
    world.wait(lambda: world.kube.get("namespace", other, namespace=other) is None, "a namespace to go", seconds=120)


def pending(world: World) -> str:
    template = (world.service().get("status") or {}).get("template") or {}
    return str(template.get("pending") or "")


def assert_none_failed(grpc: Load, http: Load, after: str) -> None:
    for outcome in (grpc.outcome, http.outcome):
        assert outcome.failed == 0, f"after the {after}: {outcome.errors[:10]}"
