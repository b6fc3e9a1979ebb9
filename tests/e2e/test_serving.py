"""A service from apply to delete: it answers, changes, scales and goes, on real Triton."""

from __future__ import annotations

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from demo.load import tensors
from tests.e2e.world import DOUBLE, World, X, model
from tests.harness.status_checker import kstatus


def test_a_service_answers_over_both_protocols_and_its_status_tells_the_truth(world: World) -> None:
    world.models_config_map()
    world.apply(models=[model(warmup={"requests": 2}, instances={"count": 2, "kind": "CPU"})])
    resource = world.wait_ready()

    assert np.array_equal(world.infer(), [[2.0, 4.0]])
    with world.kube.address("svc", 8000, namespace=world.namespace) as address:
        client = triton_http.InferenceServerClient(address)
        answer = client.infer("double", tensors(triton_http, X)).as_numpy("Y")
        client.close()
    assert np.array_equal(answer, [[2.0, 4.0]])

    status = resource["status"]
    assert status["replicas"] == "1/1"
    assert status["models"][0]["state"] == "Ready"
    assert status["models"][0]["ready"] == "1/1"
    assert kstatus(resource) == "Current"
    config = world.triton_get("/v2/models/double/config")
    assert config["instance_group"][0]["count"] == 2
    assert config["model_warmup"][0]["count"] == 2

    def measured() -> bool:
        cold = world.service()["status"].get("coldStart") or {}
        return bool(cold.get("samples", 0) >= 1 and cold["p50"] > 0 and cold["phases"].get("load", 0) > 0)

    world.wait(measured, "cold start measured from the pod", seconds=90)
    described = world.kube.kubectl("-n", world.namespace, "describe", "msvc", "svc")
    assert "Events:" in described


def test_changed_batching_reaches_triton_without_a_new_pod(world: World) -> None:
    world.models_config_map()
    world.apply()
    world.wait_ready()
    before = {pod["metadata"]["uid"] for pod in world.pods()}
    assert world.triton_get("/v2/models/double/config")["dynamic_batching"]["max_queue_delay_microseconds"] == 0

    world.apply(models=[model(batching={"maxQueueDelay": "3ms", "preferredBatchSizes": [4]})])

    def changed() -> bool:
        batching = world.triton_get("/v2/models/double/config").get("dynamic_batching", {})
        return bool(
            batching.get("max_queue_delay_microseconds") == 3000 and batching.get("preferred_batch_size") == [4]
        )

    world.wait(changed, "the new batching in Triton's own configuration", seconds=30)
    world.wait_ready()
    assert {pod["metadata"]["uid"] for pod in world.pods()} == before


def test_a_model_is_added_and_removed_without_a_new_pod(world: World) -> None:
    world.models_config_map()
    world.apply()
    world.wait_ready()
    before = {pod["metadata"]["uid"] for pod in world.pods()}

    world.apply(models=[model(), model("triple", parameters={"factor": "3"})])
    world.wait_ready()
    assert np.array_equal(world.infer(model="triple"), [[3.0, 6.0]])
    assert np.array_equal(world.infer(), [[2.0, 4.0]])

    world.apply(models=[model("triple", parameters={"factor": "3"})])
    world.wait_ready()

    def gone() -> bool:
        with world.kube.address("svc", 8000, namespace=world.namespace) as address:
            client = triton_http.InferenceServerClient(address)
            ready = client.is_model_ready("double")
            client.close()
        return not ready

    world.wait(gone, "the removed model to be unloaded", seconds=30)
    assert {pod["metadata"]["uid"] for pod in world.pods()} == before


def test_clients_cannot_load_or_unload_models(world: World) -> None:
    world.models_config_map()
    world.apply()
    world.wait_ready()
    with world.kube.address("svc", 8000, namespace=world.namespace) as address:
        client = triton_http.InferenceServerClient(address)
        try:
            client.unload_model("double")
            refused = ""
        except triton_http.InferenceServerException as error:
            refused = str(error)
        finally:
            client.close()
    assert "restricted" in refused.lower() or "403" in refused, refused
    assert np.array_equal(world.infer(), [[2.0, 4.0]])


