"""Which rights of a role are needed by what was asked for: the judge of tests/integration/test_controller_rights.py."""

from __future__ import annotations

from typing import Any

from tests.harness.faulty_proxy import Call
from tests.harness.rights import Ask, asked, granted, unneeded

APPS, LEASES = "apps", "coordination.k8s.io"


def role(kind: str, name: str, *rules: tuple[str, str, list[str], list[str]], namespace: str = "") -> list[Any]:
    """A role and its binding to the account `op`."""
    where = {"namespace": namespace} if namespace else {}
    described = [
        {"apiGroups": [group], "resources": [resource], "verbs": verbs} | ({"resourceNames": names} if names else {})
        for group, resource, verbs, names in rules
    ]
    binding = {"roleRef": {"kind": kind, "name": name}, "subjects": [{"kind": "ServiceAccount", "name": "op"}]}
    return [
        {"kind": kind, "metadata": {"name": name, **where}, "rules": described},
        {"kind": f"{kind}Binding", "metadata": {"name": name, **where}, **binding},
    ]


EVERYWHERE = role("ClusterRole", "all", (APPS, "deployments", ["get", "patch"], []))
ASKS = {Ask(APPS, "deployments", "get", "a", "d"), Ask(APPS, "deployments", "patch", "b", "d")}


def left(objects: list[Any], asks: set[Ask]) -> list[str]:
    return [line.partition(" (")[0] + line.rpartition(")")[2] for line in unneeded(granted(objects, "op"), asks)]


def test_rights_that_were_used_are_needed() -> None:
    assert left(EVERYWHERE, ASKS) == []


def test_a_verb_that_nobody_asked_for_is_left_over() -> None:
    assert left(role("ClusterRole", "all", (APPS, "deployments", ["get", "patch", "list"], [])), ASKS) == [
        "list deployments: never used"
    ]


def test_of_what_is_granted_twice_either_could_go() -> None:
    again = role("Role", "again", (APPS, "deployments", ["get"], []), namespace="a")
    assert left([*EVERYWHERE, *again], ASKS) == ["get deployments: also granted elsewhere"] * 2


def test_a_name_is_part_of_a_right() -> None:
    rule = (LEASES, "leases", ["get"], ["mine", "other"])
    asks = {Ask(LEASES, "leases", "get", "home", "mine")}
    assert left(role("Role", "leader", rule, namespace="home"), asks) == ["get leases other: never used"]


def test_a_role_in_one_namespace_says_nothing_about_another() -> None:
    here = role("Role", "here", (APPS, "deployments", ["get"], []), namespace="elsewhere")
    assert left(here, ASKS) == ["get deployments: never used"]


def test_a_binding_to_a_role_of_others_is_needed_as_a_whole() -> None:
    (foreign, binding) = role("Role", "reader", ("", "configmaps", ["get", "list"], ["x"]), namespace="kube-system")
    grants = granted([binding], "op", [foreign])
    assert unneeded(grants, {Ask("", "configmaps", "get", "kube-system", "x")}) == []
    assert len(unneeded(grants, ASKS)) == 1


def test_what_a_call_asks_for() -> None:
    apply = Call("PATCH", "/apis/apps/v1/namespaces/n/deployments/d/scale", watch=False, at=0.0)
    watch = Call("GET", "/api/v1/pods", watch=True, at=0.0)
    made = Call("PATCH", "/api/v1/namespaces/n/services/s", watch=False, at=0.0)
    refused = Call("GET", "/api/v1/namespaces/n/secrets/s", watch=False, at=0.0)
    discovery = Call("GET", "/apis/apps/v1", watch=False, at=0.0)
    assert asked([(apply, 200), (watch, 200), (made, 201), (refused, 403), (discovery, 200)]) == {
        Ask(APPS, "deployments/scale", "patch", "n", "d"),
        Ask("", "pods", "watch"),
        Ask("", "services", "patch", "n", "s"),
        Ask("", "services", "create", "n", "s"),
    }
