"""What the controller makes of a ModelService on a real API server, and how it keeps it that way."""

from __future__ import annotations

from typing import Any

import pytest

from nereus.api import names
from tests.harness.apiserver import MODEL_SERVICES, Json, eventually
from tests.harness.operator import SIDECAR_IMAGE, TRITON_IMAGE, Operator
from tests.harness.services import HEAL_SECONDS, OWNED, Services, our_writes

pytestmark = pytest.mark.usefixtures("operator")

MODELS = [{"name": "m", "source": {"uri": "configmap://models/m"}, "backend": "python", "maxBatchSize": 8}]
SCALED = {"minReplicas": 2, "maxReplicas": 6}


def replicas(services: Services, name: str = "svc") -> int:
    found: int = services.child("Deployment", name)["spec"]["replicas"]
    return found


def running_pods(services: Services, name: str = "svc") -> list[Json]:
    return [pod for pod in services.all_of("Pod", name) if not pod["metadata"].get("deletionTimestamp")]


# --- the main path


def test_applying_a_service_makes_every_object_and_the_service_owns_them(services: Services) -> None:
    created = services.apply()
    services.until_ready()
    owned = services.owned()
    assert {name.split()[0] for name in owned} == set(OWNED)
    for item in owned.values():
        assert item["metadata"]["labels"][names.LABEL_SERVICE] == "svc"
        (owner,) = item["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (created["metadata"]["uid"], True)
    status = services.service()["status"]
    assert status["replicas"] == "1/1"
    assert status["models"] == [{"name": "m", "state": "Ready", "ready": "1/1", "versions": ["1"], "loadSeconds": 1.0}]
    containers = services.child("Deployment")["spec"]["template"]["spec"]
    assert containers["containers"][0]["image"] == TRITON_IMAGE
    assert SIDECAR_IMAGE in {container["image"] for container in containers["initContainers"]}


def test_the_story_is_told_in_events(services: Services) -> None:
    services.apply()
    services.until_ready()
    services.until_true("Ready event", lambda: [event for event in services.events() if event[1] == "Ready"])
    assert {kind for kind, _, _ in services.events()} == {"Normal"}


def test_a_name_of_63_characters_works(services: Services) -> None:
    name = "n" * 63
    services.apply(name)
    services.until_ready(name)
    assert {item.split()[0] for item in services.owned(name)} == set(OWNED)


def test_200_models_work(services: Services) -> None:
    models = [{**MODELS[0], "name": f"m{number}"} for number in range(200)]
    services.apply(models=models)
    status = services.until_ready()["status"]
    assert len(status["models"]) == 200


def test_adding_a_model_changes_no_pod_and_reaches_the_running_ones(services: Services) -> None:
    services.apply()
    services.until_ready()
    before = {pod["metadata"]["uid"] for pod in running_pods(services)}
    template = services.child("Deployment")["spec"]["template"]
    services.apply(models=[*MODELS, {**MODELS[0], "name": "second", "source": {"uri": "configmap://models/second"}}])
    services.until_ready()
    assert {pod["metadata"]["uid"] for pod in running_pods(services)} == before
    assert services.child("Deployment")["spec"]["template"] == template
    assert {model["name"] for model in services.service()["status"]["models"]} == {"m", "second"}


def test_a_model_that_cannot_be_fetched_is_named_with_the_words_of_its_source(services: Services) -> None:
    services.apply(models=[{**MODELS[0], "source": {"uri": "configmap://broken"}}])
    status = services.until("FetchFailed")["status"]
    assert "no such ConfigMap" in services.condition()["message"]
    assert status["models"][0]["state"] == "FetchFailed"


# --- drift


EDITS: dict[str, tuple[str, str, Json, str]] = {
    "image of the Deployment": (
        "Deployment",
        "svc",
        {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}},
        "spec.template.spec.terminationGracePeriodSeconds",
    ),
    "port of the Service": (
        "Service",
        "svc",
        {"spec": {"ports": [{"name": "http", "port": 9999, "targetPort": 9999}]}},
        "spec.ports",
    ),
    "bounds of the autoscaler": ("HorizontalPodAutoscaler", "svc", {"spec": {"maxReplicas": 99}}, "spec.maxReplicas"),
    "disruption budget": ("PodDisruptionBudget", "svc", {"spec": {"maxUnavailable": "100%"}}, "spec.maxUnavailable"),
    "plan": ("ConfigMap", "svc-models-0", {"data": {"plan.json": "{}"}}, "data"),
    "our labels": (
        "Service",
        "svc",
        {"metadata": {"labels": {names.LABEL_SERVICE: None, names.LABEL_MANAGED_BY: None}}},
        "metadata.labels",
    ),
    "the owner": ("ConfigMap", "svc-models-0", {"metadata": {"ownerReferences": None}}, "metadata.ownerReferences"),
}