def test_kubectl_scale_sets_the_pods_of_a_manual_service(world: World) -> None:
    world.models_config_map()
    world.apply(scaling={"strategy": "Manual", "replicas": 1})
    world.wait_ready()

    world.kube.kubectl("-n", world.namespace, "scale", "msvc", "svc", "--replicas=3")
    world.wait_ready()
    assert world.service()["status"]["replicas"] == "3/3"
    assert len(world.pods()) == 3
    assert world.kube.items("hpa", namespace=world.namespace) == []

    world.kube.kubectl("-n", world.namespace, "scale", "msvc", "svc", "--replicas=0")
    world.wait(lambda: not world.pods(), "no pod at replicas 0", seconds=60)
    world.wait(lambda: world.service()["status"]["replicas"] == "0/0", "status 0/0", seconds=30)


def test_cpu_load_scales_the_service_up(world: World) -> None:
    world.models_config_map()
    scaling = {"strategy": "Metrics", "minReplicas": 1, "maxReplicas": 3}
    world.apply(models=[model(parameters={"rounds": "200"})], scaling=scaling)
    world.wait_ready()
    with (
        world.kube.address("svc", 8001, namespace=world.namespace) as address,
        world.load(address, protocol="grpc", clients=4) as load,
    ):
        world.wait(lambda: len(world.pods()) >= 2, "a second pod under CPU load", seconds=150)
        world.wait(lambda: world.service()["status"]["replicas"].split("/")[0] >= "2", "two ready pods", seconds=60)
    assert load.outcome.failed == 0, load.outcome.errors[:5]
    told = world.service()["status"]["scaling"]
    assert "cpu" in " ".join(told["metrics"]), told


def test_a_triton_that_dies_comes_back_with_its_models(world: World) -> None:
    world.models_config_map()
    world.apply()
    world.wait_ready()
    pod = world.pods()[0]["metadata"]["name"]
    world.kube.kubectl("-n", world.namespace, "exec", pod, "-c", "triton", "--", "/bin/sh", "-c", "kill -TERM 1")

    def restarted() -> bool:
        statuses = world.pods()[0]["status"]["containerStatuses"]
        return bool(statuses[0]["restartCount"] >= 1)

    world.wait(restarted, "the Triton container to restart", seconds=60)
    world.wait(lambda: _answers(world), "inference after the restart", seconds=60)
    assert world.pods()[0]["metadata"]["name"] == pod


def _answers(world: World) -> bool:
    try:
        return bool(np.array_equal(world.infer(), [[2.0, 4.0]]))
    except triton_grpc.InferenceServerException:  # refused while the server is away
        return False


def test_a_changed_source_is_loaded_in_place(world: World) -> None:
    world.models_config_map()
    world.apply()
    world.wait_ready()
    world.models_config_map(**{"double.model.py": DOUBLE.replace('"2"', '"5"')})
    # A kubelet looks at volumes about once a minute, and at once when anything of the pod changed.
    world.kube.kubectl("-n", world.namespace, "annotate", "pods", "--all", "looked=now")

    world.wait(
        lambda: np.array_equal(world.infer(), [[5.0, 10.0]]),
        "the changed ConfigMap to be served",
        seconds=60,
    )


def test_delete_leaves_nothing_behind(world: World) -> None:
    world.models_config_map()
    world.apply(scaling={"minReplicas": 1, "maxReplicas": 2})
    world.wait_ready()
    world.kube.kubectl("-n", world.namespace, "delete", "msvc", "svc", "--wait=true")

    def nothing() -> bool:
        kinds = "deployments,services,hpa,pdb,controllerrevisions,pods,configmaps"
        left = world.kube.items(kinds, namespace=world.namespace, selector="app.kubernetes.io/managed-by=nereus")
        pods = world.kube.items("pods", namespace=world.namespace)
        return not left and not pods

    world.wait(nothing, "every child to be collected", seconds=90)
