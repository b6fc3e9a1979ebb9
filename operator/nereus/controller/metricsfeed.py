"""What the process that answers the External Metrics API has to know, and what of it is new. No I/O.

Facts are noted where they arise: decisions after each tick, floors and pods when the store learns of an object. So
nothing is read or parsed again when somebody asks, and only what changed is handed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from nereus.api.decision import ScalingDecision
from nereus.api.manifests import Manifest
from nereus.controller.certificate import Certificate
from nereus.controller.metricsapi import NOTHING, Callers, Known
from nereus.controller.replicas import written_floor
from nereus.controller.store import Key

SERVICES_AT_ONCE = 100
"""In one message: it is taken in within a fraction of a millisecond, and whoever asks waits no longer than that."""


class Feed:
    """`news` is set when there is anything to hand over."""

    def __init__(self) -> None:
        self._known: dict[Key, Known] = {}
        self._changed: set[Key] = set()
        self._callers: Callers | None = None
        self._certificate: Certificate | None = None
        self._told: dict[str, Any] = {}
        self.news = asyncio.Event()

    @property
    def complete(self) -> bool:
        """Whether enough is known to serve: who may ask, and a certificate."""
        return self._callers is not None and self._certificate is not None

    def admit(self, callers: Callers) -> None:
        """Who may ask from now on."""
        self._callers = callers
        self.news.set()

    def present(self, certificate: Certificate) -> None:
        """What to serve with from now on."""
        self._certificate = certificate
        self.news.set()

    def decided(self, decisions: Mapping[Key, ScalingDecision]) -> None:
        """After a tick: the decisions on all services; there is none on any other."""
        for key in self._known.keys() - decisions.keys():
            self._note(key, decided=None, load_known=False)
        for key, decision in decisions.items():
            self._note(key, decided=decision.replicas, load_known=decision.known)

    def autoscaler(self, key: Key, found: Manifest | None) -> None:
        """The autoscaler of a service as it is now; None when it is gone."""
        self._note(key, floor=written_floor(found))

    def deployment(self, key: Key, found: Manifest | None) -> None:
        """The Deployment of a service as it is now; None when it is gone."""
        replicas = ((found or {}).get("spec") or {}).get("replicas")
        self._note(key, there=replicas if isinstance(replicas, int) else None)

    def everything_anew(self) -> None:
        """The process is a new one and knows nothing."""
        self._changed = set(self._known)
        self._told = {}
        self.news.set()

    def messages(self) -> Iterator[dict[str, Any]]:
        """What is new since this was asked before."""
        changed, self._changed = sorted(self._changed), set()
        for first in range(0, len(changed), SERVICES_AT_ONCE):
            yield {"services": {str(key): self._known.get(key) for key in changed[first : first + SERVICES_AT_ONCE]}}
        terms: dict[str, Any] = {}
        if self._callers is not None:
            terms["callers"] = asdict(self._callers)
        if self._certificate is not None:
            terms["certificate"] = [str(self._certificate.chain), str(self._certificate.key)]
        if news := {name: value for name, value in terms.items() if self._told.get(name) != value}:
            self._told = terms
            yield news

    def _note(self, key: Key, **facts: Any) -> None:
        before = self._known.get(key, NOTHING)
        known = before._replace(**facts)
        if known == before:
            return
        if known == NOTHING:
            del self._known[key]
        else:
            self._known[key] = known
        self._changed.add(key)
        self.news.set()
