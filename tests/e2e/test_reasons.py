"""What goes wrong reaches REASON and `kubectl describe` in words a person can act on, within 15 s of the fact."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from demo.kube import CommandError, condition_of
from tests.e2e.world import CRASH, DOUBLE, World, model
from tests.harness.status_checker import kstatus

WITHIN_SECONDS = 15

Fact = Callable[[World], Iterator[str]]
"""When something came to pass, as the part of the cluster that did it wrote down (RFC 3339); nothing before that."""


def told_within(seconds: float, world: World, reason: str, *words: str, since: Fact, patience: float = 90) -> None:
    """The column REASON of `kubectl get` says it so soon after the fact, and the sentence in `kubectl describe` these
    words.

    How long it takes until the fact is there (`patience`), and how long kubectl takes to answer, say something about
    the machine and nothing about Nereus: what counts are looks that began too long after the fact and did not show it.
    """
    in_vain: list[datetime] = []
    stamps: list[str] = []

    def in_table() -> bool:
        began = datetime.now(UTC)
        row = world.kube.kubectl("-n", world.namespace, "get", "msvc", "svc", "--no-headers").split()
        if row[2:3] != [reason]:
            in_vain.append(began)
        stamps.extend(() if stamps else since(world))
        return row[2:3] == [reason]

    world.wait(in_table, f"REASON {reason}", seconds=patience)
    described = world.kube.kubectl("-n", world.namespace, "describe", "msvc", "svc")
    sentence = str(condition_of(world.service(), "Ready")["message"])
    assert [word for word in words if word not in sentence] == [], sentence
    assert sentence in described
    assert stamps, f"{reason} is told, and no part of the cluster says that it came to pass"
    happened = min(map(datetime.fromisoformat, stamps))
    late = [str(look) for look in in_vain if (look - happened).total_seconds() >= seconds]
    assert late == [], f"it came to pass at {happened}, and these looks did not show it"


def not_scheduled(world: World) -> Iterator[str]:
    for pod in world.pods():
        for condition in pod["status"].get("conditions", ()):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                yield condition["lastTransitionTime"]


def image_refused(world: World) -> Iterator[str]:
    """The kubelet's word in the status of the pod, which has no time: when it was seen there. That may be up to 15 s
    after the kubelet's first event: it writes what failed down when it tries again."""
    for pod in world.pods():
        for container in pod["status"].get("containerStatuses", ()):
            if container.get("state", {}).get("waiting", {}).get("reason") == "ErrImageNeverPull":
                yield datetime.now(UTC).isoformat()


def triton_ended(world: World) -> Iterator[str]:
    for pod in world.pods():
        for container in pod["status"].get("containerStatuses", ()):
            for state in (container.get("state", {}), container.get("lastState", {})):
                if container["name"] == "triton" and "terminated" in state:
                    yield state["terminated"]["finishedAt"]


def sidecar_warned(world: World) -> Iterator[str]:
    """The sidecar's own line about a model that it could not fetch or load."""
    for pod in world.pods():
        log = ""
        with contextlib.suppress(CommandError):  # it has not started yet
            log = world.kube.kubectl("-n", world.namespace, "logs", pod["metadata"]["name"], "-c", "sidecar")
        for line in map(json.loads, log.splitlines()):
            if line["message"] in ("not prepared", "not loaded"):
                yield line["time"]


def test_a_pod_too_large_for_every_node_says_so_in_the_schedulers_words(world: World) -> None:
    world.models_config_map()
    world.apply(runtime={"resources": {"requests": {"cpu": "64", "memory": "128Mi"}}})
    told_within(WITHIN_SECONDS, world, "Unschedulable", "Insufficient cpu", since=not_scheduled)
    assert kstatus(world.service()) == "InProgress", "a larger node may still come"


def test_a_wrong_image_is_named(world: World) -> None:
    world.models_config_map()
    world.apply(runtime={"image": "localhost/no-such-image:1", "imagePullPolicy": "Never"})
    told_within(WITHIN_SECONDS, world, "ImagePullFailed", "localhost/no-such-image:1", since=image_refused)


def test_a_model_that_cannot_be_fetched_says_why(world: World) -> None:
    world.models_config_map()
    world.apply(models=[model(source="https://models.invalid/double.tar.gz")])
    told_within(WITHIN_SECONDS, world, "FetchFailed", "double", "models.invalid", since=sidecar_warned)


def test_a_container_that_ends_says_its_exit_code_and_its_last_words(world: World) -> None:
    world.models_config_map()
    world.apply(runtime={"args": ["--no-such-flag"]})
    told_within(WITHIN_SECONDS, world, "Crashing", "exit code 1", "--no-such-flag", since=triton_ended)


def test_a_missing_config_map_is_named(world: World) -> None:
    world.apply(models=[model(source="configmap://absent")])

    def named() -> bool:
        reasons = (world.service().get("status") or {}).get("reasons") or []
        return any("absent" in item["message"] for item in reasons)

    world.wait(named, "the missing ConfigMap in status.reasons", seconds=60)


def test_a_model_that_crashes_at_load_speaks_in_its_own_words_and_the_others_serve(world: World) -> None:
    world.models_config_map(**{"double.model.py": DOUBLE, "broken.model.py": CRASH})
    world.apply(models=[model(), model("broken", source="configmap://models/broken")])
    told_within(WITHIN_SECONDS, world, "ModelLoadFailed", "broken", "another planet", since=sidecar_warned)

    def states() -> dict[str, str]:
        return {item["name"]: item["state"] for item in world.service()["status"]["models"]}

    world.wait(lambda: states() == {"double": "Ready", "broken": "LoadFailed"}, "the sound model to be ready")


def test_a_change_that_fails_to_load_keeps_the_old_model_serving(world: World) -> None:
    world.models_config_map(**{"double.model.py": DOUBLE, "broken.model.py": CRASH})
    world.apply()
    world.wait_ready()
    world.apply(models=[model(source="configmap://models/broken")])
    world.wait_reason("ModelLoadFailed", seconds=120)
    assert world.infer()[0][0] == 2.0
    world.apply()
    world.wait_ready(seconds=90)


def test_a_spec_that_cannot_be_rendered_keeps_everything_running(world: World) -> None:
    world.models_config_map()
    world.apply()
    world.wait_ready()
    before = {pod["metadata"]["uid"] for pod in world.pods()}
    world.apply(models=[model(configText="dynamic_batching { no_such_field: 1 }")])
    message = world.wait_reason("InvalidSpec", seconds=15)
    assert "no_such_field" in message
    assert "models[0].configText" in message
    assert kstatus(world.service()) == "Failed"
    assert world.infer()[0][0] == 2.0
    assert {pod["metadata"]["uid"] for pod in world.pods()} == before


def test_a_quota_that_refuses_pods_is_quoted(world: World) -> None:
    world.models_config_map()
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    world.kube.apply(quota, namespace=world.namespace)
    world.apply()
    message = world.wait_reason("PodsRefused", seconds=30)
    assert "exceeded quota" in message


def test_a_container_killed_for_memory_is_named(world: World) -> None:
    memory = "16Mi"  # measured: Triton is killed in a loop at 16Mi, once at 24Mi, and serves this model at 32Mi
    world.models_config_map()
    world.apply(runtime={"resources": {"requests": {"cpu": "100m", "memory": memory}, "limits": {"memory": memory}}})
    message = world.wait_reason("OutOfMemory", seconds=90)
    assert "triton" in message
