"""What this pod knows: the record of each model, and the moments of the pod's life.

Here because three tasks write it (keeper, loader, drain) and three answers are made of it: state, readiness, metrics.
All of it is touched from one event loop only, so it needs no locks; nothing here does I/O.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from nereus.api.protocol import REPOSITORY, ModelPlan, ModelReport, ModelState, PodReport
from nereus.triton.cost import Fit

MAX_MESSAGE_BYTES = 1024
FAILED = (ModelState.FETCH_FAILED, ModelState.CONFIG_INVALID, ModelState.LOAD_FAILED)
DRIFT_SHOWN_SECONDS = 600.0
"""How long it is said of a model that somebody had changed it and that it was put right."""


@dataclass(frozen=True, kw_only=True)
class Publication:
    """One model made ready for the repository. `digest` changes when Triton must load again; `source` names the fetched
    tree (empty for one read in place); `entries` maps names in the model's directory to where they lie; `version_bytes`
    is the size of the files of the newest version."""

    digest: str
    config_text: str
    entries: Mapping[str, Path]
    source: str = ""
    conflicts: tuple[str, ...] = ()
    version_bytes: int | None = None


@dataclass
class Record:
    """One model. The first group is written by the keeper, the second by the loader."""

    name: str
    plan: ModelPlan | None = None
    source_state: ModelState = ModelState.PENDING
    source_message: str = ""
    tried: bool = False
    wanted: Publication | None = None
    fetch_seconds: float | None = None
    fetched_bytes: int | None = None
    total_bytes: int | None = None
    identity: str = ""
    members: tuple[str, ...] | None = None

    on_disk: str = ""
    loaded: str = ""
    loaded_at: float = 0.0
    interrupted_at: float = 0.0
    good: Publication | None = None
    loading: bool = False
    load_message: str = ""
    failed: str = ""
    failures: int = 0
    retry_at: float = 0.0
    fallback_at: float = 0.0
    load_seconds: float | None = None
    loads: int = 0
    load_failures: int = 0
    versions: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    kinds_of: str = ""
    served: bool = False
    drift: str = ""
    drifted_at: float = 0.0
    drifts: int = 0
    removing: bool = False

    @property
    def is_repository(self) -> bool:
        """Whether this is no model but the repository that `members` are from (None: not known yet)."""
        return self.name == REPOSITORY

    @property
    def settled(self) -> bool:
        """Whether models that come after this one may be loaded: it serves what is wanted, or does not for now."""
        return self.state in (*FAILED, ModelState.READY)

    @property
    def dispensable(self) -> bool:
        """Whether a pod may take requests without it."""
        return self.plan is not None and self.plan.optional and self.state in FAILED

    @property
    def prepared(self) -> bool:
        return self.members is not None if self.is_repository else self.wanted is not None

    @property
    def serving(self) -> bool:
        return bool(self.versions)

    @property
    def state(self) -> ModelState:
        """The one word for where the model stands; a failure counts more than what still serves."""
        if self.removing:
            return ModelState.UNLOADING
        if self.is_repository and self.source_state is ModelState.FETCHED:
            return ModelState.READY
        if self.source_state is not ModelState.FETCHED or self.wanted is None:
            return self.source_state
        if self.failed == self.wanted.digest:
            return ModelState.LOAD_FAILED
        if self.serving and self.loaded == self.wanted.digest:
            return ModelState.READY
        return ModelState.LOADING if self.loading else ModelState.FETCHED

    def note_drift(self, words: str) -> None:
        """Somebody changed what Triton serves."""
        self.drift, self.drifted_at = words, time.monotonic()
        self.drifts += 1

    def report(self) -> ModelReport:
        state = self.state
        lately = self.drifts and time.monotonic() - self.drifted_at < DRIFT_SHOWN_SECONDS
        message = {
            ModelState.FETCH_FAILED: self.source_message,
            ModelState.CONFIG_INVALID: self.source_message,
            ModelState.LOAD_FAILED: self.load_message,
        }.get(state, "")
        return ModelReport(
            name=self.name,
            state=state,
            message=shorten(message),
            serving=self.serving,
            versions=self.versions,
            fetch_seconds=self.fetch_seconds,
            fetched_bytes=self.fetched_bytes,
            total_bytes=self.total_bytes,
            load_seconds=self.load_seconds,
            conflicts=self.wanted.conflicts if self.wanted else (),
            version_bytes=self.wanted.version_bytes if self.wanted else None,
            drift=shorten(self.drift) if lately else "",
            kinds=self.kinds if self.serving else (),
        )


@dataclass
class Moments:
    """When things first happened in this pod, in Unix seconds. They outlive a restart of the sidecar's container."""

    started_at: float | None = None
    fetched_at: float | None = None
    server_live_at: float | None = None
    ready_at: float | None = None


