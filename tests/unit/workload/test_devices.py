"""A chosen GPU in the pod template: rendered once, kept whatever the nodes do, moved only when asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nereus.api.service import read
from nereus.gpu.nodes import NodeGpus
from nereus.rendering import GpuUnavailableError, Rendered, render
from nereus.triton import model_config
from nereus.workload.settings import Settings
from tests.harness.resources import service
from tests.unit.gpu.nodes import mixed, shared, whole

Json = dict[str, Any]
SETTINGS = Settings(sidecar_image="sidecar:1", triton_image="triton:1")


def rendered(
    *nodes: NodeGpus, stored: tuple[Json, ...] = (), rollout: str = "", blind: bool = False, **spec: Any
) -> Rendered:
    resource = service(**{"gpu": {"memory": "6Gi"}, **spec})
    resource["metadata"]["annotations"] = {"serving.nereus.dev/rollout": rollout} if rollout else {}
    return render(read(resource), settings=SETTINGS, stored=stored, nodes=None if blind else nodes)


def revision(result: Rendered) -> Json:
    [found] = [manifest for manifest in result.objects if manifest["kind"] == "ControllerRevision"]
    return found


def deployment(result: Rendered) -> Json:
    [found] = [manifest for manifest in result.objects if manifest["kind"] == "Deployment"]
    return found


def pod(result: Rendered) -> Json:
    found: Json = deployment(result)["spec"]["template"]["spec"]
    return found


def limits(result: Rendered) -> Json:
    found: Json = pod(result)["containers"][0]["resources"]["limits"]
    return found


def test_a_kept_choice_outlives_its_nodes_and_a_change_of_another_field() -> None:
    first = rendered(shared())
    assert limits(first) == {"nvidia.com/gpu": "1"}
    stored = (revision(first),)
    for nodes in ((mixed(p1g_10gb=2),), (), (shared(), mixed(p1g_10gb=2))):
        later = rendered(*nodes, stored=stored)
        assert later.template == first.template, "no pod is touched"
        assert later.pending is None
    changed = rendered(mixed(p1g_10gb=2), stored=stored, runtime={"image": "triton:2"})
    assert changed.template != first.template
    assert limits(changed) == {"nvidia.com/gpu": "1"}
    assert changed.gpu is not None
    assert changed.gpu.missing, "but it is said that no node offers it now"


def test_a_better_one_is_shown_and_taken_when_a_rollout_is_asked_for() -> None:
    first = rendered(shared())
    nodes = (shared(), mixed(p1g_10gb=2))
    shown = rendered(*nodes, stored=(revision(first),))
    assert shown.gpu is not None
    assert "MIG (Hard" in shown.gpu.pending
    moved = rendered(*nodes, stored=(revision(first),), rollout="now")
    assert limits(moved) == {"nvidia.com/mig-1g.10gb": "1"}


def test_what_happens_on_excess_changes_no_pod() -> None:
    first = rendered(shared())
    later = rendered(stored=(revision(first),), gpu={"memory": "6Gi", "onExceed": "Evict"})
    assert later.template == first.template


def test_a_spec_that_no_node_can_serve_is_unavailable_and_one_that_was_served_before_is_not() -> None:
    with pytest.raises(GpuUnavailableError, match=r"spec\.gpu: no node has a GPU"):
        rendered()
    with pytest.raises(GpuUnavailableError, match="may not read nodes"):
        rendered(blind=True)
    first = rendered(shared())
    assert rendered(stored=(revision(first),)).template == first.template
    with pytest.raises(GpuUnavailableError):
        rendered(whole(count=1), stored=(revision(first),), gpu={"memory": "200Gi"})


def test_without_a_gpu_nodes_mean_nothing() -> None:
    plain = rendered(shared(), gpu=None)
    assert plain.gpu is None
    assert plain.objects == render(read(service()), settings=SETTINGS).objects


def test_a_rollout_takes_a_pod_away_first_only_where_no_further_one_fits() -> None:
    def strategy(result: Rendered) -> Json:
        found: Json = deployment(result)["spec"]["strategy"]["rollingUpdate"]
        return found

    without, usual = {"maxUnavailable": 1, "maxSurge": 0}, {"maxUnavailable": 0, "maxSurge": "25%"}
    assert strategy(rendered(mixed(p1g_10gb=1))) == without
    assert strategy(rendered(mixed(p1g_10gb=2))) == usual
    assert strategy(rendered(mixed(p1g_10gb=2), scaling={"maxReplicas": 2})) == without
    assert strategy(rendered(gpu={"count": 1})) == usual, "a cluster autoscaler may add nodes"
    assert strategy(rendered(blind=True, gpu={})) == usual


def test_the_pod_tolerates_gpu_nodes_once_and_sizes_tritons_pool_unless_the_user_does() -> None:
    toleration = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    own = rendered(shared(), runtime={"tolerations": [toleration], "args": ["--cuda-memory-pool-byte-size=0:1"]})
    assert pod(own)["tolerations"] == [toleration]
    pools = [arg for arg in pod(own)["containers"][0]["args"] if arg.startswith("--cuda-memory-pool")]
    assert pools == ["--cuda-memory-pool-byte-size=0:1"]
    assert "--cuda-memory-pool-byte-size=0:67108864" in pod(rendered(shared()))["containers"][0]["args"]
    assert "--allow-gpu-metrics=true" in pod(rendered(shared()))["containers"][0]["args"]


def test_shared_memory_is_left_to_the_mps_server_and_only_there() -> None:
    def places(result: Rendered) -> tuple[list[str], list[str]]:
        spec = pod(result)
        return [mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]], [
            v["name"] for v in spec["volumes"]
        ]

    mounts, volumes = places(rendered(shared(by="mps")))
    assert "/dev/shm" not in mounts, "the kubelet would mount ours over the MPS server's"
    assert "shm" not in volumes
    for nodes in (shared(), whole(), mixed(p1g_10gb=1)):
        mounts, volumes = places(rendered(nodes))
        assert mounts.count("/dev/shm") == volumes.count("shm") == 1


def test_an_onnx_model_on_a_shared_gpu_gets_a_limit_of_its_arena_unless_its_owner_says_another() -> None:
    def defaults(node: NodeGpus, model: Json, gpu: Json | None = None) -> str:
        declared = {"name": "m", "source": {"uri": "https://models.example.com/m.tar.gz"}, **model}
        result = rendered(node, models=[declared], gpu={"memory": "6Gi"} if gpu is None else gpu)
        [text] = [
            data
            for manifest in result.objects
            if manifest["kind"] == "ConfigMap"
            for key, data in manifest["data"].items()
            if "https://models.example.com" in data
        ]
        return str(json.loads(text)["defaults_text"])

    limit = f'string_value: "{6 * 2**30 - 256 * 2**20 - 64 * 2**20}"'
    for by in ("time-slicing", "mps"):
        for onnx in ({"backend": "onnxruntime"}, {"platform": "onnxruntime_onnx"}):
            text = defaults(shared(by=by), onnx)
            assert '"gpu_mem_limit"' in text
            assert limit in text
    # A slice or a GPU of its own ends where the backend sees it end; other backends take no such limit.
    by_name = {"backend": "onnxruntime"}
    assert "gpu_mem_limit" not in defaults(mixed(p1g_10gb=1), by_name)
    assert "gpu_mem_limit" not in defaults(whole(), by_name)
    assert "gpu_mem_limit" not in defaults(whole(), by_name, gpu={})
    assert "gpu_mem_limit" not in defaults(shared(), {"backend": "tensorrt"})
    # What the owner of a model says stands above.
    own = model_config.parse('parameters { key: "gpu_mem_limit" value { string_value: "7" } }')
    merged = model_config.merge(model_config.parse(defaults(shared(), by_name)), own).config
    assert merged.parameters["gpu_mem_limit"].string_value == "7"


def test_placement_is_added_to_the_affinity_of_the_user() -> None:
    term = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    other: Json = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    asked = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}, **other}
    affinity = pod(rendered(mixed(p1g_10gb=1), runtime={"affinity": asked}))["affinity"]
    [made] = affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert made["matchExpressions"][0] == term["matchExpressions"][0]
    assert {entry["key"] for entry in made["matchExpressions"]} >= {"zone", "nvidia.com/gpu.product"}
    assert affinity["podAntiAffinity"] == other["podAntiAffinity"]
