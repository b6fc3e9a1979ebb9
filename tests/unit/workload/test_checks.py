"""What Kubernetes would refuse, or what would collide with ours, is told with the field of the ModelService."""

from __future__ import annotations

from typing import Any

import pytest

from nereus.api.service import read
from nereus.workload.checks import problems
from tests.harness.resources import service


def volume(name: str, path: str) -> dict[str, Any]:
    return {"volumes": [{"name": name, "emptyDir": {}}], "volumeMounts": [{"name": name, "mountPath": path}]}


WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("a volume with our name", volume("shm", "/x"), "volumes[0].name", "'shm'"),
    ("a volume named like a source", volume("source-1", "/x"), "volumes[0].name", "'source-1'"),
    ("a mount over the models", volume("v", "/models"), "volumeMounts[0].mountPath", "'/models'"),
    ("a mount in our directory", volume("v", "/nereus/run/x"), "volumeMounts[0].mountPath", "belongs to Nereus"),
    ("a mount over shared memory", volume("v", "/dev/shm/"), "volumeMounts[0].mountPath", "'/dev/shm'"),
    (
        "a label of ours",
        {"podLabels": {"app.kubernetes.io/name": "x"}},
        "podLabels.app.kubernetes.io/name",
        "remove it",
    ),
    (
        "an annotation of ours",
        {"podAnnotations": {"serving.nereus.dev/plan": "x"}},
        "podAnnotations.serving.nereus.dev/plan",
        "remove it",
    ),
    (
        "a request above its limit",
        {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1024Mi"}}},
        "resources.requests.memory",
        "2Gi is above the limit 1024Mi",
    ),
    (
        "a device that is requested without a limit",
        {"resources": {"requests": {"nvidia.com/gpu": 1}}},
        "resources.requests.nvidia.com/gpu",
        "same amount under limits",
    ),
    ("shared memory for nobody", {"sharedMemory": "64"}, "sharedMemory", "64 is below 1Mi"),
    ("no time to stop", {"terminationGracePeriod": "0s"}, "terminationGracePeriod", "below 1s"),
]


@pytest.mark.parametrize(("runtime", "path", "words"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_it_is_told(runtime: dict[str, Any], path: str, words: str) -> None:
    [problem] = problems(read(service(runtime=runtime)))
    assert problem.path == f"spec.runtime.{path}"
    assert words in problem.message


def test_two_mounts_at_one_place_are_told() -> None:
    runtime = {
        "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "emptyDir": {}}],
        "volumeMounts": [{"name": "a", "mountPath": "/data"}, {"name": "b", "mountPath": "/data/"}],
    }
    assert [problem.path for problem in problems(read(service(runtime=runtime)))] == [
        "spec.runtime.volumeMounts[1].mountPath"
    ]


def test_an_annotation_of_ours_on_the_service_is_told() -> None:
    endpoint = {"serviceAnnotations": {"serving.nereus.dev/x": "y"}}
    [problem] = problems(read(service(endpoint=endpoint)))
    assert problem.path.startswith("spec.endpoint.serviceAnnotations")


def test_nothing_is_said_about_a_runtime_that_works() -> None:
    runtime = {
        **volume("scratch", "/tmp"),
        "resources": {"requests": {"cpu": "500m", "nvidia.com/gpu": 1}, "limits": {"nvidia.com/gpu": "1", "cpu": 1}},
        "sharedMemory": "1Mi",
        "terminationGracePeriod": "1s",
        "podLabels": {"team": "vision"},
    }
    assert problems(read(service(runtime=runtime))) == ()
