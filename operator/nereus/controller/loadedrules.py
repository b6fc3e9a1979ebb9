"""Asks Prometheus which rules it has loaded: the only proof that an alert would fire.

One question for the whole fleet, whatever its size, and less often where the answer is large. A group is compared by
its rules' names, texts and labels; thresholds stand in the texts, so a changed one is noticed. Prometheus prints
expressions in its own way: they are not compared. What changes wakes the service, so that its condition follows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from nereus.controller.store import Key
from nereus.diagnosis.alerts import Loading
from nereus.diagnosis.reading import items, mapping, text
from nereus.prometheus.client import Page, QueryError

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


class Lists(Protocol):
    """Who is asked; `nereus.prometheus.client.Client` is it. Raises QueryError."""

    async def page(self, path: str, *, within: float, **asked: str) -> Page: ...


class LoadedRules:
    """Keeps what Prometheus answered last. Without a `source` nobody is asked."""

    def __init__(
        self,
        source: Lists | None,
        wake: Callable[[Key], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._wake = wake
        self._clock = clock
        self._groups: dict[str, Mapping[str, Mapping[str, Any]]] | None = None
        self._trouble = "it has not been asked yet"
        self._gaps = ""
        self._wishes: dict[Key, _Wish] = {}
        self._verdicts: dict[Key, Verdict] = {}

    def look(self, key: Key, group: Mapping[str, Any]) -> Verdict:
        """Whether this group of rules, wished by a service, is loaded."""
        if self._source is None:
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
        if self._source is None:
            await asyncio.Event().wait()
        while True:
            began = self._clock()
            if self._wishes:
                await self.ask()
            usual = ASK_SECONDS if self._groups is not None else ASK_SECONDS / 3
            await asyncio.sleep(max(usual, SHARE * (self._clock() - began)))

    async def ask(self) -> None:
        """One question; services whose answer changed are woken."""
        assert self._source is not None
        try:
            page = await self._source.page("rules", within=ANSWER_SECONDS, type="alert", exclude_alerts="true")
            self._groups, self._gaps = ours(page.data), "; ".join(page.warnings)
        except QueryError as error:
            if self._groups is not None:
                log.warning("Prometheus does not list its rules: %s", error.message)
            self._groups, self._trouble = None, error.message
        for key, wish in list(self._wishes.items()):
            if self._verdicts.get(key) != self._judge(wish):
                self._wake(key)

    def _judge(self, wish: _Wish) -> Verdict:
        if self._groups is None:
            return Verdict(Loading.UNREACHABLE, self._trouble)
        loaded = self._groups.get(wish.group)
        patient = self._clock() - wish.since < PATIENCE_SECONDS
        if loaded is None and self._gaps:
            return Verdict(Loading.UNREACHABLE, f"its list of rules is incomplete: {self._gaps}")
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


def ours(data: Mapping[str, Any]) -> dict[str, Mapping[str, Mapping[str, Any]]]:
    """Our groups in the answer of /api/v1/rules: by group and alert."""
    return {
        text(group["name"]): {text(rule.get("name")): rule for rule in items(group.get("rules"))}
        for group in items(data.get("groups"))
        if text(group.get("name")).startswith(PREFIX)
    }


def _same(wished: Mapping[str, Any] | None, loaded: Mapping[str, Any] | None) -> bool:
    """Compares what both sides write alike: texts, and labels (prometheus-operator may add one of its own)."""
    if wished is None or loaded is None:
        return False
    labels = mapping(loaded.get("labels"))
    return mapping(loaded.get("annotations")) == mapping(wished.get("annotations")) and all(
        labels.get(name) == value for name, value in mapping(wished.get("labels")).items()
    )