@dataclass
class Board:
    """Everything that is known, and a bell that is rung when something changed. `tried` says that this pod tries its
    plan before others, `tried_since` from when on (monotonic); `rejected` is the revision that this pod does not try
    again, and why."""

    version: str = ""
    moments: Moments = field(default_factory=Moments)
    costs: dict[tuple[str, str], Fit] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    revision: str = ""
    tried: bool = False
    tried_since: float = 0.0
    rejected: tuple[str, str] = ("", "")
    problems: dict[str, str] = field(default_factory=dict)
    server_live: bool = False
    draining: bool = False
    drained: bool = False
    bell: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def planned(self) -> list[Record]:
        """The models of the plan, without those that are on their way out."""
        return [record for record in self.records.values() if not record.removing]

    def ring(self) -> None:
        """Something changed: the loader looks now instead of at its next turn."""
        self.bell.set()

    def unstarted(self) -> list[str]:
        """Why Triton shall not start yet; empty when it may.

        Every source was tried once, and one at least is there: a source that fails for good does not keep the other
        models from being served, and a server without any model is of no use to anybody.
        """
        if not self.revision:
            return [self.problems.get("plan", "there is no plan yet")]
        untried = [f"{record.name}: {record.state}" for record in self.planned if not record.tried]
        if untried:
            return untried
        if self.planned and not any(record.wanted for record in self.planned):
            return [f"{record.name}: {record.state}: {record.source_message}" for record in self.planned]
        return []

    def unready(self, ready: frozenset[str]) -> list[str]:
        """Why this pod shall get no requests, given the models that Triton says are ready; empty when it may.

        Until the first time, every model of the plan must serve. From then on, every model that ever served must: a
        later change that fails takes no pod out of service. A model that is optional may fail at any time.
        """
        if self.draining:
            return ["draining: this pod is about to stop"]
        if not self.revision:
            return [self.problems.get("plan", "there is no plan yet")]
        first_time = self.moments.ready_at is None
        reasons = []
        for record in self.planned:
            if record.name in ready or not (first_time or record.served) or self._expanded(record):
                continue
            if record.dispensable:
                continue
            report = record.report()
            words = f"{report.state}: {report.message}" if report.message else str(report.state)
            reasons.append(f"{record.name}: {words if report.state is not ModelState.READY else 'gone from Triton'}")
        known = any(record.served or record.name in ready for record in self.planned)
        if self.planned and not known and not (first_time and reasons):
            reasons.append("no model of the plan has ever served in this pod")
        return reasons

    def settle(self) -> bool:
        """Notes the moments that have come; true when this pod is ready. Called whenever the records changed."""
        now = time.time()
        moments = self.moments
        if moments.fetched_at is None and self.revision and all(record.prepared for record in self.planned):
            moments.fetched_at = now
        if moments.server_live_at is None and self.server_live:
            moments.server_live_at = now
        is_ready = self.server_live and not self.unready(frozenset(r.name for r in self.planned if r.serving))
        if moments.ready_at is None and is_ready:
            moments.ready_at = now
        return is_ready

    @staticmethod
    def _expanded(record: Record) -> bool:
        return record.is_repository and record.source_state is ModelState.FETCHED

    def _told(self, record: Record) -> ModelReport:
        """What is said of a record: of a repository, that it is ready only when every model from it is."""
        told = record.report()
        if told.state is not ModelState.READY or not record.is_repository:
            return told
        states = [self.records[name].state for name in record.members or () if name in self.records]
        loaded = states and all(state is ModelState.READY for state in states)
        return told if loaded else replace(told, state=ModelState.LOADING)

    def report(self) -> PodReport:
        ready = self.settle()
        return PodReport(
            revision=self.revision,
            models=tuple(self._told(record) for _, record in sorted(self.records.items())),
            ready=ready,
            draining=self.draining,
            server_live=self.server_live,
            started_at=self.moments.started_at,
            fetched_at=self.moments.fetched_at,
            server_live_at=self.moments.server_live_at,
            ready_at=self.moments.ready_at,
            version=self.version,
            problems=tuple(text for _, text in sorted(self.problems.items())),
            stages=True,
            rejected=self.rejected[0],
            rejected_why=shorten(self.rejected[1]),
        )


def shorten(text: str, limit: int = MAX_MESSAGE_BYTES) -> str:
    """At most `limit` bytes: the beginning, which names the error, and the end, which names the place."""
    data = text.encode()
    if len(data) <= limit:
        return text
    gap = " ... "
    tail = limit // 4
    head = limit - tail - len(gap)
    return data[:head].decode(errors="ignore") + gap + data[-tail:].decode(errors="ignore")
