"""Asks Prometheus which rules it has loaded: the only proof that an alert would fire.

One question for the whole fleet, whatever its size, and less often where the answer is large. A group is compared by
its rules' names, texts and labels; thresholds stand in the texts, so a changed one is noticed. Prometheus prints
expressions in its own way: they are not compared. What changes wakes the service, so that its condition follows.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from nereus.controller.store import Key
from nereus.diagnosis.alerts import Loading
from nereus.diagnosis.reading import items, mapping, text

ASK_SECONDS = 30.0
ANSWER_SECONDS = 20.0
SHARE = 60.0
"""An answer that took a second is asked for at most once a minute: with a thousand services it has 16 MB."""
PATIENCE_SECONDS = 240.0
"""prometheus-operator syncs a rule into Prometheus' volume within a kubelet's refresh (up to 90 s); twice that, and
the time to ask again."""
PREFIX = "nereus/"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """What is known of a group of rules."""

    loading: Loading
    words: str = ""


@dataclass(frozen=True)
class _Wish:
    group: str
    rules: Mapping[str, Mapping[str, Any]]
    since: float


class LoadedRules:
    """Keeps what Prometheus answered last. Without an address nobody is asked."""

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        wake: Callable[[Key], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url.rstrip("/")
        self._session = session
        self._wake = wake
        self._clock = clock
        self._groups: dict[str, Mapping[str, Mapping[str, Any]]] | None = None
        self._trouble = "it has not been asked yet"
        self._wishes: dict[Key, _Wish] = {}
        self._verdicts: dict[Key, Verdict] = {}

    def look(self, key: Key, group: Mapping[str, Any]) -> Verdict:
        """Whether this group of rules, wished by a service, is loaded."""
        if not self._url:
            return Verdict(Loading.UNASKED)
        rules = {rule["alert"]: rule for rule in group["rules"] if "alert" in rule}
        known = self._wishes.get(key)
        if known is None or known.rules != rules or known.group != group["name"]:
            self._wishes[key] = _Wish(group["name"], rules, self._clock())
        verdict = self._verdicts[key] = self._judge(self._wishes[key])
        return verdict

    def forget(self, key: Key) -> None:
        self._wishes.pop(key, None)
        self._verdicts.pop(key, None)

    async def run(self) -> None:
        """Ask for ever; only while somebody wants to know."""
        if not self._url:
            await asyncio.Event().wait()
        while True:
            began = self._clock()
            if self._wishes:
                await self.ask()
            usual = ASK_SECONDS if self._groups is not None else ASK_SECONDS / 3
            await asyncio.sleep(max(usual, SHARE * (self._clock() - began)))

    async def ask(self) -> None:
        """One question; services whose answer changed are woken."""
        try:
            timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
            address = f"{self._url}/api/v1/rules?type=alert&exclude_alerts=true"
            async with self._session.get(address, timeout=timeout) as answer:
                body = await answer.read()
                if answer.status != 200:
                    raise ValueError(f"{answer.status} {body[:120]!r}")
            self._groups = await asyncio.to_thread(parse, body)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            if self._groups is not None:
                log.warning("Prometheus does not list its rules: %s", error)
            self._groups, self._trouble = None, str(error) or f"no answer within {ANSWER_SECONDS:.0f} s"
        for key, wish in list(self._wishes.items()):
            if self._verdicts.get(key) != self._judge(wish):
                self._wake(key)

    def _judge(self, wish: _Wish) -> Verdict:
        if self._groups is None:
            return Verdict(Loading.UNREACHABLE, self._trouble)
        loaded = self._groups.get(wish.group)
        patient = self._clock() - wish.since < PATIENCE_SECONDS
        if loaded is None:
            return Verdict(Loading.PENDING if patient else Loading.MISSING)
        for name, rule in loaded.items():
            if error := text(rule.get("lastError")):
                return Verdict(Loading.FAILING, f"{name}: {error[:300]}")
        differing = sorted(
            name for name in wish.rules.keys() | loaded.keys() if not _same(wish.rules.get(name), loaded.get(name))
        )
        if differing:
            return Verdict(Loading.PENDING if patient else Loading.OUTDATED, ", ".join(differing[:3]))
        return Verdict(Loading.LOADED)


def parse(body: bytes) -> dict[str, Mapping[str, Mapping[str, Any]]]:
    """Our groups in the answer of /api/v1/rules: by group and alert. Raises ValueError."""
    answer = json.loads(body)
    if not isinstance(answer, dict) or answer.get("status") != "success":
        raise ValueError(f"not the answer of a Prometheus: {body[:120]!r}")
    found: dict[str, Mapping[str, Mapping[str, Any]]] = {}
    for group in items(mapping(answer.get("data")).get("groups")):
        if text(group.get("name")).startswith(PREFIX):
            found[text(group["name"])] = {text(rule.get("name")): rule for rule in items(group.get("rules"))}
    return found


def _same(wished: Mapping[str, Any] | None, loaded: Mapping[str, Any] | None) -> bool:
    """Compares what both sides write alike: texts, and labels (prometheus-operator may add one of its own)."""
    if wished is None or loaded is None:
        return False
    labels = mapping(loaded.get("labels"))
    return mapping(loaded.get("annotations")) == mapping(wished.get("annotations")) and all(
        labels.get(name) == value for name, value in mapping(wished.get("labels")).items()
    )
