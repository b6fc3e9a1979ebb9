"""The pods: hardened, ready only when the sidecar says so, and left alone by everything that is not about them."""

from __future__ import annotations

from typing import Any

import pytest

from nereus.api import names
from nereus.api.service import read
from nereus.api.values import Json
from nereus.workload.settings import Settings
from nereus.workload.template import shared_memory, template, template_inputs
from tests.harness.resources import many_models, service

SETTINGS = Settings(sidecar_image="sidecar:1", triton_image="triton:1")


def made(settings: Settings = SETTINGS, **spec: Any) -> Json:
    return template(read(service(**spec)), settings=settings, image="triton:1")


def pod(**spec: Any) -> Json:
    found: Json = made(**spec)["spec"]
    return found


def triton(**spec: Any) -> Json:
    [container] = pod(**spec)["containers"]
    found: Json = container
    return found


def sidecar(**spec: Any) -> Json:
    [container] = pod(**spec)["initContainers"]
    found: Json = container
    return found


def model(uri: str = "pvc://store/m", name: str = "m", **fields: Any) -> Json:
    return {"name": name, "source": {"uri": uri}, **fields}


def inputs(**spec: Any) -> str:
    return template_inputs(read(service(**spec)))


# --- security


def test_pods_keep_to_the_restricted_pod_security_standard() -> None:
    found = pod(models=[model("configmap://a"), model("pvc://b", "n"), model("https://c/d.zip", "o")])
    assert found["securityContext"]["runAsNonRoot"] is True
    assert found["securityContext"]["runAsUser"] > 0
    assert found["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*found["initContainers"], *found["containers"]):
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert not {"privileged", "runAsUser"} & set(container["securityContext"])
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "projected"}
    assert {kind for volume in found["volumes"] for kind in volume} - {"name"} <= allowed
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(found)


def test_no_token_of_the_cluster_is_in_the_pod_unless_an_account_is_named() -> None:
    assert pod()["automountServiceAccountToken"] is False
    named = pod(runtime={"serviceAccountName": "reader"})
    assert named["serviceAccountName"] == "reader"
    assert "automountServiceAccountToken" not in named


def test_a_field_of_the_security_context_replaces_ours_and_the_rest_stays() -> None:
    found = pod(runtime={"securityContext": {"runAsUser": 2000}})["securityContext"]
    assert (found["runAsUser"], found["fsGroup"], found["runAsNonRoot"]) == (2000, 1000, True)


def test_a_root_user_that_was_asked_for_can_start() -> None:
    assert "runAsNonRoot" not in pod(runtime={"securityContext": {"runAsUser": 0}})["securityContext"]


def test_models_and_the_admin_key_cannot_be_changed_by_triton() -> None:
    writable = {mount["mountPath"] for mount in triton(models=[model()])["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/dev/shm", "/tmp"}


# --- probes and the end of a pod


def test_readiness_is_the_sidecars_because_tritons_own_lies() -> None:
    assert "readinessProbe" not in triton()
    assert sidecar()["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "sidecar"}
    assert sidecar()["restartPolicy"] == "Always"


def test_a_fetch_may_take_hours_before_the_sidecar_is_started_anew() -> None:
    probe = sidecar()["startupProbe"]
    assert probe["httpGet"]["path"] == "/started"
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 12 * 3600


def test_triton_stops_only_after_the_drain_and_the_kubelet_waits_for_both() -> None:
    spec = {"endpoint": {"connectionAge": "1m", "connectionAgeGrace": "20s"}}
    assert triton(**spec)["lifecycle"]["preStop"]["httpGet"] == {"path": "/drain", "port": names.SIDECAR_PORT}
    [drain] = [arg for arg in sidecar(**spec)["args"] if arg.startswith("--drain-max=")]
    [leave] = [arg for arg in triton(**spec)["args"] if arg.startswith("--exit-timeout-secs=")]
    seconds = int(drain.partition("=")[2])
    assert seconds >= 60 * 1.1 + 20
    assert pod(**spec)["terminationGracePeriodSeconds"] > seconds + int(leave.partition("=")[2])


def test_the_sidecar_knows_the_ports_of_triton() -> None:
    ports = {"http": 9000, "grpc": 9001, "metrics": 9002}
    spec = {"endpoint": {"ports": ports}}
    assert sidecar(**spec)["args"][:3] == ["--http-port=9000", "--grpc-port=9001", "--metrics-port=9002"]
    assert {port["name"]: port["containerPort"] for port in triton(**spec)["ports"]} == ports


# --- resources and volumes


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (None, {"requests": {"cpu": "1", "memory": "2Gi"}}),
        ({"requests": {"cpu": "200m"}}, {"requests": {"cpu": "200m", "memory": "2Gi"}}),
        # Kubernetes takes a limit as the request; a default above it would be refused.
        ({"limits": {"memory": "1Gi"}}, {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}),
        ({"limits": {"cpu": 1, "memory": "1024Mi"}}, {"limits": {"cpu": "1", "memory": "1Gi"}}),
    ],
)
def test_a_default_request_stands_only_where_the_user_said_nothing(resources: Any, expected: Json) -> None:
    runtime = {"resources": resources} if resources else {}
    assert triton(runtime=runtime)["resources"] == expected


