"""Reads every service at once: the queries of one tick, side by side, under one deadline. The room's front door.

The number of queries does not depend on the number of services. A fault of the metrics never raises: it becomes the
state of the readings. Times are those of the server (its evaluation time comes back with every value), so a clock that
differs from ours shifts nothing; by how much it differs is reported.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace

from nereus.prometheus import queries, recording
from nereus.prometheus.assemble import Answers, number, readings
from nereus.prometheus.capacity import Capacities
from nereus.prometheus.client import Answer, Client, QueryError, Row, Source
from nereus.prometheus.history import Pace, back_fill
from nereus.prometheus.options import Options
from nereus.prometheus.queries import Query, Scope
from nereus.prometheus.reading import Freshness, Key, PastLoad, Reading, Wanted

DEFAULT_INTERVAL = 15.0
LEARN_INTERVAL_EVERY = 300.0
"""Seconds between two looks at how often the pods are scraped."""
RAW_FOR = 300.0
"""Seconds of reading raw series after the recording rules gave nothing: nobody has loaded them, or they lag."""
FEWEST_SAMPLES = (2, 5)
"""In the later half of the longer and of the shorter time; fewer say too little about the time between two."""
USUAL_INTERVALS = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0)
"""Seconds; a count over five minutes is off by one now and then, so figures close to these are taken as these."""


class Reader:
    """Readings of a fleet. One instance per operator, used by one task at a time."""

    def __init__(
        self,
        options: Options,
        *,
        namespaces: Sequence[str] = (),
        source: Source | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._options = options
        self._source: Source | None = source or (Client(options) if options.address else None)
        self._clock = clock
        self.capacities = Capacities()
        self.scope = Scope(
            labels=options.labels,
            matchers=options.matchers,
            scrape_interval=options.scrape_interval or DEFAULT_INTERVAL,
            namespaces=tuple(namespaces),
            window_seconds=options.window,
        )
        self._interval_known_until = float("-inf")
        self._raw_until = float("-inf")

    async def read(self, wanted: Sequence[Wanted]) -> Mapping[Key, Reading]:
        """One reading per service; within `options.timeout` seconds, and never raising for a fault of the metrics."""
        now = self._clock()
        if self._source is None:
            message = "no Prometheus is configured (--prometheus): no load can be read"
            return {w.key: Reading(at=now, state=Freshness.NOT_CONFIGURED, message=message) for w in wanted}
        deadline = time.monotonic() + self._options.timeout
        await self._learn_interval(deadline)
        recorded = self._options.recorded and time.monotonic() >= self._raw_until
        asked = recording.tick(self.scope) if recorded else queries.tick(self.scope)
        if not any(w.warm_up for w in wanted):
            asked = {query: text for query, text in asked.items() if query not in queries.FOR_WARM_UP}
        answers = await asyncio.gather(*(self._ask(text, deadline) for text in asked.values()))
        got = dict(zip(asked, answers, strict=True))
        now = self._clock()
        skew = _server_time(got) - now if _server_time(got) else 0.0
        if recorded and _nothing(got) and any(w.expected_ready for w in wanted):
            self._raw_until = time.monotonic() + RAW_FOR
        self.capacities.keep_only({w.key for w in wanted})
        # In a thread: for thousands of services this takes long enough to be felt by whoever shares the event loop.
        found = await asyncio.to_thread(
            readings, wanted, Answers(got=got, skew=skew), self.scope, self.capacities, now=now
        )
        return await self._explain_nothing(found, deadline)

    async def history(
        self,
        wanted: Sequence[Wanted],
        *,
        days: float = 14,
        pace: Pace | None = None,
        resume: Mapping[Key, float] | None = None,
    ) -> AsyncIterator[PastLoad]:
        """The past in pieces, newest first; see `history.back_fill`. Nothing without a Prometheus."""
        if self._source is not None:
            pieces = back_fill(self._source, self.scope, wanted, now=self._clock(), days=days, pace=pace, resume=resume)
            async for piece in pieces:
                yield piece

    def close(self) -> None:
        """Ends the threads."""
        if self._source is not None:
            self._source.close()

    async def _ask(self, query: str, deadline: float) -> Answer | QueryError:
        assert self._source is not None
        try:
            return await self._source.instant(query, within=max(0.05, deadline - time.monotonic()))
        except QueryError as error:
            return error

    async def _learn_interval(self, deadline: float) -> None:
        """How often pods are scraped, unless it is given; looked at again every few minutes."""
        if self._options.scrape_interval or time.monotonic() < self._interval_known_until:
            return
        answer = await self._ask(queries.scrape_interval(self.scope), deadline)
        if isinstance(answer, Answer) and (interval := _interval(answer.rows)):
            self.scope = replace(self.scope, scrape_interval=interval)
            self._interval_known_until = time.monotonic() + LEARN_INTERVAL_EVERY

    async def _explain_nothing(self, found: dict[Key, Reading], deadline: float) -> Mapping[Key, Reading]:
        """When no service has a series, whether Triton is scraped without the labels that tell whose it is."""
        missing = [key for key, reading in found.items() if reading.state is Freshness.MISSING]
        if not missing or any(reading.pods_seen for reading in found.values()):
            return found
        answer = await self._ask(queries.unlabelled(self.scope), deadline)
        if isinstance(answer, Answer) and answer.rows:
            count = number(answer.rows[0]["value"][1])
            message = (
                f"Prometheus has {count:.0f} series of Triton without the label {self.scope.labels.service}: let the"
                " scrape job copy the pod's labels (podTargetLabels, labelmap), or name it with --prometheus-labels"
            )
            found |= {key: replace(found[key], message=message) for key in missing}
        return found


def _interval(rows: Sequence[Row]) -> float | None:
    """Seconds between two scrapes, from samples counted over a time and over half of it; None when the longer time does
    not hold twice as many: then pods or Prometheus are younger, or there was a gap."""
    counts = {row["metric"].get("of"): number(row["value"][1]) for row in rows}
    for spans, fewest in zip(queries.INTERVAL_SPANS, FEWEST_SAMPLES, strict=True):
        long, short = (counts.get(f"{span:g}", 0.0) for span in spans)
        if short >= fewest and 1.8 * short <= long <= 2.2 * short:
            interval = spans[0] / long
            return next((usual for usual in USUAL_INTERVALS if abs(interval - usual) <= 0.15 * usual), interval)
    return None


def _nothing(got: Mapping[Query, Answer | QueryError]) -> bool:
    """Whether the server answered and knows no service at all."""
    newest = got[Query.NEWEST]
    return isinstance(newest, Answer) and not newest.rows


def _server_time(got: Mapping[Query, Answer | QueryError]) -> float:
    """When the server evaluated, by its own clock; 0 when no answer has a row."""
    times = [float(a.rows[0]["value"][0]) for a in got.values() if isinstance(a, Answer) and a.rows]
    return max(times, default=0.0)
