"""The kinds of prometheus-operator by name, with a schema that keeps everything: a cluster that knows them, or not yet.

The real definitions, and the real operator, are in `make bench BENCH=alerts`.
"""

from __future__ import annotations

from tests.harness.apiserver import Api, Json, eventually

GROUP = "monitoring.coreos.com"
KINDS = ("PodMonitor", "PrometheusRule")
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PATIENCE = 60.0


def install(api: Api) -> tuple[str, ...]:
    """Returns the names of the definitions that were not there before, once the kinds are served."""
    anything = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    made = []
    for kind in KINDS:
        plural = f"{kind.lower()}s"
        name = f"{plural}.{GROUP}"
        definition = {
            "metadata": {"name": name},
            "spec": {
                "group": GROUP,
                "scope": "Namespaced",
                "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
                "versions": [{"name": "v1", "served": True, "storage": True, "schema": anything}],
            },
        }
        answer = api.request("POST", DEFINITIONS, definition)
        assert answer.accepted or answer.code == 409, answer.message
        made += [name] if answer.accepted else []
    eventually(lambda: None if len(_served(api)) == len(KINDS) else f"served: {_served(api)}", seconds=PATIENCE)
    return tuple(made)


def remove(api: Api, names: tuple[str, ...]) -> None:
    """Returns when the kinds, and with them every object, are gone."""
    for name in names:
        api.request("DELETE", f"{DEFINITIONS}/{name}")
    eventually(lambda: None if not names or not _served(api) else f"still served: {_served(api)}", seconds=PATIENCE)


def rule(api: Api, namespace: str, name: str = "svc") -> Json | None:
    """The PrometheusRule of a service, if there is one."""
    answer = api.request("GET", f"/apis/{GROUP}/v1/namespaces/{namespace}/prometheusrules/{name}")
    return answer.body if answer.accepted else None


def _served(api: Api) -> set[str]:
    answer = api.request("GET", f"/apis/{GROUP}/v1")
    return {item["kind"] for item in answer.body["resources"]} & set(KINDS) if answer.accepted else set()
