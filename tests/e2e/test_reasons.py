"""What goes wrong reaches REASON and `kubectl describe` in words a person can act on, within 15 s of the fact."""

from __future__ import annotations

import time

from tests.e2e.world import CRASH, DOUBLE, World, model
from tests.harness.status_checker import kstatus

WITHIN_SECONDS = 15


def _reason_in_table(world: World) -> str:
    return world.kube.kubectl("-n", world.namespace, "get", "msvc", "svc", "--no-headers")


def test_a_pod_too_large_for_every_node_says_so_in_the_schedulers_words(world: World) -> None:
    world.models_config_map()
    begun = time.monotonic()
    world.apply(runtime={"resources": {"requests": {"cpu": "64", "memory": "128Mi"}}})
    message = world.wait_reason("Unschedulable", seconds=40)
    assert time.monotonic() - begun < WITHIN_SECONDS + 5  # the scheduler itself needs a moment
    assert "Insufficient cpu" in message
    assert "Unschedulable" in _reason_in_table(world)
    assert "Insufficient cpu" in world.kube.kubectl("-n", world.namespace, "describe", "msvc", "svc")


def test_a_wrong_image_is_named(world: World) -> None:
    world.models_config_map()
    world.apply(runtime={"image": "localhost/no-such-image:1", "imagePullPolicy": "Never"})
    message = world.wait_reason("ImagePullFailed", seconds=60)
    assert "localhost/no-such-image:1" in message


def test_a_model_that_cannot_be_fetched_says_why(world: World) -> None:
    world.models_config_map()
    world.apply(models=[model(source="https://models.invalid/double.tar.gz")])
    message = world.wait_reason("FetchFailed", seconds=60)
    assert "double" in message
    assert "models.invalid" in message


def test_a_missing_config_map_is_named(world: World) -> None:
    world.apply(models=[model(source="configmap://absent")])

    def named() -> bool:
        reasons = (world.service().get("status") or {}).get("reasons") or []
        return any("absent" in item["message"] for item in reasons)

    world.wait(named, "the missing ConfigMap in status.reasons", seconds=60)


def test_a_model_that_crashes_at_load_speaks_in_its_own_words_and_the_others_serve(world: World) -> None:
    world.models_config_map(**{"double.model.py": DOUBLE, "broken.model.py": CRASH})
    world.apply(models=[model(), model("broken", source="configmap://models/broken")])
    message = world.wait_reason("ModelLoadFailed", seconds=90)
    assert "broken" in message
    assert "another planet" in message

    def states() -> dict[str, str]:
        return {item["name"]: item["state"] for item in world.service()["status"]["models"]}

    world.wait(lambda: states() == {"double": "Ready", "broken": "LoadFailed"}, "the sound model to be ready")


def test_a_change_that_fails_to_load_keeps_the_old_model_serving(world: World) -> None:
    world.models_config_map(**{"double.model.py": DOUBLE, "broken.model.py": CRASH})
    world.apply()
    world.wait_ready()
    world.apply(models=[model(source="configmap://models/broken")])
    world.wait_reason("ModelLoadFailed", seconds=60)
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
