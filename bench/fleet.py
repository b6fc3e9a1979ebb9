"""A fleet of ModelServices on a cluster of its own for measurements: made, changed, damaged, and looked at.

It does to the API server what users and neighbours would do; nothing here knows how the operator works inside,
except for the names that it gives to objects and field managers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from nereus.api import names
from nereus.controller.connection import Connection
from nereus.controller.errors import ApiError
from nereus.controller.gateway import Gateway
from nereus.controller.kinds import (
    AUTOSCALER,
    CHILDREN,
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    MODEL_SERVICE,
    SERVICE,
    Kind,
)

NAMESPACES = 20
AT_ONCE = 16
NAMESPACE = Kind("v1", "Namespace", "namespaces")
METADATA_WATCH = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

Json = dict[str, Any]


@dataclass(frozen=True, order=True)
class Name:
    """A ModelService of the fleet, or an object of one."""

    namespace: str
    name: str


@dataclass(frozen=True)
class Fleet:
    """`count` services in a few namespaces; every third has 1, 2 and 3 pods."""

    count: int
    connection: Connection
    gateway: Gateway
    session: aiohttp.ClientSession
    scaling: Callable[[int], Json] = lambda pods: {"minReplicas": pods, "maxReplicas": pods + 3}
    """The spec.scaling of a service of so many pods."""

    def services(self) -> list[Name]:
        return [Name(f"bench-{index % NAMESPACES:02d}", f"s{index:05d}") for index in range(self.count)]

    def sizes(self) -> dict[Name, int]:
        """Pods of each service, as it is made."""
        return {service: _pods(int(service.name[1:])) for service in self.services()}

    async def make_namespaces(self) -> None:
        for index in range(NAMESPACES):
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"bench-{index:02d}"}}
            async with self._request("POST", NAMESPACE.path(), body) as status:
                assert status in (201, 409), f"namespace bench-{index:02d}: the API server answered {status}"

    async def make(self, services: Sequence[Name]) -> None:
        """Create them, several at a time."""
        await _each(services, self.apply)

    async def apply(
        self,
        service: Name,
        *,
        pod_annotation: str | None = None,
        service_annotation: str | None = None,
        parameter: str | None = None,
    ) -> None:
        """The declaration of a service, with one value that changes its pods, one that changes none, and one that
        changes its model's configuration."""
        pods = _pods(int(service.name[1:]))
        spec: Json = {
            "models": [
                {"name": "m", "source": {"uri": "configmap://models/m"}, "backend": "python", "maxBatchSize": 8}
            ],
            "scaling": self.scaling(pods),
        }
        if parameter is not None:
            spec["models"][0]["parameters"] = {"bench-change": parameter}
        # Small, so that many fit on a node.
        spec["runtime"] = {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}}
        if pod_annotation is not None:
            spec["runtime"]["podAnnotations"] = {"bench/change": pod_annotation}
        if service_annotation is not None:
            spec["endpoint"] = {"serviceAnnotations": {"bench/change": service_annotation}}
        metadata = {"namespace": service.namespace, "name": service.name}
        body = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": metadata, "spec": spec}
        await self.gateway.apply(MODEL_SERVICE, body, manager="user")

    async def damage(self, services: Sequence[Name]) -> dict[str, int]:
        """One child of each service is changed as a neighbour might, another kind each time; how many of each."""
        counts: dict[str, int] = {}
        for service, (kind, patch) in zip(services, _endless(_DAMAGES), strict=False):
            child = names.plan_config_map(service.name, 0) if kind is CONFIG_MAP else service.name
            if kind is CONTROLLER_REVISION:
                child = await self._revision(service)
            if patch is None:
                found = await self.gateway.get(kind, service.namespace, child)
                await self.gateway.delete(kind, service.namespace, child, uid=found["metadata"]["uid"])
            else:
                await self.gateway.merge(kind, service.namespace, child, patch, manager="neighbour")
            counts[kind.kind] = counts.get(kind.kind, 0) + 1
        return counts

    async def written(self) -> dict[tuple[str, Name], str]:
        """What the API server recorded of the operator's writes on every child: a text that changes with each."""
        found: dict[tuple[str, Name], str] = {}
        for kind in CHILDREN:
            following = ""
            while True:
                query = f"?labelSelector={names.LABEL_SERVICE}&limit=500&continue={following}"
                async with self.session.get(
                    self.connection.server + kind.path() + query, headers={"Accept": METADATA_LIST}
                ) as answer:
                    answer.raise_for_status()
                    page = await answer.json()
                for item in page["items"] or ():  # null where a page is empty
                    metadata = item["metadata"]
                    found[kind.kind, Name(metadata["namespace"], metadata["name"])] = _our_writes(metadata)
                following = page["metadata"].get("continue", "")
                if not following:
                    break
        return found

    async def applied_digest(self, service: Name) -> str:
        """What the operator noted on the Deployment when it applied it last."""
        found = await self.gateway.get(DEPLOYMENT, service.namespace, service.name)
        return str(found["metadata"].get("annotations", {}).get(names.ANNOTATION_APPLIED, ""))

    async def unsettled(self) -> list[Name]:
        """Services that are not Ready for their present generation."""
        found = []
        for item in await self.gateway.list_objects(MODEL_SERVICE):
            metadata, status = item["metadata"], item.get("status") or {}
            ready = {entry["type"]: entry["status"] for entry in status.get("conditions", ())}.get("Ready")
            if ready != "True" or status.get("observedGeneration") != metadata["generation"]:
                found.append(Name(metadata["namespace"], metadata["name"]))
        return found

    async def server_metrics(self) -> dict[str, float]:
        """Of the API server: CPU seconds, memory, requests by verb, refused requests, and time spent in requests."""
        async with self.session.get(self.connection.server + "/metrics") as answer:
            answer.raise_for_status()
            text = await answer.text()
        return _server_metrics(text)

    async def changes(self, kind: Kind, *, whole: bool = False) -> AsyncIterator[tuple[float, Name, Json]]:
        """Moment, name and metadata (or the whole object) of each change of a kind from now on."""
        first = {"labelSelector": names.MANAGED_SELECTOR, "limit": "1"}
        async with self.session.get(self.connection.server + kind.path(), params=first) as answer:
            version = (await answer.json())["metadata"]["resourceVersion"]
        query = {"labelSelector": names.MANAGED_SELECTOR, "watch": "1", "resourceVersion": version}
        async with self.session.get(
            self.connection.server + kind.path(), params=query, headers={} if whole else {"Accept": METADATA_WATCH}
        ) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                now = time.monotonic()
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise RuntimeError(f"the watch of {kind} ended: {event['object']}")
                metadata = event["object"]["metadata"]
                found = event["object"] if whole else metadata
                yield now, Name(metadata["namespace"], metadata["name"]), found

    async def _revision(self, service: Name) -> str:
        selector = f"{names.MANAGED_SELECTOR},{names.LABEL_SERVICE}={service.name}"
        found = await self.gateway.list_objects(CONTROLLER_REVISION, namespace=service.namespace, selector=selector)
        name: str = found[0]["metadata"]["name"]
        return name

    @contextlib.asynccontextmanager
    async def _request(self, method: str, path: str, body: Json) -> AsyncIterator[int]:
        async with self.session.request(method, self.connection.server + path, json=body) as answer:
            yield answer.status


