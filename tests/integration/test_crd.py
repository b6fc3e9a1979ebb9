"""The definition on a real API server: what it accepts, what it refuses and in which words, and what kubectl shows."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nereus.api import crd
from nereus.api.problems import InvalidSpecError
from nereus.api.service import read
from tests.harness.apiserver import MODEL_SERVICES, Answer, Api, eventually
from tests.harness.refusals import REFUSED
from tests.harness.resources import ACCEPTED, MODEL, Json, Refusal, service
from tests.tiers import ROOT

VERSION = crd.custom_resource_definition()["spec"]["versions"][0]
SPEC = VERSION["schema"]["openAPIV3Schema"]["properties"]["spec"]
EXAMPLES: dict[str, Json] = {
    f"examples/{path.name}": document
    for path in sorted((ROOT / "examples").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
    if document["kind"] == "ModelService"
}


def create(api: Api, namespace: str, resource: Json) -> Json:
    answer = api.request("POST", MODEL_SERVICES.format(namespace=namespace), resource)
    assert answer.accepted, answer.message
    return answer.body


# --- the manual


def test_kubectl_explain_lists_every_field_of_the_spec(api: Api) -> None:
    explained = api.kubectl("explain", "modelservice.spec", "--recursive")
    assert explained.returncode == 0, explained.stderr
    assert set(_explained_paths(explained.stdout)) == set(_schema_paths(SPEC, ()))


def test_kubectl_explain_knows_the_short_name_and_shows_our_words(api: Api) -> None:
    def lack() -> str | None:
        """A definition that is new is in the server's list of kinds only a moment after its schema."""
        explained = api.kubectl("explain", "msvc.spec.endpoint.connectionAge")
        found = "When absent: 30s." in " ".join(explained.stdout.split())
        return None if found else explained.stdout + explained.stderr

    eventually(lack)


def _explained_paths(text: str) -> Iterator[tuple[str, ...]]:
    """The tree that kubectl prints, two blanks a level, as paths."""
    stack: list[str] = []
    for line in text.partition("FIELDS:\n")[2].splitlines():
        name, marker, _ = line.strip().partition("\t<")
        if not marker:
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        stack[depth - 1 :] = [name]
        yield tuple(stack)


def _schema_paths(schema: Json, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    inner = schema.get("items") or schema.get("additionalProperties") or schema
    for name, child in inner.get("properties", {}).items():
        yield (*path, name)
        yield from _schema_paths(child, (*path, name))


# --- the gate


@pytest.mark.parametrize("resource", [*ACCEPTED.values(), *EXAMPLES.values()], ids=[*ACCEPTED, *EXAMPLES])
def test_a_good_resource_is_stored_word_for_word(api: Api, empty_namespace: str, resource: Json) -> None:
    answer = api.try_out(resource, namespace=empty_namespace)
    assert answer.accepted, answer.message
    assert answer.body["spec"] == resource["spec"]


@pytest.mark.parametrize("refusal", REFUSED, ids=str)
def test_a_bad_resource_is_refused_with_field_and_remedy(api: Api, empty_namespace: str, refusal: Refusal) -> None:
    answer = api.try_out(refusal.resource, namespace=empty_namespace)
    assert answer.code in (400, 422), f"accepted: {answer.body}"
    for word in refusal.server_words or refusal.words:
        assert word in answer.message


def test_kubectl_shows_every_mistake_at_once(api: Api, empty_namespace: str) -> None:
    resource = service(endpoint={"connectionAge": "5h"}, scaling={"replicas": 2}, models=[{**MODEL, "name": "m m"}])
    applied = api.kubectl("apply", "-n", empty_namespace, "-f", "-", stdin=json.dumps(resource))
    assert applied.returncode != 0
    for field in ("spec.endpoint.connectionAge", "spec.scaling", "spec.models[0].name"):
        assert f"* {field}: Invalid value" in applied.stderr


def test_a_service_too_large_for_an_annotation_is_applied_on_the_server_side(api: Api, namespace: str) -> None:
    models = [{**MODEL, "name": f"m{number}", "configText": "#" * 2000} for number in range(200)]
    document = json.dumps(service(models=models))
    client_side = api.kubectl("apply", "-n", namespace, "-f", "-", stdin=document)
    assert "metadata.annotations: Too long" in client_side.stderr
    server_side = api.kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=document)
    assert server_side.returncode == 0, server_side.stderr


