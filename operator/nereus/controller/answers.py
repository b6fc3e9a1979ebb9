"""What the API server answers kopf, read before kopf reads it: lists are taken, and refusals end nothing.

The session that kopf is given answers with `answers`, which is the only seam: nothing of kopf is replaced.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp

from nereus.api.manifests import Manifest
from nereus.controller.kinds import WATCHED, Kind
from nereus.controller.refusals import Call, Refusals, RefusedError

KINDS: Mapping[str, Kind] = {kind.plural: kind for kind in WATCHED}
ERROR = b'{"type":"ERROR"'
"""How an event begins that says that a watch is over, as the API server writes it."""
ANEW = b'{"type":"ERROR","object":{"kind":"Status","code":410,"message":"to be listed anew"}}\n'
"""The one such event after which kopf lists anew; after any other it ends."""
AGAIN = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
"""What says nothing about the place where a watch was: it goes on from there, as it does after a 5xx."""


@dataclass(frozen=True)
class Page:
    """A page of a list; the namespace is empty when it is of all of them."""

    items: Sequence[Manifest]
    namespace: str
    last: bool


def answers(take: Callable[[Kind, Page], None], refusals: Refusals) -> type[aiohttp.ClientResponse]:
    """What kopf's requests are answered with.

    Lists are taken here and go on empty: kopf starts a task for each object and keeps it waiting for the next event,
    which for a fleet that is listed costs more than everything that is done with it (by cProfile). kopf goes on to
    watch from where the list ended.

    kopf ends with the first 400, 404 or 410 and with any error inside a watch but 410; with 403 and 5xx after 20 tries;
    and with 401 it logs in again without a pause (1.45.2). So it sees none of them, but a broken connection, which it
    tries again after a pause that grows to 10 s; where a watch cannot go on from its place, it sees that it is to list
    anew. 429 is left to it: it waits as long as the server says.
    """

    class Answer(aiohttp.ClientResponse):
        async def start(self, connection: Any) -> aiohttp.ClientResponse:
            call = _call(self)
            try:
                await super().start(connection)
            except aiohttp.ClientResponseError as error:  # not HTTP at all
                raise self._refused(call, error.status, error.message) from error
            if self.status == HTTPStatus.TOO_MANY_REQUESTS:
                return self
            if self.status >= HTTPStatus.BAD_REQUEST:
                refusal = self._refused(call, self.status, _words(await self.read()))
                if call is None or call.verb == "list" or self.status in AGAIN or self.status >= 500:
                    raise refusal
                self.status = HTTPStatus.OK
                self.content = _Stream(self.content, call, refusals, refused=True)  # type: ignore[assignment]
            elif call is not None and call.verb == "watch":
                refusals.answered(call)
                self.content = _Stream(self.content, call, refusals)  # type: ignore[assignment]
            return self

        def _refused(self, call: Call | None, status: int, words: str) -> RefusedError:
            if call is not None:
                refusals.refused(call, status, words)
            return RefusedError(f"{self.url.path}: {words} ({status})")

        async def json(self, **options: Any) -> Any:
            call = _call(self)
            try:
                body = await super().json(**options)
            except (aiohttp.ContentTypeError, ValueError) as error:
                raise self._refused(call, self.status, f"no JSON: {error}") from error
            if not isinstance(body, dict) or self.status != HTTPStatus.OK:
                return body
            if self.url.path == "/apis":
                return _with_groups(body)
            if call is None or "items" not in body:
                return body
            refusals.answered(call)
            last = not (body.get("metadata") or {}).get("continue")
            take(call.kind, Page(body["items"] or (), call.namespace, last))  # null where a page is empty
            return {**body, "items": []}

    return Answer


def _call(answer: aiohttp.ClientResponse) -> Call | None:
    """What was asked for; None for anything but a list or a watch of our kinds."""
    path = answer.url.path.split("/")
    kind = KINDS.get(path[-1])
    if kind is None:
        return None
    verb = "watch" if answer.url.query.get("watch") == "true" else "list"
    return Call(kind, verb, path[-2] if path[-3] == "namespaces" else "")


def _words(body: bytes) -> str:
    """What an answer says, in the server's own words."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, TypeError, KeyError):
        return body[:200].decode(errors="replace").strip() or "no words"


def _with_groups(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The list of groups, with ours in it: a definition that is new is served a moment before the list names it, and
    kopf reads that list once."""
    named = {group["name"] for group in body.get("groups") or ()}
    absent = {kind.group: kind.version for kind in WATCHED if kind.group and kind.group not in named}
    versions = {group: {"groupVersion": f"{group}/{version}", "version": version} for group, version in absent.items()}
    more = [{"name": group, "versions": [one], "preferredVersion": one} for group, one in versions.items()]
    return {**body, "groups": [*(body.get("groups") or ()), *more]}


class _Stream:
    """The lines of a watch as kopf reads them. An error among them becomes that it is to list anew, and a line that was
    cut in its middle a broken connection. `refused`: there is no watch. All else is the source's."""

    def __init__(self, source: aiohttp.StreamReader, call: Call, refusals: Refusals, *, refused: bool = False) -> None:
        self._source = source
        self._refused = refused
        self._call = Call(call.kind, "stream", call.namespace)
        self._refusals = refusals

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Whole lines, some at a time."""
        if self._refused:
            yield ANEW
            return
        rest = b""
        async for chunk in self._source.iter_chunked(size):
            lines, newline, rest = (rest + chunk).rpartition(b"\n")
            if not newline:
                continue
            at = 0 if lines.startswith(ERROR) else lines.find(b"\n" + ERROR) + 1
            if at or lines.startswith(ERROR):
                yield lines[:at] + self._ended(lines[at:].partition(b"\n")[0])
                return
            self._refusals.answered(self._call)
            yield lines + newline
        if rest:
            raise RefusedError(f"{self._call.kind}: a line of the watch was cut")

    def _ended(self, line: bytes) -> bytes:
        try:
            status = json.loads(line)["object"]
            code, words = int(status["code"]), str(status.get("message") or "no words")
        except (ValueError, TypeError, KeyError, AttributeError):
            code, words = 0, line[:200].decode(errors="replace")
        if code != HTTPStatus.GONE:  # too old is how a watch ends now and then
            self._refusals.refused(self._call, code, words)
        return ANEW
