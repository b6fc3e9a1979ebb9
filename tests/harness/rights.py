"""Rights of a ServiceAccount, one by one: read from roles, asked for in calls, taken away on a real API server.

RBAC only ever adds up, so the smallest thing that can be taken away is one verb on one resource in one role; of a role
that is not the chart's, it is the binding to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.harness.apiserver import Api, Json, eventually
from tests.harness.faulty_proxy import Call

RBAC = "/apis/rbac.authorization.k8s.io/v1"
REFUSED = (401, 403)


@dataclass(frozen=True, order=True)
class Ask:
    """What the authorizer is asked about one call. `namespace` is empty for the cluster, `name` where no object is
    named."""

    group: str
    resource: str
    verb: str
    namespace: str = ""
    name: str = ""


@dataclass(frozen=True)
class Pattern:
    """What one verb in a rule allows; an empty namespace or name stands for any."""

    group: str
    resource: str
    verb: str
    namespace: str
    name: str

    def covers(self, ask: Ask) -> bool:
        return (
            (self.group, self.resource, self.verb) == (ask.group, ask.resource, ask.verb)
            and self.namespace in ("", ask.namespace)
            and self.name in ("", ask.name)
        )


@dataclass(frozen=True)
class Grant:
    """The smallest thing that can be taken away. `at` is where it stands: the path of a role, or of a binding to a role
    that is not the chart's; then it allows several `patterns` at once."""

    at: str
    patterns: tuple[Pattern, ...]

    def covers(self, ask: Ask) -> bool:
        return any(pattern.covers(ask) for pattern in self.patterns)

    def __str__(self) -> str:
        if "bindings/" in self.at:
            return self.at.removeprefix(RBAC)
        (right,) = self.patterns
        named = f" {right.name}" if right.name else ""
        return f"{right.verb} {right.resource}{named} ({self.at.removeprefix(RBAC)})"


def granted(objects: Sequence[Json], account: str, foreign: Sequence[Json] = ()) -> list[Grant]:
    """Every grant to a ServiceAccount by these roles and bindings; `foreign` are roles that the bindings name and that
    are not among the objects."""
    roles = {(item["kind"], item["metadata"]["name"], _namespace(item)): item for item in (*foreign, *objects)}
    ours = {path_of(item) for item in objects}
    found: list[Grant] = []
    for binding in objects:
        if not binding["kind"].endswith("Binding") or account not in {each["name"] for each in binding["subjects"]}:
            continue
        where, ref = _namespace(binding), binding["roleRef"]
        role = roles[ref["kind"], ref["name"], where if ref["kind"] == "Role" else ""]
        patterns = tuple(_patterns(role, where))
        if path_of(role) in ours:
            found += [Grant(path_of(role), (pattern,)) for pattern in patterns]
        else:
            found.append(Grant(path_of(binding), patterns))
    return found


def asked(answers: Iterable[tuple[Call, int]]) -> set[Ask]:
    """What was asked for and allowed. An apply that makes an object needs the right to create it too."""
    found = set()
    for call, status in answers:
        if not call.resource or status in REFUSED:
            continue
        ask = Ask(call.group, call.resource, call.verb, call.namespace, call.name)
        found.add(ask)
        if call.method == "PATCH" and status == 201:
            found.add(Ask(call.group, call.resource, "create", call.namespace, call.name))
    return found


def unneeded(grants: Sequence[Grant], asks: Iterable[Ask]) -> list[str]:
    """The grants without which every call would have been allowed just the same, in words."""
    everything = list(asks)
    return [
        f"{grant}: {'also granted elsewhere' if any(map(grant.covers, everything)) else 'never used'}"
        for grant in grants
        if _only_by(grant, grants, everything) is None
    ]


def take_away_one_by_one(api: Api, namespace: str, account: str, grants: Sequence[Grant], asks: set[Ask]) -> None:
    """Takes each grant from the roles on the API server; a call that needs it must be allowed before, and not after."""
    left = list(grants)
    for grant in grants:
        needs = _only_by(grant, left, sorted(asks))
        assert needs is not None, f"{grant} is not needed"
        assert allowed(api, namespace, account, needs), f"{needs} is refused although {grant}"
        left.remove(grant)
        if "bindings/" in grant.at:
            answer = api.request("DELETE", grant.at)
        else:
            rest = [_rule(each.patterns[0]) for each in left if each.at == grant.at]
            answer = api.request("PATCH", grant.at, {"rules": rest})
        assert answer.accepted, answer.message
        eventually(
            lambda ask=needs, gone=grant: (  # type: ignore[misc]
                f"{ask} is allowed without {gone}" if allowed(api, namespace, account, ask) else None
            )
        )


def allowed(api: Api, namespace: str, account: str, ask: Ask) -> bool:
    """What the API server says of a call by a ServiceAccount of a namespace."""
    resource, _, subresource = ask.resource.partition("/")
    attributes = {
        **{"group": ask.group, "resource": resource, "subresource": subresource, "verb": ask.verb},
        **{"namespace": ask.namespace, "name": ask.name},
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{namespace}:{account}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
            "resourceAttributes": attributes,
        },
    }
    answer = api.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    assert answer.accepted, answer.message
    return bool(answer.body["status"]["allowed"])


def path_of(item: Json) -> str:
    """Where a role or a binding lies on the API server."""
    where = f"/namespaces/{_namespace(item)}" if _namespace(item) else ""
    return f"{RBAC}{where}/{item['kind'].lower()}s/{item['metadata']['name']}"


def _only_by(grant: Grant, grants: Sequence[Grant], asks: Iterable[Ask]) -> Ask | None:
    """A call that this grant allows and no other."""
    others = [other for other in grants if other is not grant]
    mine = (ask for ask in asks if grant.covers(ask))
    return next((ask for ask in mine if not any(other.covers(ask) for other in others)), None)


def _patterns(role: Json, namespace: str) -> Iterator[Pattern]:
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    for name in rule.get("resourceNames", [""]):
                        yield Pattern(group, resource, verb, namespace, name)


def _rule(right: Pattern) -> Json:
    named = {"resourceNames": [right.name]} if right.name else {}
    return {"apiGroups": [right.group], "resources": [right.resource], "verbs": [right.verb], **named}


def _namespace(item: Json) -> str:
    return str(item["metadata"].get("namespace") or "")