_DAMAGES: tuple[tuple[Kind, Json | None], ...] = (
    (DISRUPTION_BUDGET, {"spec": {"maxUnavailable": "100%"}}),
    (SERVICE, None),
    (CONFIG_MAP, {"data": {"plan.json": "{}"}}),
    (AUTOSCALER, {"spec": {"maxReplicas": 99}}),
    (DEPLOYMENT, {"spec": {"progressDeadlineSeconds": 5000}}),
    (CONTROLLER_REVISION, None),
    (SERVICE, {"metadata": {"labels": {names.LABEL_SERVICE: None, names.LABEL_MANAGED_BY: None}}}),
)
"""What neighbours do; None deletes."""


def _pods(index: int) -> int:
    return 1 + index % 3


def _our_writes(metadata: Json) -> str:
    ours = [
        (entry["operation"], entry["time"], entry["fieldsV1"])
        for entry in metadata.get("managedFields", ())
        if entry["manager"].startswith(names.FIELD_MANAGER)
    ]
    return json.dumps([metadata["uid"], ours])


def _server_metrics(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    sums = {
        "apiserver_request_duration_seconds_sum": "request_seconds",
        "apiserver_request_duration_seconds_count": "requests_timed",
        "apiserver_flowcontrol_rejected_requests_total": "rejected",
        "process_cpu_seconds_total": "cpu_seconds",
        "process_resident_memory_bytes": "rss_bytes",
    }
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        name, _, labels = series.partition("{")
        if name in sums and 'verb="WATCH"' not in labels:
            found[sums[name]] = found.get(sums[name], 0.0) + float(value)
        elif name == "apiserver_request_total" and 'verb="' in labels:
            verb = labels.split('verb="', 1)[1].split('"', 1)[0]
            found[f"requests_{verb}"] = found.get(f"requests_{verb}", 0.0) + float(value)
    return found


def _endless(items: Sequence[Any]) -> Iterator[Any]:
    while True:
        yield from items


async def _each(services: Sequence[Name], act: Any) -> None:
    waiting = iter(services)

    async def worker() -> None:
        for service in waiting:
            try:
                await act(service)
            except ApiError as error:
                raise RuntimeError(f"{service}: {error}") from error

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
