"""The golden files on a real API server: accepted as they are, stored as they are written, and pods that it admits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nereus.api.manifests import Manifest
from nereus.controller.kinds import kind_of
from tests.golden.write import Case, cases
from tests.harness import chart
from tests.harness.apiserver import Api

CASES = cases()


@pytest.fixture
def restricted(api: Api, empty_namespace: str) -> str:
    """A namespace that refuses every pod that does not keep to the restricted standard."""
    label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    labelled = api.request("PATCH", f"/api/v1/namespaces/{empty_namespace}", label)
    assert labelled.accepted, labelled.message
    return empty_namespace


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_server_stores_every_object_as_it_is_written(api: Api, empty_namespace: str, case: Case) -> None:
    """A difference would be taken for drift, and written again for ever."""
    for manifest in case.rendered().objects:
        if manifest["kind"] in ("PodMonitor", "PrometheusRule"):  # their definitions are not installed here
            continue
        stored = _dry_run(api, manifest, empty_namespace)
        assert list(_differences(manifest, stored, manifest["kind"])) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_pods_are_admitted_where_only_restricted_ones_are(api: Api, restricted: str, case: Case) -> None:
    template = case.rendered().template.body
    spec = {
        key: value for key, value in template["spec"].items() if key not in ("priorityClassName", "serviceAccountName")
    }
    metadata = {**template["metadata"], "name": "pod"}
    _dry_run(api, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, restricted)


def test_the_operators_own_pods_and_policies_are_admitted_where_only_restricted_ones_are(
    api: Api, restricted: str
) -> None:
    objects = chart.rendered(restricted, "--set", "networkPolicy.enabled=true", "--set", "triton.image=triton:1")
    made = {item["kind"]: item for item in objects}
    template = made["Deployment"]["spec"]["template"]
    spec = {key: value for key, value in template["spec"].items() if key != "serviceAccountName"}
    metadata = {**template["metadata"], "name": "pod"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    assert api.apply(f"/api/v1/namespaces/{restricted}/pods/pod", pod, manager="helm", dry_run=True).accepted
    open_to_the_node = {**spec, "containers": [{**spec["containers"][0], "securityContext": {"privileged": True}}]}
    refused = api.apply(
        f"/api/v1/namespaces/{restricted}/pods/pod", {**pod, "spec": open_to_the_node}, manager="helm", dry_run=True
    )
    assert "PodSecurity" in refused.message, "the namespace admits everything"
    policy = made["NetworkPolicy"]
    path = f"/apis/networking.k8s.io/v1/namespaces/{restricted}/networkpolicies/{policy['metadata']['name']}"
    answer = api.apply(path, policy, manager="helm", dry_run=True, strict=True)
    assert answer.accepted, answer.message


def _dry_run(api: Api, manifest: Manifest, namespace: str) -> Manifest:
    """What the server would store; fails with its words when it refuses or warns."""
    moved = {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}
    path = kind_of(manifest["kind"]).path(namespace, manifest["metadata"]["name"])
    answer = api.apply(path, moved, manager="nereus", dry_run=True, strict=True)
    assert answer.accepted, f"{manifest['kind']} {manifest['metadata']['name']}: {answer.message}"
    assert not answer.warnings, f"{manifest['kind']} {manifest['metadata']['name']}: {answer.warnings}"
    stored: Manifest = {**answer.body, "metadata": {**answer.body["metadata"]}}
    stored["metadata"]["namespace"] = manifest["metadata"].get("namespace")
    return stored


def _differences(written: Any, stored: Any, path: str) -> Iterator[str]:
    """Where what is stored is not what was written; what the server added by itself is none."""
    if isinstance(written, dict) and isinstance(stored, dict):
        for key, value in written.items():
            yield from _differences(value, stored.get(key), f"{path}.{key}")
    elif isinstance(written, list) and isinstance(stored, list) and len(written) == len(stored):
        for index, (one, other) in enumerate(zip(written, stored, strict=True)):
            yield from _differences(one, other, f"{path}[{index}]")
    elif written != stored:
        yield f"{path}: written {written!r}, stored {stored!r}"