def at(manifest: Json, path: str) -> Any:
    value: Any = manifest
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_by_somebody_else_is_healed_within_five_seconds(services: Services, what: str) -> None:
    kind, name, patch, path = EDITS[what]
    services.apply(scaling=SCALED)
    services.until_ready()
    wished = at(services.child(kind, name), path)
    edited = services.patch(kind, patch, name)
    assert at(edited, path) != wished, "the edit changed nothing"
    eventually(
        lambda: None if at(seen := services.child(kind, name), path) == wished else f"{path}: {at(seen, path)}",
        seconds=HEAL_SECONDS,
    )


@pytest.mark.parametrize("kind", OWNED)
def test_a_deleted_object_is_back_within_five_seconds_and_the_pods_stay(services: Services, kind: str) -> None:
    services.apply(scaling=SCALED)
    services.until_ready()
    old = next(item for name, item in services.owned().items() if name.startswith(kind))
    pods = {pod["metadata"]["uid"] for pod in running_pods(services)}
    template = services.child("Deployment")["spec"]["template"]
    assert services.delete(kind, old["metadata"]["name"]).accepted

    def back() -> bool:
        found = services.get(kind, old["metadata"]["name"])
        return found is not None and found["metadata"]["uid"] != old["metadata"]["uid"]

    services.until_true(f"{kind} again", back, seconds=HEAL_SECONDS)
    services.until_ready()
    assert services.child("Deployment")["spec"]["template"] == template
    if kind != "Deployment":
        assert {pod["metadata"]["uid"] for pod in running_pods(services)} == pods


def test_a_field_that_is_no_longer_wished_is_removed(services: Services) -> None:
    services.apply(endpoint={"serviceAnnotations": {"example.com/a": "1"}})
    services.until_ready()
    assert services.child("Service")["metadata"]["annotations"]["example.com/a"] == "1"
    services.apply()
    services.until_true(
        "annotation gone", lambda: "example.com/a" not in services.child("Service")["metadata"]["annotations"]
    )


def test_an_unusual_spelling_of_a_quantity_is_not_written_again_and_again(
    services: Services, operator: Operator
) -> None:
    services.apply(runtime={"resources": {"requests": {"cpu": "0.50", "memory": "1024Mi"}}})
    services.until_ready()
    before, writes = our_writes(services.owned()), operator.writes()
    # A change of the pods makes the controller look again at everything.
    services.patch("Deployment", {"metadata": {"annotations": {"example.com/look": "again"}}})
    eventually(lambda: None if services.child("Deployment")["metadata"]["resourceVersion"] else "no Deployment")
    services.apply(runtime={"resources": {"requests": {"cpu": "0.50", "memory": "1024Mi"}}}, suspend=False)
    services.until_ready()
    assert our_writes(services.owned()) == before
    applied = {name: count for name, count in operator.writes().items() if 'verb="apply"' in name}
    assert applied == {name: count for name, count in writes.items() if 'verb="apply"' in name}


def test_the_fields_of_other_controllers_are_left_to_them(services: Services) -> None:
    services.apply()
    services.until_ready()
    services.patch("Service", {"metadata": {"annotations": {"cloud.example.com/address": "192.0.2.7"}}})
    services.patch("Service", {"spec": {"ports": [{"name": "http", "port": 9999, "targetPort": 9999}]}})
    services.until_true(
        "healed", lambda: [port["port"] for port in services.child("Service")["spec"]["ports"]] == [8000, 8001]
    )
    assert services.child("Service")["metadata"]["annotations"]["cloud.example.com/address"] == "192.0.2.7"


# --- replicas


def test_a_new_service_starts_with_its_floor(services: Services) -> None:
    services.apply(scaling={"minReplicas": 3, "maxReplicas": 5})
    services.until_ready()
    assert replicas(services) == 3


def test_what_the_autoscaler_raised_stays_when_the_service_is_applied_again(services: Services) -> None:
    services.apply(scaling=SCALED)
    services.until_ready()
    services.patch("Deployment", {"spec": {"replicas": 5}}, subresource="scale")  # as the autoscaler does
    # Two changes: one that re-applies the Deployment itself, one that does not.
    services.apply(scaling=SCALED, runtime={"podAnnotations": {"example.com/a": "1"}})
    services.until_true(
        "new template",
        lambda: "example.com/a" in services.child("Deployment")["spec"]["template"]["metadata"].get("annotations", {}),
    )
    services.until_ready()
    assert replicas(services) == 5
    services.apply(scaling={**SCALED, "maxReplicas": 7}, runtime={"podAnnotations": {"example.com/a": "1"}})
    services.until_true("new bound", lambda: services.child("HorizontalPodAutoscaler")["spec"]["maxReplicas"] == 7)
    assert replicas(services) == 5


