"""The client to the API server: a few verbs over one shared connection pool, typed errors, deadlines, retries.

Plain JSON over aiohttp rather than generated model classes, which cost more time to build than the request itself.
It knows nothing about ModelServices. Every write asks `may_write` first, so that a replica which lost its lease
stops in the middle of whatever it was doing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from nereus.api import names
from nereus.api.manifests import Manifest
from nereus.controller.connection import Connection
from nereus.controller.errors import FencedError, InvalidError, NotFoundError, UnavailableError, from_answer
from nereus.controller.kinds import POD, Kind

VERSION = Kind("v1", "Version", "version")
"""Not an object: what the API server says of itself, named for the metrics of requests."""

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

WRITE_SECONDS = 5.0
"""Longest a write may take. Lease duration minus renewal deadline: a write that began with the lease ends with it."""
READ_SECONDS = 30.0
ATTEMPTS = 3
PAGE = 500
CONNECTIONS = 32

Observer = Callable[[str, str, int, float], None]
"""Told of every attempt: verb, kind, HTTP status (0: no answer), seconds."""


def _nobody(verb: str, kind: str, status: int, seconds: float) -> None:
    """Observer of a gateway that nobody observes."""


@dataclass(frozen=True)
class Identity:
    """Which object, in which state, without its content."""

    namespace: str
    name: str
    uid: str
    resource_version: str


class Gateway:
    """Reads and writes objects. Every method raises ApiError or one of its kinds."""

    def __init__(
        self,
        connection: Connection,
        *,
        may_write: Callable[[], bool] = lambda: True,
        observe: Observer = _nobody,
    ) -> None:
        self._server = connection.server
        self._session = connection.session(limit=CONNECTIONS)
        self._may_write = may_write
        self._observe = observe

    async def close(self) -> None:
        await self._session.close()

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        return await self._call("GET", kind, kind.path(namespace, name))

    async def get_or_none(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """The object, or None when there is none."""
        try:
            return await self.get(kind, namespace, name)
        except NotFoundError:
            return None

    async def version(self) -> tuple[int, int]:
        """The API server's major and minor version."""
        answer = await self._call("GET", VERSION, "/version")
        return int(str(answer.get("major", 0)).rstrip("+")), int(str(answer.get("minor", 0)).rstrip("+"))

    async def list_objects(
        self, kind: Kind, *, namespace: str = "", selector: str = "", fields: str = "", limit: int = PAGE
    ) -> list[Manifest]:
        """All objects of a kind, page by page; `fields` is a field selector."""
        query = _query(labelSelector=selector, fieldSelector=fields)
        return [item async for item in self._pages(kind, namespace, query, limit)]

    async def list_identities(self, kind: Kind, *, namespace: str = "", selector: str = "") -> list[Identity]:
        """Which objects exist, without their content: cheap also for many large objects."""
        query = _query(labelSelector=selector)
        pages = self._pages(kind, namespace, query, PAGE, accept=METADATA_ONLY)
        return [identity_of(item) async for item in pages]

    async def serves(self, kind: Kind) -> bool:
        """Whether the cluster knows the kind."""
        path = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.api_version}"
        try:
            answer = await self._call("GET", kind, path)
        except NotFoundError:
            return False
        return any(item.get("name") == kind.plural for item in answer.get("resources") or ())

    async def apply(
        self, kind: Kind, manifest: Mapping[str, Any], *, manager: str = names.FIELD_MANAGER, dry_run: bool = False
    ) -> Manifest:
        """Server-side apply; fields of other managers that we name become ours. Creates what is absent."""
        metadata = manifest["metadata"]
        query = _query(fieldManager=manager, force="true", dryRun="All" if dry_run else "")
        path = kind.path(metadata["namespace"], metadata["name"])
        return await self._write("PATCH", kind, path, body=manifest, query=query, content=APPLY, verb="apply")

    async def merge(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: Mapping[str, Any],
        *,
        subresource: str = "",
        manager: str = names.FIELD_MANAGER,
    ) -> Manifest:
        """JSON merge patch: lists are replaced whole. With metadata.resourceVersion it is refused when stale."""
        path = kind.path(namespace, name, subresource)
        return await self._write("PATCH", kind, path, body=patch, query=_query(fieldManager=manager), content=MERGE)

    async def replace_status(
        self, kind: Kind, namespace: str, name: str, status: Mapping[str, Any], *, uid: str
    ) -> Manifest:
        """Put a status in place of whatever stood there, known to us or not, of exactly this object.

        Raises NotFoundError when the name is held by a successor: what is said of one is not true of the other.
        """
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": status},
        ]
        query = _query(fieldManager=names.STATUS_MANAGER)
        path = kind.path(namespace, name, "status")
        try:
            return await self._write("PATCH", kind, path, body=patch, query=query, content=JSON_PATCH, verb="status")
        except InvalidError:  # the server does not say which: a failed test, or a status that it does not take
            if (await self.get(kind, namespace, name))["metadata"].get("uid") == uid:
                raise
            raise NotFoundError(f"{kind} {namespace}/{name} was deleted and made again", status=404) from None

    async def create(self, kind: Kind, manifest: Mapping[str, Any]) -> Manifest:
        path = kind.path(manifest["metadata"]["namespace"])
        return await self._write("POST", kind, path, body=manifest, query=_query(fieldManager=names.FIELD_MANAGER))

    async def replace(self, kind: Kind, manifest: Mapping[str, Any]) -> Manifest:
        """Replace an object as a whole; refused when metadata.resourceVersion is not the stored one."""
        path = kind.path(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        return await self._write("PUT", kind, path, body=manifest, query=_query(fieldManager=names.FIELD_MANAGER))

    async def evict(self, namespace: str, name: str, *, uid: str) -> None:
        """Evict exactly this pod; refused with status 429 while a disruption budget forbids it."""
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"namespace": namespace, "name": name},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        path = POD.path(namespace, name, "eviction")
        # Once: a budget that refuses does so for longer than the pauses between attempts.
        await self._call("POST", POD, path, data=json.dumps(body).encode(), content=JSON, verb="evict", attempts=1)

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str) -> None:
        """Delete exactly this object, not a successor of the same name; what is gone already is fine."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        with contextlib.suppress(NotFoundError):
            await self._write("DELETE", kind, kind.path(namespace, name), body=body)

    async def _pages(
        self, kind: Kind, namespace: str, query: dict[str, str], limit: int, accept: str = ""
    ) -> AsyncIterator[Manifest]:
        query = {**query, "limit": str(limit)}
        while True:
            answer = await self._call("LIST", kind, kind.path(namespace), query=query, accept=accept)
            for item in answer.get("items") or ():
                # Items of a list do not say what they are.
                yield {"apiVersion": kind.api_version, "kind": kind.kind, **item}
            following = (answer.get("metadata") or {}).get("continue")
            if not following:
                return
            query["continue"] = following

    async def _write(
        self,
        method: str,
        kind: Kind,
        path: str,
        *,
        body: Any,
        query: Mapping[str, str] | None = None,
        content: str = "application/json",
        verb: str = "",
    ) -> Manifest:
        data = as_yaml(body) if content == APPLY else json.dumps(body).encode()
        return await self._call(method, kind, path, data=data, query=query, content=content, verb=verb)

    async def _call(
        self,
        method: str,
        kind: Kind,
        path: str,
        *,
        data: bytes | None = None,
        query: Mapping[str, str] | None = None,
        content: str = "",
        accept: str = "",
        verb: str = "",
        attempts: int = 0,
    ) -> Manifest:
        """One request, tried again while the API server cannot answer it."""
        doing = f"{(verb or method).lower()} {path.split('/', 3)[-1]}"
        headers = {name: value for name, value in (("Content-Type", content), ("Accept", accept)) if value}
        url = URL(self._server + path).with_query(query or {})
        attempts = attempts or ATTEMPTS
        for attempt in range(1, attempts + 1):
            if data is not None and not self._may_write():
                raise FencedError(f"{doing}: not sent, this replica does not hold the lease")
            try:
                return await self._attempt(method, kind, url, data, headers, doing=doing, verb=verb)
            except UnavailableError as error:
                if attempt == attempts:
                    raise
                jitter = random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
                await asyncio.sleep(max(error.retry_after or 0.0, 0.2 * 3**attempt * jitter))
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(
        self,
        method: str,
        kind: Kind,
        url: URL,
        data: bytes | None,
        headers: Mapping[str, str],
        *,
        doing: str,
        verb: str,
    ) -> Manifest:
        began = time.monotonic()
        status = 0
        limit = READ_SECONDS if data is None else WRITE_SECONDS
        try:
            async with asyncio.timeout(limit):
                async with self._session.request(
                    "GET" if method == "LIST" else method, url, data=data, headers=headers
                ) as response:
                    status = response.status
                    body = await response.read()
                    if status >= 300:
                        raise from_answer(status, body, doing=doing, retry_after=response.headers.get("Retry-After"))
                    return _json(body, doing)
        except TimeoutError:
            raise UnavailableError(f"{doing}: no answer within {limit:.0f} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise UnavailableError(f"{doing}: {str(error) or type(error).__name__}") from error
        finally:
            self._observe((verb or method).lower(), kind.kind, status, time.monotonic() - began)


def identity_of(manifest: Mapping[str, Any]) -> Identity:
    """Who an object is."""
    metadata = manifest["metadata"]
    return Identity(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        resource_version=metadata.get("resourceVersion", ""),
    )


_PAIR = re.compile(r"\\\\|\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})")


def as_yaml(body: Any) -> bytes:
    """JSON that is YAML too. The API server reads an apply as YAML, which knows no surrogate pairs (JSON's way to
    escape a character beyond the first 65,536, such as an emoji) and no bare DEL."""
    text = json.dumps(body)
    if "\\ud" in text:
        text = _PAIR.sub(_joined, text)
    return text.replace("\x7f", "\\u007f").encode()


def _joined(pair: re.Match[str]) -> str:
    """The character of a surrogate pair; an escaped backslash stays, whatever follows it."""
    if pair[1] is None:
        return pair[0]
    return bytes.fromhex(pair[1] + pair[2]).decode("utf-16-be")


def _query(**parameters: str) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if value}


def _json(body: bytes, doing: str) -> Manifest:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise UnavailableError(f"{doing}: the answer is not an object: {body[:80]!r}")
    return answer
