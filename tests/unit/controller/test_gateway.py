"""The client to the API server when that one is slow, overloaded, gone, or says no."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import yaml
from aiohttp import web

from nereus.api import names
from nereus.controller import gateway as gateway_module
from nereus.controller.errors import (
    ApiError,
    ConflictError,
    FencedError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from nereus.controller.gateway import Gateway
from nereus.controller.kinds import DEPLOYMENT, MODEL_SERVICE, POD_MONITOR
from tests.unit.controller.scripted import Scripted, Seen, refusal, scripted

MANIFEST = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "ns"}}


@asynccontextmanager
async def talking(
    answer: Callable[[Seen], Awaitable[web.StreamResponse]], may_write: Callable[[], bool] = lambda: True
) -> AsyncIterator[tuple[Gateway, Scripted]]:
    async with scripted(answer) as server:
        gateway = Gateway(server.connection, may_write=may_write)
        try:
            yield gateway, server
        finally:
            await gateway.close()


async def good(_: Seen) -> web.Response:
    return web.json_response(MANIFEST)


async def test_apply_is_a_forced_server_side_apply_by_our_manager() -> None:
    async with talking(good) as (gateway, server):
        await gateway.apply(DEPLOYMENT, MANIFEST)
    (seen,) = server.seen
    assert (seen.method, seen.path) == ("PATCH", "/apis/apps/v1/namespaces/ns/deployments/a")
    assert seen.query == {"fieldManager": names.FIELD_MANAGER, "force": "true"}
    assert seen.headers["Content-Type"] == "application/apply-patch+yaml"
    assert seen.body == MANIFEST


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (404, "NotFound", NotFoundError),
        (409, "Conflict", ConflictError),
        (403, "Forbidden", ForbiddenError),
        (422, "Invalid", InvalidError),
        (400, "BadRequest", InvalidError),
        (413, "RequestEntityTooLarge", InvalidError),
        (418, "Teapot", ApiError),
    ],
)
async def test_a_refusal_has_a_type_and_the_servers_words(code: int, reason: str, kind: type[ApiError]) -> None:
    async def answer(_: Seen) -> web.Response:
        return refusal(code, reason, 'conflict with "kubectl-edit": .spec.replicas')

    async with talking(answer) as (gateway, server):
        with pytest.raises(kind) as caught:
            await gateway.apply(DEPLOYMENT, MANIFEST)
    assert "kubectl-edit" in str(caught.value)
    assert "deployments/a" in str(caught.value)
    assert (caught.value.status, caught.value.reason) == (code, reason)
    assert len(server.seen) == 1, "a refusal is not tried again"


async def test_an_overloaded_server_is_asked_again_after_the_time_it_names() -> None:
    async def answer(_: Seen) -> web.Response:
        if len(server.seen) == 1:
            return refusal(429, "TooManyRequests", "later", **{"Retry-After": "1"})
        return web.json_response(MANIFEST)

    async with talking(answer) as (gateway, server):
        began = time.monotonic()
        await gateway.apply(DEPLOYMENT, MANIFEST)
    assert time.monotonic() - began >= 1
    assert len(server.seen) == 2


async def test_a_broken_server_is_asked_a_few_times_and_no_more() -> None:
    async def answer(_: Seen) -> web.Response:
        return web.Response(status=500, text="<html>proxy error</html>")

    async with talking(answer) as (gateway, server):
        with pytest.raises(UnavailableError, match="proxy error"):
            await gateway.get(DEPLOYMENT, "ns", "a")
    assert len(server.seen) == gateway_module.ATTEMPTS


async def test_no_server_at_all_is_unavailable() -> None:
    async with scripted(good) as server:
        connection = server.connection
    gateway = Gateway(connection)
    with pytest.raises(UnavailableError) as caught:
        await gateway.get(DEPLOYMENT, "ns", "a")
    assert caught.value.status == 0
    await gateway.close()


async def test_a_server_that_hangs_is_given_up_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "WRITE_SECONDS", 0.1)
    monkeypatch.setattr(gateway_module, "ATTEMPTS", 1)

    async def answer(_: Seen) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with talking(answer) as (gateway, _):
        began = time.monotonic()
        with pytest.raises(UnavailableError, match="no answer within"):
            await gateway.apply(DEPLOYMENT, MANIFEST)
        assert time.monotonic() - began < 12  # three attempts with the ordinary deadline take 15 s


async def test_an_answer_that_is_no_object_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "ATTEMPTS", 1)

    async def answer(_: Seen) -> web.Response:
        return web.Response(text="[]")

    async with talking(answer) as (gateway, _):
        with pytest.raises(UnavailableError, match="not an object"):
            await gateway.get(DEPLOYMENT, "ns", "a")


async def test_without_the_lease_nothing_is_written_and_everything_may_be_read() -> None:
    async with talking(good, may_write=lambda: False) as (gateway, server):
        for write in (
            gateway.apply(DEPLOYMENT, MANIFEST),
            gateway.merge(DEPLOYMENT, "ns", "a", {}),
            gateway.create(DEPLOYMENT, MANIFEST),
            gateway.delete(DEPLOYMENT, "ns", "a", uid="u"),
            gateway.replace_status(MODEL_SERVICE, "ns", "a", {}, uid="u"),
        ):
            with pytest.raises(FencedError):
                await write
        assert server.seen == []
        await gateway.get(DEPLOYMENT, "ns", "a")


async def test_a_lease_that_is_lost_between_two_attempts_stops_the_write() -> None:
    held = [True]

    async def answer(_: Seen) -> web.Response:
        held[0] = False
        return refusal(503, "ServiceUnavailable", "restarting")

    async with talking(answer, may_write=lambda: held[0]) as (gateway, server):
        with pytest.raises(FencedError):
            await gateway.apply(DEPLOYMENT, MANIFEST)
    assert len(server.seen) == 1


async def test_lists_are_read_page_by_page_and_say_what_they_hold() -> None:
    async def answer(seen: Seen) -> web.Response:
        page = int(seen.query.get("continue", "0"))
        item = {"metadata": {"name": f"a{page}", "namespace": "ns", "uid": f"u{page}", "resourceVersion": "1"}}
        metadata = {"continue": str(page + 1)} if page < 2 else {}
        return web.json_response({"metadata": metadata, "items": [item]})

    async with talking(answer) as (gateway, server):
        objects = await gateway.list_objects(DEPLOYMENT, selector="a=b")
        identities = await gateway.list_identities(DEPLOYMENT)
    assert [(item["kind"], item["metadata"]["name"]) for item in objects] == [
        ("Deployment", "a0"),
        ("Deployment", "a1"),
        ("Deployment", "a2"),
    ]
    assert [item.uid for item in identities] == ["u0", "u1", "u2"]
    assert "PartialObjectMetadataList" in server.seen[-1].headers["Accept"]
    assert server.seen[0].query["labelSelector"] == "a=b"


async def test_deleting_what_is_gone_is_fine_and_names_the_very_object() -> None:
    async def answer(_: Seen) -> web.Response:
        return refusal(404, "NotFound", "gone")

    async with talking(answer) as (gateway, server):
        await gateway.delete(DEPLOYMENT, "ns", "a", uid="u1")
    assert server.seen[0].body["preconditions"] == {"uid": "u1"}


async def test_a_kind_that_the_cluster_does_not_know_is_not_served() -> None:
    async def answer(seen: Seen) -> web.Response:
        if "monitoring" in seen.path:
            return refusal(404, "NotFound", "no such group")
        return web.json_response({"resources": [{"name": "deployments"}]})

    async with talking(answer) as (gateway, _):
        assert not await gateway.serves(POD_MONITOR)
        assert await gateway.serves(DEPLOYMENT)


async def test_a_rotated_token_is_used_at_once() -> None:
    async with scripted(good) as server:
        connection = server.connection
        tokens = iter(["bearer one", "bearer two"])

        def refresh(configuration: object) -> None:
            connection.configuration.api_key["BearerToken"] = next(tokens)

        connection.configuration.refresh_api_key_hook = refresh
        gateway = Gateway(connection)
        await gateway.get(DEPLOYMENT, "ns", "a")
        await gateway.get(DEPLOYMENT, "ns", "a")
        await gateway.close()
    assert [seen.headers["Authorization"] for seen in server.seen] == ["bearer one", "bearer two"]


@pytest.mark.parametrize(
    "text",
    ["\U0001f600", "\x7f", "\x85\xa0\ufffe", "\\ud83d\\ude00", "\\\U0001f600", '\\\\ud83d\\ude00\n\t"', "plain"],
    ids=ascii,
)
def test_what_is_applied_reads_the_same_as_yaml_whatever_its_characters(text: str) -> None:
    body = gateway_module.as_yaml({"value": text, text: [1, None]})
    assert json.loads(body) == {"value": text, text: [1, None]}
    assert yaml.safe_load(body.decode()) == {"value": text, text: [1, None]}
    assert not re.search(rb"(?<!\\)(\\\\)*\\ud[89ab]", body), "a surrogate is no character of YAML"