# --- two judges, one verdict

_EVERYTHING = copy.deepcopy(service())
for _resource in ACCEPTED.values():
    if len(_resource["spec"].get("models", ())) == 1 and "suspend" not in _resource["spec"]:
        _EVERYTHING["spec"].update(copy.deepcopy(_resource["spec"]))
_EVERYTHING["spec"]["models"] = copy.deepcopy(ACCEPTED["a model with everything"]["spec"]["models"])
_HOSTILE: tuple[Any, ...] = (
    "", " ", "x", "X_1", "-", "a.b", "a/b", "é", "\n", "Off", "Auto", "Manual", "FP32", "n" * 64, "n" * 2100,
    "0s", "5m", "1.5h", "9999h", "1h1m1s1ms1us", "500m", "1.5Gi", "1e3", "007",
    "pvc://c/..", "pvc://c//d", "pvc://c/d/", "https://h", "https://h/é", "https://[::1]/x", "https:// h", "configmap://a/..b",
    -1, 0, 1, 2, 65, 1024, 8003, 70000, 2**31, 2**53 + 1, True, False, 1.5, None,
    [], {}, [0], [1, 1], ["a"], {"a": "b"}, {"a b": "c"}, {"a": 1}, {"levels": 1, "default": 2}, {"latest": 1},
)  # fmt: skip


