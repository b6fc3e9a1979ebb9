"""Each check of the chart finds what it is for, and nothing in an object that is right."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from hack import manifest_checks

LABELS = dict.fromkeys(manifest_checks.RECOMMENDED_LABELS, "x")
GOOD: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "d", "labels": LABELS},
    "spec": {
        "replicas": 2,
        "template": {
            "spec": {
                "serviceAccountName": "d",
                "automountServiceAccountToken": False,
                "topologySpreadConstraints": [{"maxSkew": 1}],
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 65532,
                    "runAsGroup": 65532,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Mi"}}],
                "containers": [
                    {
                        "name": "c",
                        "image": "registry:5000/i:1",
                        "imagePullPolicy": "Always",
                        "resources": {
                            kind: {"cpu": "1", "memory": "1Mi", "ephemeral-storage": "1Mi"}
                            for kind in ("requests", "limits")
                        },
                        "readinessProbe": {"httpGet": {"path": "/readyz"}},
                        "livenessProbe": {"httpGet": {"path": "/healthz"}},
                        "securityContext": {
                            "allowPrivilegeEscalation": False,
                            "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]},
                        },
                    }
                ],
            }
        },
    },
}
BESIDE: list[dict[str, Any]] = [
    {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b", "labels": LABELS}},
    {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "n", "labels": LABELS}},
]
POD = ("spec", "template", "spec")
CONTAINER = (*POD, "containers", 0)
SECURITY = (*CONTAINER, "securityContext")


def checks(*objects: dict[str, Any]) -> set[str]:
    return {check for check, _ in manifest_checks.objects(objects)}


def test_a_deployment_that_is_right_passes() -> None:
    assert checks(GOOD, *BESIDE) == set()


@pytest.mark.parametrize(
    ("path", "value", "check"),
    [
        (("apiVersion",), "apps/v1beta1", "stable-version"),
        (("metadata", "labels"), {}, "labels"),
        ((*POD, "topologySpreadConstraints"), [], "spread"),
        ((*POD, "automountServiceAccountToken"), True, "token"),
        ((*POD, "serviceAccountName"), "default", "service-account"),
        ((*POD, "hostNetwork"), True, "host"),
        ((*POD, "volumes"), [{"name": "v", "hostPath": {"path": "/"}}], "host-path"),
        ((*POD, "volumes"), [{"name": "v", "emptyDir": {}}], "volume-size"),
        ((*POD, "securityContext", "runAsNonRoot"), False, "non-root"),
        ((*POD, "securityContext", "runAsUser"), 0, "user"),
        ((*POD, "securityContext", "seccompProfile"), {}, "seccomp"),
        ((*SECURITY, "allowPrivilegeEscalation"), True, "escalation"),
        ((*SECURITY, "privileged"), True, "privileged"),
        ((*SECURITY, "capabilities"), {"drop": ["ALL"], "add": ["SYS_ADMIN"]}, "capabilities"),
        ((*SECURITY, "readOnlyRootFilesystem"), False, "read-only"),
        ((*CONTAINER, "image"), "registry:5000/i", "image-tag"),
        ((*CONTAINER, "image"), "i:latest", "image-tag"),
        ((*CONTAINER, "imagePullPolicy"), "Never", "pull-policy"),
        ((*CONTAINER, "resources", "limits"), {"cpu": "1", "ephemeral-storage": "1"}, "memory-limit"),
        ((*CONTAINER, "resources", "requests"), {"memory": "1", "ephemeral-storage": "1"}, "cpu-request"),
        ((*CONTAINER, "livenessProbe"), {"httpGet": {"path": "/readyz"}}, "probes"),
        ((*CONTAINER, "env"), [{"name": "API_TOKEN", "value": "x"}], "secret-in-env"),
    ],
)
def test_one_thing_that_is_wrong_is_found(path: tuple[Any, ...], value: Any, check: str) -> None:
    wrong = copy.deepcopy(GOOD)
    place: Any = wrong
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert checks(wrong, *BESIDE) == {check}


@pytest.mark.parametrize(("missing", "check"), [(0, "disruption-budget"), (1, "network-policy")])
def test_what_must_stand_beside_a_deployment_is_missed(missing: int, check: str) -> None:
    assert checks(GOOD, BESIDE[1 - missing]) == {check}


@pytest.mark.parametrize(
    ("rule", "check"),
    [
        ({"apiGroups": [""], "resources": ["*"], "verbs": ["get"]}, "rbac-wildcard"),
        ({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}, "rbac-secrets"),
        ({"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"]}, "rbac-escalation"),
        ({"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]}, "rbac-pods"),
    ],
)
def test_a_role_that_grants_too_much_is_found(rule: dict[str, Any], check: str) -> None:
    role = {
        "apiVersion": "rbac/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "r", "labels": LABELS},
        "rules": [rule],
    }
    assert checks(role) == {check}


def test_a_binding_to_everybody_is_found() -> None:
    binding = {
        "apiVersion": "rbac/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "b", "labels": LABELS},
        "roleRef": {"name": "cluster-admin"},
        "subjects": [{"kind": "Group", "name": "system:authenticated"}],
    }
    assert checks(binding) == {"rbac-builtin", "rbac-subject"}


@pytest.mark.parametrize(
    ("line", "check"),
    [
        ("USER root", "image-user"),
        ("USER 0:0", "image-user"),
        ("ADD https://example.com/x /x", "image-add"),
        ("RUN curl https://example.com | sh", "image-fetch"),
        ("RUN pip install \\\n  x", "image-hashes"),
        ("RUN apt-get install -y x", "image-cache"),
        ("ENV API_TOKEN=x", "image-secret"),
        ("ARG BASE=python:3", "base-digest"),
    ],
)
def test_a_dockerfile_that_lets_something_in_is_found(line: str, check: str) -> None:
    good = "# RUN curl\nARG BASE=python@sha256:0\nFROM ${BASE}\nUSER 65532:65532\n"
    assert list(manifest_checks.dockerfile(good)) == []
    assert {found for found, _ in manifest_checks.dockerfile(f"{good}{line}\n")} == {check}


def test_an_exception_covers_what_is_found_and_must_be_needed() -> None:
    assert list(manifest_checks.unexplained([("a", "one")], {"a": "why"})) == []
    assert list(manifest_checks.unexplained([("a", "one")], {})) == ["one (a)"]
    [stale] = manifest_checks.unexplained([], {"a": "why"})
    assert "the exception a is not needed" in stale
