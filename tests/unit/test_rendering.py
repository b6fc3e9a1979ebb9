"""From a ModelService to its objects: all of them, in order, and the pods left alone until somebody asks."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from nereus.api import names
from nereus.api.manifests import Manifest, identity
from nereus.api.problems import InvalidSpecError
from nereus.api.service import read
from nereus.rendering import Rendered, render
from nereus.workload.settings import Settings
from tests.harness.resources import many_models, service

SETTINGS = Settings(sidecar_image="sidecar:1", triton_image="triton:1")
NEXT_RELEASE = Settings(sidecar_image="sidecar:2", triton_image="triton:2")


def rendered(settings: Settings = SETTINGS, stored: tuple[Manifest, ...] = (), **spec: Any) -> Rendered:
    return render(read(service(**spec)), settings=settings, stored=stored)


def one(result: Rendered, kind: str) -> Manifest:
    [manifest] = [manifest for manifest in result.objects if manifest["kind"] == kind]
    return manifest


def revision(result: Rendered) -> Manifest:
    return one(result, "ControllerRevision")


def pods(result: Rendered) -> Any:
    return one(result, "Deployment")["spec"]["template"]


def test_a_service_becomes_all_its_objects_in_the_order_of_their_use() -> None:
    assert [manifest["kind"] for manifest in rendered().objects] == [
        "ConfigMap",
        "ControllerRevision",
        "Service",
        "PodDisruptionBudget",
        "Deployment",
        "HorizontalPodAutoscaler",
    ]


def test_what_is_optional_is_there_when_it_is_needed() -> None:
    manual = rendered(scaling={"strategy": "Manual"})
    assert "HorizontalPodAutoscaler" not in [manifest["kind"] for manifest in manual.objects]
    monitored = rendered(dataclasses.replace(SETTINGS, pod_monitor=True))
    assert monitored.objects[-1]["kind"] == "PodMonitor"


@pytest.mark.parametrize(
    ("gpus", "pace"),
    [
        (10, {"maxUnavailable": 0, "maxSurge": "25%"}),  # 8 pods, and 2 more while they are replaced
        (9, {"maxUnavailable": 1, "maxSurge": 0}),
        (4, {"maxUnavailable": 1, "maxSurge": 0}),
    ],
)
def test_a_limit_of_gpus_holds_while_pods_are_replaced(gpus: int, pace: dict[str, Any]) -> None:
    made = rendered(gpu={}, scaling={"maxReplicas": 8, "limits": {"gpus": gpus}})
    assert one(made, "Deployment")["spec"]["strategy"]["rollingUpdate"] == pace
    without = rendered(gpu={}, scaling={"maxReplicas": 8})
    assert pods(made) == pods(without), "pods are not touched by a limit"


def test_a_new_release_changes_no_running_pod_and_says_what_it_would_change() -> None:
    first = rendered()
    after = rendered(NEXT_RELEASE, stored=(revision(first),))
    assert pods(after) == pods(first)
    assert revision(after) == revision(first)
    assert after.template == first.template
    assert after.pending == (
        "spec.containers[triton].image: triton:1 -> triton:2;"
        " spec.initContainers[sidecar].image: sidecar:1 -> sidecar:2"
    )
    assert first.pending is None


def test_a_changed_spec_takes_what_the_release_renders() -> None:
    first = rendered()
    after = rendered(NEXT_RELEASE, stored=(revision(first),), runtime={"args": ["--log-verbose=1"]})
    assert pods(after)["spec"]["containers"][0]["image"] == "triton:2"
    assert revision(after)["revision"] == 2
    assert after.template.revision != first.template.revision
    assert after.pending is None


def test_taking_a_change_back_brings_back_the_very_template() -> None:
    first = rendered()
    changed = rendered(stored=(revision(first),), runtime={"args": ["--log-verbose=1"]})
    back = rendered(NEXT_RELEASE, stored=(revision(first), revision(changed)))
    assert pods(back) == pods(first)
    assert back.template.revision == first.template.revision


def test_a_rollout_that_was_asked_for_takes_the_newest_template() -> None:
    first = rendered()
    asked = service()
    asked["metadata"] = {**asked["metadata"], "annotations": {names.ANNOTATION_ROLLOUT: "2026-11-21"}}
    after = render(read(asked), settings=NEXT_RELEASE, stored=(revision(first),))
    assert pods(after)["spec"]["initContainers"][0]["image"] == "sidecar:2"
    assert after.pending is None


def test_a_rollout_with_nothing_new_replaces_no_pod() -> None:
    first = rendered()
    asked = service()
    asked["metadata"] = {**asked["metadata"], "annotations": {names.ANNOTATION_ROLLOUT: "again"}}
    after = render(read(asked), settings=SETTINGS, stored=(revision(first),))
    assert pods(after) == pods(first)
    assert identity(revision(after)) == identity(revision(first))


def test_a_further_model_changes_the_plan_and_no_pod() -> None:
    models = service()["spec"]["models"]
    first = rendered()
    after = rendered(models=[*models, {**models[0], "name": "second"}], stored=(revision(first),))
    assert pods(after) == pods(first)
    assert after.plan.revision != first.plan.revision
    assert set(after.plan.models) == {"m", "second"}


def test_the_objects_share_nothing_that_a_writer_could_change_in_two_places() -> None:
    result = rendered()
    revision(result)["data"]["spec"]["containers"][0]["image"] = "changed"
    assert pods(result)["spec"]["containers"][0]["image"] == "triton:1"


def test_without_an_image_anywhere_the_field_is_named() -> None:
    with pytest.raises(InvalidSpecError) as refused:
        rendered(Settings(sidecar_image="s"))
    assert [problem.path for problem in refused.value.problems] == ["spec.runtime.image"]


def test_an_installation_that_lost_its_default_image_keeps_running_pods() -> None:
    first = rendered()
    after = rendered(Settings(sidecar_image="sidecar:1"), stored=(revision(first),))
    assert pods(after) == pods(first)
    assert after.pending is None


def test_problems_of_all_rooms_are_told_at_once() -> None:
    metric = {
        "type": "ContainerResource",
        "containerResource": {
            "name": "cpu",
            "container": "x",
            "target": {"type": "Utilization", "averageUtilization": 1},
        },
    }
    with pytest.raises(InvalidSpecError) as refused:
        rendered(
            models=[{"name": "m", "source": {"uri": "pvc://c"}, "configText": "nonsense"}],
            runtime={"args": ["--http-port=1"], "sharedMemory": "1"},
            scaling={"metrics": [metric]},
        )
    assert [problem.path for problem in refused.value.problems] == [
        "spec.models[0].configText",
        "spec.runtime.args[0]",
        "spec.runtime.sharedMemory",
        "spec.scaling.metrics[0].containerResource.container",
    ]


def test_two_hundred_models_and_a_name_of_63_characters_are_rendered() -> None:
    many = many_models(200)
    many["metadata"]["name"] = "n" * 63
    result = render(read(many), settings=SETTINGS)
    assert len(result.plan.models) == 200
    for manifest in result.objects:
        assert len(manifest["metadata"]["name"]) <= 253
        assert all(len(value) <= 63 for value in manifest["metadata"]["labels"].values())
