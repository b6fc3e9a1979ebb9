"""Whatever a user declares: it is refused in words or rendered whole, always the same, and Kubernetes accepts it."""

from __future__ import annotations

import json
from typing import Any

import kubernetes_validate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nereus.api.manifests import canonical
from nereus.api.problems import InvalidSpecError, Problem
from nereus.api.service import read
from nereus.rendering import Rendered, render
from nereus.triton import config, model_config
from nereus.workload.settings import Settings

Json = dict[str, Any]

text = st.text(max_size=20)
name = st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
seconds = st.integers(1, 600).map(lambda number: f"{number}s")
quantity = st.sampled_from(["1", "1000m", "0.5", "512Mi", "1.5Gi", "2048Ki", 3])
dims = st.lists(st.sampled_from([-1, 1, 3, 224]), min_size=1, max_size=4)
tensor = st.fixed_dictionaries(
    {
        "name": st.text("ABCxyz_", min_size=1, max_size=4),
        "dataType": st.sampled_from(["FP32", "INT8", "STRING", "BF16"]),
    },
).flatmap(lambda made: dims.map(lambda shape: {**made, "dims": shape}))


def tensors() -> st.SearchStrategy[list[Json]]:
    return st.lists(tensor, min_size=1, max_size=3, unique_by=lambda made: made["name"])


def some(required: Json, optional: Json) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries(required, optional=optional)


batching = some(
    {},
    {
        "mode": st.just("Dynamic"),
        "preferredBatchSizes": st.lists(st.integers(1, 64), max_size=4),
        "maxQueueDelay": st.sampled_from(["0s", "1.5ms", "2s"]),
        "preserveOrdering": st.booleans(),
        "priorities": st.just({"levels": 3, "default": 2}),
        "queue": some({"timeout": seconds}, {"maxSize": st.integers(1, 99), "onTimeout": st.just("Delay")}),
    },
)
model = some(
    {
        "name": st.from_regex(r"[a-zA-Z0-9]([-._a-zA-Z0-9]{0,20}[a-zA-Z0-9])?", fullmatch=True),
        "source": st.sampled_from(
            ["configmap://files", "configmap://files/p", "pvc://claim/a/b", "pvc://claim", "https://example.com/m.zip"]
        ).map(lambda uri: {"uri": uri}),
    },
    {
        "backend": st.sampled_from(["python", "onnxruntime"]),
        "maxBatchSize": st.integers(1, 128),
        "inputs": tensors(),
        "outputs": tensors(),
        "batching": batching,
        "instances": some({}, {"count": st.integers(1, 256), "kind": st.sampled_from(["Auto", "CPU", "Model", "GPU"])}),
        "warmup": some({}, {"requests": st.integers(1, 9), "batchSize": st.integers(1, 4)}),
        "versions": st.sampled_from([{"latest": 2}, {"all": True}, {"specific": [4, 2]}]),
        "parameters": st.dictionaries(st.text(min_size=1, max_size=8), text, max_size=3),
        "configText": st.sampled_from(
            ["", "max_batch_size: 16", "dynamic_batching {}", "sequence_batching {}", "what"]
        ),
    },
)
runtime = some(
    {},
    {
        "image": st.just("example.com/triton:1"),
        "resources": some(
            {},
            {
                "requests": st.dictionaries(st.sampled_from(["cpu", "memory"]), quantity),
                "limits": st.dictionaries(st.sampled_from(["cpu", "memory", "nvidia.com/gpu"]), quantity),
            },
        ),
        "args": st.lists(st.sampled_from(["--log-verbose=1", "--http-port=1", "--id=x"]), max_size=2),
        "env": st.lists(some({"name": name}, {"value": text}), max_size=2, unique_by=lambda made: made["name"]),
        "nodeSelector": st.just({"disk": "ssd"}),
        "sharedMemory": quantity,
        "terminationGracePeriod": seconds,
        "serviceAccountName": name,
        "podLabels": st.just({"team": "a"}),
        "securityContext": st.sampled_from([{"runAsUser": 0}, {"fsGroup": 5}]),
    },
)
scaling = st.one_of(
    some({"strategy": st.just("Manual")}, {"replicas": st.integers(0, 9)}),
    some({}, {"minReplicas": st.integers(1, 4), "maxReplicas": st.integers(2, 9)}),
)
spec = some(
    {"models": st.lists(model, min_size=1, max_size=4, unique_by=lambda made: made["name"])},
    {
        "runtime": runtime,
        "endpoint": some(
            {}, {"connectionAge": seconds, "connectionAgeGrace": seconds, "serviceType": st.just("NodePort")}
        ),
        "scaling": scaling,
        "suspend": st.booleans(),
    },
)
resource = st.builds(lambda called, declared: {"metadata": {"name": called, "uid": "u"}, "spec": declared}, name, spec)
SETTINGS = Settings(sidecar_image="sidecar:1", triton_image="triton:1")
bounded = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def _rendered(given: Json) -> tuple[Rendered | None, tuple[Problem, ...]]:
    try:
        return render(read(given), settings=SETTINGS), ()
    except InvalidSpecError as error:
        return None, error.problems


@bounded
@given(resource)
def test_every_spec_is_rendered_or_refused_in_words(given: Json) -> None:
    result, problems = _rendered(given)
    if result is None:
        assert problems
        assert all(problem.path and problem.message for problem in problems)
        return
    again = render(read(json.loads(json.dumps(given))), settings=SETTINGS)
    assert [canonical(manifest) for manifest in again.objects] == [canonical(manifest) for manifest in result.objects]

    stored = [manifest for manifest in result.objects if manifest["kind"] == "ControllerRevision"]
    settled = render(read(given), settings=SETTINGS, stored=stored)
    assert settled.objects == result.objects, "rendering again with what is stored changes nothing"
    assert settled.pending is None

    for manifest in result.objects:
        kubernetes_validate.validate(manifest, "1.35", strict=True)


@bounded
@given(model)
def test_what_is_said_to_triton_is_always_a_model_configuration(given: Json) -> None:
    try:
        [made] = read({"metadata": {"name": "s"}, "spec": {"models": [given]}}).models
    except InvalidSpecError:
        return
    for said in (config.fields_text(made), config.defaults_text(made)):
        assert model_config.to_text(model_config.parse(said)) == said
