"""What the API server refuses of watching: which kind, since when, in which words, and what a person can do about it.

A refusal ends nothing: kopf is shown a broken connection instead, which it tries again for ever, while a status such
as 404 (a definition that was deleted) would end it at once and 403 or 503 after some minutes. So the words for it are
found here: one line when it begins, one a minute while it lasts, and one when it is over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus

import aiohttp

from nereus.controller.kinds import MODEL_SERVICE, Kind

TELL_SECONDS = 60.0
"""How often a refusal that lasts is told in the log."""

log = logging.getLogger(__name__)


class RefusedError(aiohttp.ClientConnectionError):
    """An answer that is of no use, as the one kind of failure that kopf never gives up on."""


@dataclass(frozen=True)
class Call:
    """One of the requests that keep a kind in the store: `list`, `watch`, or `stream` for what an open watch says."""

    kind: Kind
    verb: str
    namespace: str = ""


@dataclass(frozen=True)
class Refusal:
    """Why a call is of no use; `since` is on the clock of the record, `status` as in HTTP."""

    status: int
    words: str
    since: float


def remedy(kind: Kind, status: int) -> str:
    """What a person can do; that it is tried again goes without saying."""
    match status:
        case HTTPStatus.NOT_FOUND if kind is MODEL_SERVICE:
            return "install the chart's definition again"
        case HTTPStatus.NOT_FOUND:
            return f"this API server does not serve {kind.plural} of {kind.api_version}: is its version supported?"
        case HTTPStatus.UNAUTHORIZED:
            return "see that the operator's ServiceAccount exists and that its token is the present one"
        case HTTPStatus.FORBIDDEN:
            return f"see that the operator's role allows list and watch of {kind.plural} and is bound"
        case HTTPStatus.GONE:
            return "nothing to do, it is listed anew"
    return "if it lasts, see what troubles the API server or what stands before it"


@dataclass
class Refusals:
    """The record. `refused` and `answered` are told of every call; everybody else asks."""

    clock: Callable[[], float] = time.monotonic
    _now: dict[Call, Refusal] = field(default_factory=dict)
    _told: dict[Kind, tuple[int, float]] = field(default_factory=dict)
    _owed: dict[Kind, float] = field(default_factory=dict)

    def refused(self, call: Call, status: int, words: str) -> None:
        """A call was of no use, in the words of who answered it."""
        now = self.clock()
        known = self._now.get(call)
        refusal = replace(known, status=status, words=words) if known else Refusal(status, words, now)
        self._now[call] = refusal
        kind = call.kind
        told_status, told_at = self._told.get(kind, (0, float("-inf")))
        if status == told_status and now - told_at < TELL_SECONDS:
            return
        self._told[kind] = status, now
        self._owed.setdefault(kind, refusal.since)
        log.warning(
            "%s cannot be watched: %s (%d); %s", kind, words, status, remedy(kind, status), extra={"kind": str(kind)}
        )

    def answered(self, call: Call) -> None:
        """A call was of use."""
        if self._now.pop(call, None) is None or call.kind in self.seconds():
            return
        began = self._owed.pop(call.kind, None)
        if began is not None:
            log.info("%s is watched again, after %.0f s", call.kind, self.clock() - began)

    def seconds(self) -> Mapping[Kind, float]:
        """The kinds that are refused now, and since how many seconds."""
        now = self.clock()
        found: dict[Kind, float] = {}
        for call, refusal in self._now.items():
            found[call.kind] = max(found.get(call.kind, 0.0), now - refusal.since)
        return found

    def missing(self, kind: Kind) -> str:
        """Says that the API server does not know the kind; empty when it does or nobody can tell."""
        for call, refusal in self._now.items():
            if call.kind is kind and refusal.status == HTTPStatus.NOT_FOUND:
                since = self.clock() - refusal.since
                return f"the cluster does not know {kind} for {since:.0f} s; {remedy(kind, refusal.status)}"
        return ""

    def __str__(self) -> str:
        """All of it for a person, one line for each kind; empty when all is well."""
        worst: dict[Kind, Refusal] = {}
        for call, refusal in self._now.items():
            if call.kind not in worst or refusal.since < worst[call.kind].since:
                worst[call.kind] = refusal
        now = self.clock()
        return "\n".join(
            f"{kind} cannot be watched for {now - refusal.since:.0f} s: {refusal.words} ({refusal.status}); "
            f"{remedy(kind, refusal.status)}"
            for kind, refusal in worst.items()
        )
