"""ModelServices in one namespace of a real API server: declared, changed, and looked at with all that they own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nereus.api import names
from tests.harness.apiserver import MODEL_SERVICES, Answer, Api, Json, eventually
from tests.harness.status_checker import check_status

COLLECTIONS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "ControllerRevision": "/apis/apps/v1/namespaces/{}/controllerrevisions",
    "Service": "/api/v1/namespaces/{}/services",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "Pod": "/api/v1/namespaces/{}/pods",
    "Event": "/api/v1/namespaces/{}/events",
}
OWNED = ("ControllerRevision", "ConfigMap", "Service", "PodDisruptionBudget", "Deployment", "HorizontalPodAutoscaler")
HEAL_SECONDS = 5.0


def spec(**fields: Any) -> Json:
    """A small good spec; `models` is one model from a ConfigMap unless given."""
    model = {"name": "m", "source": {"uri": "configmap://models/m"}, "backend": "python", "maxBatchSize": 8}
    return {"models": [model], **fields}


class Services:
    """What a user does in a namespace, and what can be seen there."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api = api
        self.namespace = namespace

    def apply(self, name: str = "svc", **fields: Any) -> Json:
        """Server-side apply of a ModelService, as `kubectl apply --server-side` sends it."""
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec(**fields),
        }
        answer = self.api.apply(f"{MODEL_SERVICES.format(namespace=self.namespace)}/{name}", body, manager="user")
        assert answer.accepted, answer.message
        return answer.body

    def service(self, name: str = "svc") -> Json:
        """The ModelService; a status about its present generation must keep every promise whenever it is seen."""
        found = self.api.get(f"{MODEL_SERVICES.format(namespace=self.namespace)}/{name}")
        if found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"]:
            broken = check_status(found)
            assert not broken, f"{broken}\n{found['status']}"
        return found

    def path(self, kind: str, name: str = "svc") -> str:
        return f"{COLLECTIONS[kind].format(self.namespace)}/{name}"

    def get(self, kind: str, name: str = "svc") -> Json | None:
        answer = self.api.request("GET", self.path(kind, name))
        assert answer.accepted or answer.code == 404, answer.message
        return answer.body if answer.accepted else None

    def child(self, kind: str, name: str = "svc") -> Json:
        found = self.get(kind, name)
        assert found is not None, f"{kind} {name} does not exist"
        return found

    def patch(self, kind: str, patch: Json, name: str = "svc", subresource: str = "") -> Json:
        """A merge patch by somebody else."""
        path = self.path(kind, name) + (f"/{subresource}" if subresource else "")
        answer = self.api.request("PATCH", path, patch)
        assert answer.accepted, answer.message
        return answer.body

    def delete(self, kind: str, name: str = "svc") -> Answer:
        return self.api.request("DELETE", self.path(kind, name))

    def all_of(self, kind: str, name: str = "") -> list[Json]:
        """Objects of a kind, those of one service when it is named."""
        selector = f"?labelSelector={names.LABEL_SERVICE}={name}" if name else ""
        items: list[Json] = self.api.get(COLLECTIONS[kind].format(self.namespace) + selector)["items"]
        return items

    def owned(self, name: str = "svc") -> dict[str, Json]:
        """Everything that a service owns, by `Kind name`."""
        uid = self.service(name)["metadata"]["uid"]
        return {
            f"{kind} {item['metadata']['name']}": item
            for kind in OWNED
            for item in self.all_of(kind)
            if uid in {owner["uid"] for owner in item["metadata"].get("ownerReferences", [])}
        }

    def events(self, name: str = "svc") -> list[tuple[str, str, str]]:
        """(type, reason, message) of everything told about a service, in order."""
        about = [event for event in self.all_of("Event") if event["involvedObject"].get("kind") == names.KIND]
        about = [event for event in about if event["involvedObject"]["name"] == name]
        about.sort(key=lambda event: str(event["firstTimestamp"]))
        return [(event["type"], event["reason"], event["message"]) for event in about]

    def condition(self, kind: str = "Ready", name: str = "svc") -> Json:
        """A condition of the current generation; empty while there is none."""
        found = self.service(name)
        conditions: list[Json] = found.get("status", {}).get("conditions", [])
        return next(
            (
                item
                for item in conditions
                if item["type"] == kind and item["observedGeneration"] == found["metadata"]["generation"]
            ),
            {},
        )

    def until(self, reason: str, name: str = "svc", *, seconds: float = 30.0) -> Json:
        """Waits until Ready has this reason for the current generation; returns the ModelService."""

        def lack() -> str | None:
            ready = self.condition(name=name)
            return None if ready.get("reason") == reason else f"Ready is {ready}, wanted {reason}"

        eventually(lack, seconds=seconds)
        return self.service(name)

    def until_ready(self, name: str = "svc", *, seconds: float = 30.0) -> Json:
        return self.until("Serving", name, seconds=seconds)

    def until_true(self, what: str, look: Callable[[], object], *, seconds: float = HEAL_SECONDS) -> None:
        """Waits until `look` is truthy; fails with what it saw last."""
        eventually(lambda: None if (seen := look()) else f"{what}: {seen!r}", seconds=seconds)


def our_writes(objects: Mapping[str, Json]) -> dict[str, object]:
    """What the API server recorded of the operator's writes on each object: changes whenever it changed one."""
    return {
        name: (
            item["metadata"]["uid"],
            [
                (entry["manager"], entry["operation"], entry["time"], entry["fieldsV1"])
                for entry in item["metadata"].get("managedFields", [])
                if entry["manager"].startswith(names.FIELD_MANAGER)
            ],
        )
        for name, item in objects.items()
    }