def _places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a document, down to where a value belongs to Kubernetes."""
    passed_through = {"env", "volumes", "volumeMounts", "tolerations", "affinity", "securityContext", "metrics"}
    passed_through |= {"behavior", "topologySpreadConstraints", "imagePullSecrets"}
    if path and path[-1] in passed_through:
        return
    if path:
        yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in entries:
        yield from _places(child, (*path, key))


PLACES = sorted(_places(_EVERYTHING["spec"]), key=str)


@st.composite
def mutilated(draw: st.DrawFn) -> Json:
    """A service with everything, in which one to three places hold something else or nothing."""
    resource = copy.deepcopy(_EVERYTHING)
    for place in draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=3)):
        at: Any = resource["spec"]
        try:
            for step in place[:-1]:
                at = at[step]
            if draw(st.booleans()):
                at[place[-1]] = copy.deepcopy(draw(st.sampled_from(_HOSTILE)))
            else:
                del at[place[-1]]
        except (KeyError, IndexError, TypeError):
            continue  # an earlier mutilation took this place away
    return resource


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(resource=mutilated())
def test_the_operator_and_the_api_server_refuse_the_same_resources(
    api: Api, empty_namespace: str, resource: Json
) -> None:
    answer = api.try_out(resource, namespace=empty_namespace)
    refusal = _refusal_of_read(resource)
    assert answer.accepted == (refusal == ""), (
        f"API server: {answer.message or 'accepts'}\noperator: {refusal or 'accepts'}"
    )


@pytest.mark.parametrize("name", ["a", "a-1", "n" * 63, "n" * 64, "a-", "-a", "9a", "a.b", "A", "a_b"])
def test_the_operator_and_the_api_server_refuse_the_same_names(api: Api, empty_namespace: str, name: str) -> None:
    assert api.try_out(service(name), namespace=empty_namespace).accepted == (_refusal_of_read(service(name)) == "")


def _refusal_of_read(resource: Json) -> str:
    """What the operator says against a resource; empty when it takes it."""
    try:
        read(resource)
    except InvalidSpecError as error:
        return str(error)
    return ""


# --- what kubectl get shows


def test_kubectl_get_shows_the_documented_columns(api: Api, namespace: str) -> None:
    create(api, namespace, service("shown", scaling={"minReplicas": 2, "maxReplicas": 9}))
    answer = _set_status(api, namespace, "shown")
    assert answer.accepted, answer.message
    table = api.request(
        "GET",
        MODEL_SERVICES.format(namespace=namespace),
        accept="application/json;as=Table;v=v1;g=meta.k8s.io",
    ).body
    names = [column["name"] for column in table["columnDefinitions"]]
    wide = ["Strategy", "GPUMem", "Coldstart"]
    assert names == ["Name", "Ready", "Reason", "Replicas", "Load", "Next", "Min", "Max", "GPU", "URL", "Age", *wide]
    assert [column["name"] for column in table["columnDefinitions"] if column["priority"]] == wide
    shown = dict(zip(names, table["rows"][0]["cells"], strict=True))
    shown.pop("Age")
    assert shown == {
        "Name": "shown",
        "Ready": "False",
        "Reason": "Unschedulable",
        "Replicas": "1/2",
        "Load": 1.5,
        "Next": 2.4,
        "Min": 2,
        "Max": 9,
        "GPU": "MIG",
        "GPUMem": "7.4Gi/9.5Gi Hard",
        "URL": f"http://shown.{namespace}.svc:8000",
        "Strategy": "Metrics",
        "Coldstart": 12.5,
    }


def _set_status(api: Api, namespace: str, name: str, **changes: Any) -> Answer:
    status = {
        "observedGeneration": 1,
        "conditions": [
            {
                "type": "Ready",
                "status": "False",
                "observedGeneration": 1,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
                "reason": "Unschedulable",
                "message": "no node has 8 free CPUs",
            }
        ],
        "replicas": "1/2",
        "currentReplicas": 2,
        "selector": f"serving.nereus.dev/service={name}",
        "url": f"http://{name}.{namespace}.svc:8000",
        "resolved": {"strategy": "Metrics", "minReplicas": 2, "maxReplicas": 9},
        "scaling": {"load": 1.5, "forecast": 2.4},
        "coldStart": {"samples": 2, "p95": 12.5},
        "gpu": {"mechanism": "MIG", "enforcement": "Hard", "memory": "7.4Gi/9.5Gi Hard"},
        **changes,
    }
    return api.request("PATCH", f"{MODEL_SERVICES.format(namespace=namespace)}/{name}/status", {"status": status})


def test_a_status_beyond_its_bounds_is_refused(api: Api, namespace: str) -> None:
    create(api, namespace, service("bounded"))
    reason = {"reason": "Crashing", "count": 1, "message": "m"}
    answer = _set_status(api, namespace, "bounded", reasons=[reason] * 11)
    assert answer.code == 422
    assert "status.reasons" in answer.message


# --- kubectl scale


def test_kubectl_scale_sets_the_replicas_of_strategy_manual(api: Api, namespace: str) -> None:
    create(api, namespace, service("manual", scaling={"strategy": "Manual", "replicas": 1}))
    _set_status(api, namespace, "manual")
    scaled = api.kubectl("scale", "-n", namespace, "msvc/manual", "--replicas=3")
    assert scaled.returncode == 0, scaled.stderr
    path = f"{MODEL_SERVICES.format(namespace=namespace)}/manual"
    assert api.get(path)["spec"]["scaling"]["replicas"] == 3
    scale = api.get(f"{path}/scale")
    assert scale["status"] == {"replicas": 2, "selector": "serving.nereus.dev/service=manual"}


def test_kubectl_scale_is_refused_under_strategy_metrics_and_names_what_to_do(api: Api, namespace: str) -> None:
    create(api, namespace, service("metrics", scaling={"maxReplicas": 4}))
    scaled = api.kubectl("scale", "-n", namespace, "msvc/metrics", "--replicas=3")
    assert scaled.returncode != 0
    assert "set strategy Manual, or use minReplicas and maxReplicas" in scaled.stderr