@pytest.mark.parametrize(
    ("instances", "size"), [(1, "256Mi"), (12, "256Mi"), (13, "512Mi"), (28, "512Mi"), (29, "1Gi"), (256, "8Gi")]
)
def test_shared_memory_grows_with_the_instances_in_large_steps(instances: int, size: str) -> None:
    given = read(service(models=[model(instances={"count": instances})]))
    assert shared_memory(given) == size


def test_a_declared_shared_memory_is_taken() -> None:
    [shm] = [volume for volume in pod(runtime={"sharedMemory": "3072Mi"})["volumes"] if volume["name"] == "shm"]
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "3Gi"}


def test_a_source_is_mounted_once_and_at_the_same_place_in_both_containers() -> None:
    models = [model("configmap://files/a", "a"), model("configmap://files/b", "b"), model("pvc://files/c", "c")]
    found = pod(models=models)
    for container in (*found["initContainers"], *found["containers"]):
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        for path in ("/nereus/sources/configmap/files", "/nereus/sources/pvc/files"):
            assert mounts[path]["readOnly"] is True
    sources = [volume for volume in found["volumes"] if volume["name"].startswith("source-")]
    assert len(sources) == 2


def test_the_shared_cache_is_written_by_the_sidecar_and_read_by_triton_at_the_same_place() -> None:
    found = pod(runtime={"modelCache": {"claimName": "shared", "size": "2Gi"}})
    [sidecar], [triton] = found["initContainers"], found["containers"]
    mounts = [
        next(mount for mount in container["volumeMounts"] if mount["name"] == names.VOLUME_MODEL_CACHE)
        for container in (sidecar, triton)
    ]
    assert [mount["mountPath"] for mount in mounts] == [names.PATH_MODEL_CACHE] * 2
    assert [mount.get("readOnly", False) for mount in mounts] == [False, True]
    assert {"--cache=/nereus/cache", f"--cache-bytes={2 * 2**30}"} <= set(sidecar["args"])
    claims = [volume["persistentVolumeClaim"] for volume in found["volumes"] if "persistentVolumeClaim" in volume]
    assert {"claimName": "shared"} in claims


def test_every_mount_has_its_volume_and_names_are_valid_and_unique() -> None:
    long = "a" * 200
    found = pod(
        models=[model(f"configmap://{long}"), model(f"pvc://{long}", "n")],
        runtime={"volumes": [{"name": "mine", "emptyDir": {}}], "volumeMounts": [{"name": "mine", "mountPath": "/x"}]},
    )
    volumes = [volume["name"] for volume in found["volumes"]]
    assert len(set(volumes)) == len(volumes)
    assert all(len(name) <= 63 for name in volumes)
    for container in (*found["initContainers"], *found["containers"]):
        paths = [mount["mountPath"] for mount in container["volumeMounts"]]
        assert len(set(paths)) == len(paths)
        assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)


def test_a_plan_that_grows_changes_no_pod() -> None:
    [plan] = [volume for volume in pod()["volumes"] if volume["name"] == "plan"]
    sources = plan["projected"]["sources"]
    assert [source["configMap"]["name"] for source in sources] == [names.plan_config_map("svc", n) for n in range(4)]
    assert all(source["configMap"]["optional"] for source in sources)


def test_a_tmp_of_the_user_takes_the_place_of_ours() -> None:
    runtime = {"volumes": [{"name": "big", "emptyDir": {}}], "volumeMounts": [{"name": "big", "mountPath": "/tmp/"}]}
    mounts = [
        mount["name"] for mount in triton(runtime=runtime)["volumeMounts"] if mount["mountPath"].startswith("/tmp")
    ]
    assert mounts == ["big"]


def test_environment_and_mounts_of_the_user_are_in_both_containers() -> None:
    runtime = {
        "env": [{"name": "HTTPS_PROXY", "value": "http://proxy"}],
        "volumes": [{"name": "ca", "secret": {"secretName": "ca"}}],
        "volumeMounts": [{"name": "ca", "mountPath": "/etc/ca"}],
    }
    for container in (triton(runtime=runtime), sidecar(runtime=runtime)):
        assert container["env"] == runtime["env"]
        assert {"name": "ca", "mountPath": "/etc/ca"} in container["volumeMounts"]


