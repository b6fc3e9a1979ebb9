"""The operator with exactly the rights that the chart grants: they suffice, each is used, and Secrets are none of them.

Every call goes through a proxy that writes it down; the operator's own token goes along, so the real API server
decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from nereus.alerting.catalogue import NAMES
from tests.harness import chart, monitoringkinds
from tests.harness.apiserver import Api, Json, eventually
from tests.harness.faulty_proxy import FaultyProxy
from tests.harness.operator import Operator
from tests.harness.services import Services

pytestmark = pytest.mark.usefixtures("sidecars")

RBAC = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
MODEL = {"name": "m", "source": {"uri": "configmap://models/m"}, "backend": "python", "maxBatchSize": 8}
NOT_SEEN_IN_CALLS = {
    # Asked by an admission plug-in that this API server does not run (OwnerReferencesPermissionEnforcement).
    ("serving.nereus.dev", "modelservices/finalizers", "update"),
}
Right = tuple[str, str, str]


def rendered(namespace: str, *values: str) -> list[Json]:
    """What the chart makes of these values, the rights alone."""
    return [item for item in chart.rendered(namespace, *values) if item["kind"] in RBAC]


def granted(objects: list[Json], account: str) -> set[Right]:
    """(group, resource, verb) of every role that is bound to the account."""
    bound = {
        (item["roleRef"]["kind"], item["roleRef"]["name"])
        for item in objects
        if item["kind"].endswith("Binding") and any(subject["name"] == account for subject in item["subjects"])
    }
    return {
        (group, resource, verb)
        for item in objects
        if (item["kind"], item["metadata"]["name"]) in bound
        for rule in item["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used(proxy: FaultyProxy) -> set[Right]:
    """What the operator asked for and got. An apply that makes an object needs the right to create it too."""
    found = set()
    for call, status in proxy.answers:
        if not call.resource or status in (401, 403):
            continue
        found.add((call.group, call.resource, call.verb))
        if call.method == "PATCH" and status == 201:
            found.add((call.group, call.resource, "create"))
    return found


@pytest.fixture
def proxy(api: Api) -> Iterator[FaultyProxy]:
    with FaultyProxy(api.kubeconfig, own_identity=False) as running:
        yield running


@pytest.fixture
def monitoring_kinds(api: Api) -> Iterator[None]:
    """A cluster that knows the kinds of prometheus-operator."""
    made = monitoringkinds.install(api)
    yield
    monitoringkinds.remove(api, made)


def token(api: Api, namespace: str, objects: list[Json]) -> str:
    """Grants the rights of the chart and returns a token of its ServiceAccount."""
    applied = api.kubectl("-n", namespace, "apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(objects))
    assert applied.returncode == 0, applied.stderr
    made = api.kubectl("-n", namespace, "create", "token", account_of(objects))
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def account_of(objects: list[Json]) -> str:
    (name,) = [item["metadata"]["name"] for item in objects if item["kind"] == "ServiceAccount"]
    return str(name)


@pytest.fixture
def leave_no_cluster_role(api: Api, namespace: str) -> Iterator[None]:
    yield
    api.kubectl("delete", "clusterrole,clusterrolebinding", "-l", f"app.kubernetes.io/instance={namespace}")


@pytest.mark.usefixtures("leave_no_cluster_role", "monitoring_kinds")
@pytest.mark.parametrize("scope", ["cluster", "namespace"])
def test_the_chart_grants_what_is_needed_and_nothing_else(
    api: Api, services: Services, proxy: FaultyProxy, tmp_path: Path, scope: str
) -> None:
    namespace = services.namespace
    values = ("--set", f"watchNamespaces={{{namespace}}}") if scope == "namespace" else ()
    objects = rendered(namespace, *values)
    assert scope == "cluster" or "ClusterRoleBinding" not in {item["kind"] for item in objects}
    kubeconfig = proxy.kubeconfig_for_operator(tmp_path / "kubeconfig", token=token(api, namespace, objects))
    watch = (namespace,) if scope == "namespace" else ()
    with Operator(kubeconfig, lease_namespace=namespace, identity="op", log=tmp_path / "log", watch=watch):
        services.apply("stuck", runtime={"nodeSelector": {"example.com/nowhere": "1"}})
        services.apply("gpu", gpu={"count": 1})
        services.until_true("a GPU asked for", lambda: services.get("Deployment", "gpu"), seconds=30)
        services.apply(scaling={"minReplicas": 2, "maxReplicas": 3})
        services.until_ready()
        services.until_true("the alerts", lambda: monitoringkinds.rule(api, namespace) is not None)
        services.apply(scaling={"minReplicas": 2, "maxReplicas": 3}, alerts={"disable": [*NAMES]})
        services.until_true("no alerts", lambda: monitoringkinds.rule(api, namespace) is None)
        services.apply(scaling={"minReplicas": 2, "maxReplicas": 3}, models=[MODEL, {**MODEL, "name": "second"}])
        services.until_ready()
        services.patch("Deployment", {"spec": {"replicas": 1}}, subresource="scale")
        services.until_true("floor", lambda: services.child("Deployment")["spec"]["replicas"] == 2)
        services.apply(scaling={"strategy": "Manual", "replicas": 2})
        services.until_true("no autoscaler", lambda: services.get("HorizontalPodAutoscaler") is None)
        # More templates than are kept.
        for number in range(12):
            services.apply(
                scaling={"strategy": "Manual", "replicas": 0},
                runtime={"podAnnotations": {"example.com/n": f"{number}"}},
            )
            services.until_true(
                f"template {number}",
                lambda wished=f"{number}": (  # type: ignore[misc]
                    services.child("Deployment")["spec"]["template"]["metadata"]
                    .get("annotations", {})
                    .get("example.com/n")
                    == wished
                ),
            )
        rights = granted(objects, account_of(objects))
        eventually(
            lambda: (
                f"granted and not used: {sorted(left)}" if (left := rights - used(proxy) - NOT_SEEN_IN_CALLS) else None
            ),
            seconds=30,
        )
    # Elsewhere, namespaces of other tests are ending: nothing may be made in them.
    mine = [
        (call, status)
        for call, status in proxy.answers
        if f"/namespaces/{namespace}/" in call.path or "/namespaces/" not in call.path
    ]
    refused = [(call, status) for call, status in mine if status in (401, 403)]
    if scope == "namespace":  # nodes are of the cluster: without the right, what the spec names is taken at its word
        refused = [(call, status) for call, status in refused if (call.resource, call.verb) != ("nodes", "list")]
    assert not refused


def test_no_secret_is_readable_and_nothing_can_be_deleted_that_serves(api: Api, services: Services) -> None:
    objects = rendered(services.namespace, "--set", f"watchNamespaces={{{services.namespace}}}")
    rights = granted(objects, account_of(objects))
    assert not [right for right in rights if right[1] in ("secrets", "*") or "*" in right[::2]]
    deletable = {resource for _, resource, verb in rights if verb.startswith("delete")}
    assert deletable == {"controllerrevisions", "horizontalpodautoscalers", "prometheusrules"}
    token(api, services.namespace, objects)
    for verb in ("get", "list", "watch"):
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:{services.namespace}:{account_of(objects)}",
                "resourceAttributes": {"namespace": services.namespace, "verb": verb, "resource": "secrets"},
            },
        }
        answer = api.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        assert answer.accepted, answer.message
        assert answer.body["status"]["allowed"] is False