def test_a_second_writer_who_applies_replicas_and_leaves_them_out_again_cannot_reset_them(services: Services) -> None:
    services.apply(scaling=SCALED)
    services.until_ready()
    path = services.path("Deployment")
    wish: Json = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "svc"}}
    assert services.api.apply(path, {**wish, "spec": {"replicas": 4}}, manager="somebody").accepted
    assert services.api.apply(path, wish, manager="somebody").accepted  # drops the field: the server says 1
    services.until_true("back at the floor", lambda: replicas(services) >= 2)


def test_pods_below_the_floor_are_added_and_never_removed(services: Services) -> None:
    services.apply(scaling=SCALED)
    services.until_ready()
    for below in (1, 0):
        services.patch("Deployment", {"spec": {"replicas": below}}, subresource="scale")
        services.until_true(f"floor after {below}", lambda: replicas(services) == 2)
    services.patch("Deployment", {"spec": {"replicas": 4}}, subresource="scale")
    services.apply(scaling={**SCALED, "minReplicas": 3})
    services.until_true("new floor", lambda: services.child("HorizontalPodAutoscaler")["spec"]["minReplicas"] == 3)
    services.until_ready()
    assert replicas(services) == 4


def test_replicas_survive_the_way_to_manual_and_back(services: Services) -> None:
    services.apply(scaling=SCALED)
    services.until_ready()
    services.patch("Deployment", {"spec": {"replicas": 5}}, subresource="scale")
    services.apply(scaling={"strategy": "Manual", "replicas": 4})
    services.until_true("no autoscaler", lambda: services.get("HorizontalPodAutoscaler") is None)
    services.until_ready()
    assert replicas(services) == 4
    services.apply(scaling=SCALED)
    services.until_true("autoscaler", lambda: services.get("HorizontalPodAutoscaler") is not None)
    services.until_ready()
    assert replicas(services) == 4
    services.apply(scaling=SCALED, runtime={"podAnnotations": {"example.com/a": "1"}})
    services.until_ready()
    assert replicas(services) == 4


def test_under_manual_the_number_is_kept_and_kubectl_scale_changes_it(services: Services) -> None:
    services.apply(scaling={"strategy": "Manual", "replicas": 3})
    services.until_ready()
    assert replicas(services) == 3
    services.patch("Deployment", {"spec": {"replicas": 1}}, subresource="scale")
    services.until_true("healed", lambda: replicas(services) == 3)
    done = services.api.kubectl("-n", services.namespace, "scale", "msvc/svc", "--replicas=2")
    assert done.returncode == 0, done.stderr
    services.until_true("scaled", lambda: replicas(services) == 2)
    services.until_ready()


def test_manual_zero_starts_no_pod_and_metrics_wakes_it(services: Services) -> None:
    services.apply(scaling={"strategy": "Manual", "replicas": 0})
    services.until("ScaledToZero")
    assert running_pods(services) == []
    sets = services.api.get(f"/apis/apps/v1/namespaces/{services.namespace}/replicasets")["items"]
    assert all(item["status"].get("observedGeneration", 0) <= 1 for item in sets), "a pod was started and stopped"
    services.apply(scaling=SCALED)
    services.until_ready()
    assert replicas(services) == 2


# --- what cannot be carried out


def test_a_spec_that_cannot_be_rendered_changes_nothing_and_says_so_once(services: Services) -> None:
    services.apply()
    services.until_ready()
    before = our_writes(services.owned())
    services.apply(runtime={"args": ["--model-repository=/elsewhere"]})
    services.until("InvalidSpec")
    assert "spec.runtime.args" in services.condition()["message"]
    assert our_writes(services.owned()) == before
    services.until_true("event", lambda: [event for event in services.events() if event[1] == "InvalidSpec"])
    services.apply()
    services.until_ready()
    told = [event for event in services.events() if event[1] == "InvalidSpec"]
    assert [kind for kind, _, _ in told] == ["Warning"]


def test_an_object_of_somebody_else_is_left_alone(services: Services) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "svc", "namespace": services.namespace, "labels": {"app": "theirs"}},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "theirs"}},
    }
    theirs = services.api.apply(services.path("Service"), config, manager="somebody").body
    services.apply()
    services.until("NameTaken")
    assert "Service svc" in services.condition()["message"]
    assert services.child("Service")["metadata"]["resourceVersion"] == theirs["metadata"]["resourceVersion"]
    services.delete("Service")
    services.until_ready(seconds=30)
    assert "Service svc" in services.owned()