# --- metadata


def test_labels_of_the_user_stand_beside_ours() -> None:
    labels = made(runtime={"podLabels": {"team": "vision"}})["metadata"]["labels"]
    assert labels["team"] == "vision"
    assert names.selector_labels("svc").items() <= labels.items()


def test_prometheus_finds_the_pods_by_annotation_unless_a_pod_monitor_leads_it_there() -> None:
    annotated = made(endpoint={"ports": {"metrics": 9002}})["metadata"]["annotations"]
    assert annotated["prometheus.io/port"] == "9002"
    monitored = made(settings=Settings(sidecar_image="s", pod_monitor=True))["metadata"]["annotations"]
    assert not [key for key in monitored if key.startswith("prometheus.io/")]


def test_pods_prefer_different_nodes_unless_told_otherwise() -> None:
    [spread] = pod()["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
    assert spread["labelSelector"]["matchLabels"] == names.selector_labels("svc")
    assert pod(runtime={"topologySpreadConstraints": []})["topologySpreadConstraints"] == []


# --- what makes a new template


BASE: Json = {"models": [model()]}
SAME: list[tuple[str, Json]] = [
    ("a further model from the same volume", {"models": [model(), model("pvc://store/other", "other")]}),
    ("a model from the web", {"models": [model(), model("https://example.com/x.zip", "web")]}),
    ("another configuration", {"models": [model(maxBatchSize=8, batching={"maxQueueDelay": "1ms"})]}),
    ("a second instance", {"models": [model(instances={"count": 2})]}),
    ("other bounds", {"models": [model()], "scaling": {"maxReplicas": 9}}),
    ("another type of Service", {"models": [model()], "endpoint": {"serviceType": "NodePort"}}),
    ("suspend", {"models": [model()], "suspend": True}),
    ("ports as they are by default", {"models": [model()], "endpoint": {"ports": {"http": 8000}}}),
    ("a response cache that is off", {"models": [model(responseCache=False)]}),
    ("an empty runtime", {"models": [model()], "runtime": {}}),
]
OTHER: list[tuple[str, Json]] = [
    ("a model from another volume", {"models": [model(), model("pvc://second/m", "second")]}),
    ("an image", {"models": [model()], "runtime": {"image": "mine:1"}}),
    ("a port", {"models": [model()], "endpoint": {"ports": {"http": 9000}}}),
    ("a connection age", {"models": [model()], "endpoint": {"connectionAge": "31s"}}),
    ("many instances", {"models": [model(instances={"count": 50})]}),
    ("the first rate limiter", {"models": [model(instances={"rateLimiter": {"priority": 1}})]}),
    ("the first response cache", {"models": [model(responseCache=True)]}),
    ("a size of the response cache", {"models": [model()], "runtime": {"responseCacheSize": "1Gi"}}),
    ("an argument", {"models": [model()], "runtime": {"args": ["--log-verbose=1"]}}),
]


@pytest.mark.parametrize("spec", [row[1] for row in SAME], ids=[row[0] for row in SAME])
def test_pods_are_left_alone_by(spec: Json) -> None:
    assert inputs(**spec) == inputs(**BASE)
    assert pod(**spec) == pod(**BASE)


@pytest.mark.parametrize("spec", [row[1] for row in OTHER], ids=[row[0] for row in OTHER])
def test_pods_are_replaced_for(spec: Json) -> None:
    assert inputs(**spec) != inputs(**BASE)


def test_a_rollout_can_be_asked_for() -> None:
    plain = service()
    asked = {**plain, "metadata": {**plain["metadata"], "annotations": {names.ANNOTATION_ROLLOUT: "now"}}}
    assert template_inputs(read(plain)) != template_inputs(read(asked))


def test_a_second_model_with_a_response_cache_leaves_the_pods_alone() -> None:
    first, second = model(responseCache=True), model(name="second", responseCache=True)
    assert inputs(models=[first, second]) == inputs(models=[first])
    sized = {"responseCacheSize": "1Gi"}
    assert inputs(models=[first], runtime=sized) == inputs(models=[model()], runtime=sized)


def test_no_release_may_see_a_change_where_the_spec_has_none() -> None:
    """These digests are stored in clusters: another value for the same spec would replace every pod of a fleet."""
    assert inputs(**BASE) == "0f50115189"
    runtime = {
        "image": "x",
        "resources": {"requests": {"cpu": "2"}},
        "sharedMemory": "1Gi",
        "terminationGracePeriod": "60s",
    }
    assert inputs(models=[model("configmap://a/b")], runtime=runtime) == "dbbea6709f"
    assert template_inputs(read(many_models(200))) == "54232bbbe9"
