"""Whatever stands in children and in the old status: a look at a ModelService survives it, for any content."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nereus import rendering
from nereus.api import names, service
from nereus.controller import drift
from nereus.controller.kinds import CHILDREN, POD
from nereus.controller.store import Key, Store
from nereus.diagnosis import report, story
from nereus.diagnosis.world import TemplateInUse, World
from nereus.workload.settings import Settings

Json = dict[str, Any]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = Settings(sidecar_image="sidecar:1", triton_image="triton:1", sidecar_pull_policy="IfNotPresent")
RESOURCE: Json = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "metadata": {"name": "svc", "namespace": "ns", "uid": "u", "generation": 3, "resourceVersion": "9"},
    "spec": {
        "models": [{"name": "m", "source": {"uri": "configmap://models/m"}, "backend": "python", "maxBatchSize": 8}],
        "scaling": {"minReplicas": 2, "maxReplicas": 4},
    },
}
WISHED = service.read(RESOURCE)
RENDERED = rendering.render(WISHED, settings=SETTINGS)
CHILDREN_AND_PODS = (*CHILDREN, POD)
KINDS = ("Deployment", "Pod", "HorizontalPodAutoscaler", "Service", "ConfigMap", "ControllerRevision")

LEAVES = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=8)
WORDS = st.sampled_from(
    [
        "conditions",
        "type",
        "status",
        "replicas",
        "containerStatuses",
        "state",
        "waiting",
        "reason",
        "lastTransitionTime",
        "phase",
        "podIP",
        "spec",
        "metadata",
        "labels",
        "annotations",
        "currentMetrics",
        "models",
        "coldStart",
        "message",
    ]
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=5),
    max_leaves=25,
)
OBJECTS = st.dictionaries(WORDS, ANYTHING, max_size=6)


def child(kind: str, spec: Any, status: Any, data: Any) -> Json:
    """An object as the API server could hold it: the frame is its own, the rest is anybody's."""
    owner = {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": "svc", "uid": "u", "controller": True}
    metadata = {"name": "svc", "namespace": "ns", "uid": kind, "resourceVersion": "7", "ownerReferences": [owner]}
    return {"kind": kind, "metadata": metadata, "spec": spec, "status": status, "data": data}


@settings(max_examples=60)
@given(kind=st.sampled_from(KINDS), spec=OBJECTS, status=OBJECTS, data=OBJECTS)
def test_any_child_can_be_kept_and_read_back_as_it_was(kind: str, spec: Json, status: Json, data: Json) -> None:
    store = Store()
    manifest = child(kind, spec, status, data)
    store.put(manifest)
    (kept,) = [item for one in CHILDREN_AND_PODS for item in store.children(Key("ns", "svc"), one) if one.kind == kind]
    assert kept == manifest


@settings(max_examples=60)
@given(live=OBJECTS, spec=ANYTHING)
def test_any_live_object_can_be_compared_and_what_is_equal_has_no_difference(live: Json, spec: Any) -> None:
    for manifest in RENDERED.objects:
        desired = drift.stamped(manifest)
        assert drift.differences(desired, {**live, "spec": spec, "metadata": {}})
        assert drift.differences(desired, {**live, **desired}) == ()


@settings(max_examples=60)
@given(deployment=OBJECTS, pod=OBJECTS, autoscaler=OBJECTS, previous=OBJECTS)
def test_any_state_of_the_children_and_any_old_status_gives_a_status(
    deployment: Json, pod: Json, autoscaler: Json, previous: Json
) -> None:
    world = World.read(
        WISHED,
        plan_revision=RENDERED.plan.revision,
        pods=[child("Pod", {}, pod, None)],
        deployment=child("Deployment", {}, deployment, None),
        autoscaler=child("HorizontalPodAutoscaler", {}, autoscaler, None),
        reports={},
        warnings={},
        apply_failures=(),
        template=TemplateInUse(revision="r", hash="h", pending=""),
    )
    status = report.status(world, previous=previous, now=NOW)
    assert {item["type"] for item in status["conditions"]} >= {"Ready", "Progressing"}
    assert report.status(world, previous=status, now=NOW)["conditions"] == status["conditions"]
    list(story.events(previous, status))