def test_a_refused_object_is_reported_in_the_servers_words_and_made_when_the_way_is_free(services: Services) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "q", "namespace": services.namespace},
        "spec": {"hard": {"count/deployments.apps": "0"}},
    }
    path = f"/api/v1/namespaces/{services.namespace}/resourcequotas"
    assert services.api.request("POST", path, quota).accepted
    eventually(lambda: None if services.api.get(f"{path}/q").get("status", {}).get("hard") else "quota not seen yet")
    services.apply()
    services.until("ApplyFailed")
    assert "exceeded quota" in services.condition()["message"]
    assert services.api.request("DELETE", f"{path}/q").accepted
    services.until_ready(seconds=60)


def test_suspended_means_that_nothing_is_written_but_the_status(services: Services) -> None:
    services.apply(scaling=SCALED)
    services.until_ready()
    services.apply(scaling=SCALED, suspend=True)
    services.until("Suspended")
    services.delete("PodDisruptionBudget")
    before = our_writes(services.owned())
    services.apply(scaling={"minReplicas": 3, "maxReplicas": 9}, suspend=True)
    services.until("Suspended")
    assert our_writes(services.owned()) == before
    assert replicas(services) == 2
    services.apply(scaling={"minReplicas": 3, "maxReplicas": 9})
    services.until_ready()
    assert replicas(services) == 3
    assert services.get("PodDisruptionBudget") is not None


def test_garbage_in_status_and_annotations_is_survived(services: Services) -> None:
    services.apply()
    services.until_ready()
    garbage = {
        "metadata": {"annotations": {names.ANNOTATION_ROLLOUT: "\u0000x" * 50, "a": "{[" * 1000}},
    }
    path = f"{MODEL_SERVICES.format(namespace=services.namespace)}/svc"
    assert services.api.request("PATCH", path, garbage).accepted
    old = services.service()["status"]
    condition = {"type": "Odd", "status": "True", "lastTransitionTime": "never", "reason": "X", "message": "x" * 4096}
    broken = {"conditions": [condition], "replicas": "many", "models": [], "reasons": None, "observedGeneration": 99}
    assert services.api.request("PATCH", f"{path}/status", {"status": broken}).accepted

    def healed() -> bool:
        status = services.api.get(path)["status"]
        kinds = {item["type"] for item in status["conditions"]}
        return "Odd" not in kinds and status["observedGeneration"] == old["observedGeneration"]

    services.until_true("status healed", healed)
    services.until_ready()


def test_a_service_from_before_the_operator_with_garbage_in_its_children_is_taken_over(services: Services) -> None:
    services.apply()
    services.until_ready()
    services.patch("ConfigMap", {"data": {"plan.json": "]", "model.m.json": "\n", "junk": "x"}}, "svc-models-0")
    services.patch("Deployment", {"metadata": {"annotations": {names.ANNOTATION_APPLIED: "?"}}})
    services.until_true("plan healed", lambda: services.child("ConfigMap", "svc-models-0")["data"]["plan.json"] != "]")
    services.until_ready()


def test_a_service_made_again_under_its_name_waits_for_the_old_objects_to_go(services: Services) -> None:
    services.apply()
    services.until_ready()
    path = f"{MODEL_SERVICES.format(namespace=services.namespace)}/svc"
    old = services.service()["metadata"]["uid"]
    assert services.api.request("DELETE", path).accepted
    created = services.apply()
    assert created["metadata"]["uid"] != old
    services.until_ready(seconds=60)
    assert {name.split()[0] for name in services.owned()} == set(OWNED)


def test_deleting_the_namespace_hangs_nothing_and_raises_no_alarm(services: Services) -> None:
    services.apply()
    services.until_ready()
    path = f"/api/v1/namespaces/{services.namespace}"
    assert services.api.request("DELETE", path).accepted
    reasons: set[str] = set()

    def gone() -> str | None:
        found = services.api.request("GET", f"{MODEL_SERVICES.format(namespace=services.namespace)}/svc")
        conditions = found.body.get("status", {}).get("conditions", []) if found.accepted else []
        reasons.update(item["reason"] for item in conditions if item["type"] == "Ready")
        return None if services.api.request("GET", path).code == 404 else f"still there: {reasons}"

    eventually(gone, seconds=60)
    assert "ApplyFailed" not in reasons


def test_deleting_a_service_leaves_nothing(services: Services) -> None:
    services.apply()
    services.until_ready()
    answer = services.api.request("DELETE", f"{MODEL_SERVICES.format(namespace=services.namespace)}/svc")
    assert answer.accepted
    assert not answer.body.get("metadata", {}).get("finalizers")

    def lack() -> str | None:
        left = {kind: [item["metadata"]["name"] for item in services.all_of(kind, "svc")] for kind in (*OWNED, "Pod")}
        return str(left) if any(left.values()) else None

    # The garbage collector looks for new kinds every 30 s: right after the definition was made it
    # knows none of ours, which is why this test stands last.
    eventually(lack, seconds=90)
