"""A load from a live Prometheus: one range query, in chunks that Prometheus answers, as a trace.

The connection is that of the operator (`nereus.prometheus.client`): deadlines, and every fault a sentence. A server
that is slow or restarts gets two more tries; chunks that still fail become gaps, which the trace reports. Fewer than
two hours of history is refused; less than a day is said.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from nereus.backtest.trace import Trace, TraceError, from_samples

if TYPE_CHECKING:
    from nereus.prometheus.client import Answer, Client

POINTS_PER_CHUNK = 5000
"""Prometheus refuses a range query of more than 11,000 points per series."""
TRIES = 3
LEAST_SECONDS = 2 * 3600
PACKAGES = "pip install '.[backtest]' in a checkout"


@dataclass(frozen=True, kw_only=True)
class _Range:
    """What is asked; seconds."""

    url: str
    query: str
    start: float
    end: float
    step: float
    timeout: float


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Samples in seconds and requests per second; what the parts without an answer, or with half of one, said."""

    chunks: int
    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)


def fetch(
    url: str,
    query: str,
    *,
    start: float,
    end: float,
    step: float = 60,
    timeout: float = 30,
    progress: Callable[[str], None] = lambda _: None,
) -> Trace:
    """The range as rates per second; `query` must give one series, such as `sum(rate(requests_total[1m]))`."""
    if end - start < 2 * step:
        raise TraceError(f"{end - start:g} s are shorter than two steps of {step:g} s: ask for more, or in finer steps")
    try:
        from nereus.prometheus.client import Client
        from nereus.prometheus.options import Options, OptionsError
    except ModuleNotFoundError as missing:
        raise TraceError(f"--prometheus needs the package {missing.name}: {PACKAGES}") from None
    try:
        client = Client(Options(address=url.rstrip("/")), threads=1)
    except OptionsError as error:
        raise TraceError(str(error)) from None
    asked = _Range(url=url, query=query, start=start, end=end, step=step, timeout=timeout)
    try:
        found = asyncio.run(_read(client, asked, progress))
    finally:
        client.close()
    return _trace(query, found)


async def _read(client: Client, asked: _Range, progress: Callable[[str], None]) -> _Found:
    """The whole range, part by part; raises TraceError when all of them fail."""
    found = _Found(chunks=math.ceil((asked.end - asked.start) / (POINTS_PER_CHUNK * asked.step)))
    for number in range(found.chunks):
        first = asked.start + number * POINTS_PER_CHUNK * asked.step
        last = min(asked.end, first + (POINTS_PER_CHUNK - 1) * asked.step)
        progress(f"Prometheus: part {number + 1} of {found.chunks}")
        try:
            answer = await _chunk(client, replace(asked, start=first, end=last))
        except TraceError as error:
            if not found.times and number == found.chunks - 1:
                raise
            found.failed.append(str(error))
            continue
        found.incomplete.extend(answer.warnings[:1])
        for row in answer.rows:
            for when, text in row["values"]:
                found.times.append(float(when))
                found.values.append(_value(text))
    return found


def _trace(query: str, found: _Found) -> Trace:
    name = query if len(query) <= 60 else query[:57] + "..."
    times = found.times
    if not times:
        raise TraceError(f"{name}: Prometheus has no samples in the range; check the query and the time range")
    if times[-1] - times[0] < LEAST_SECONDS:
        raise TraceError(
            f"{name}: Prometheus has {(times[-1] - times[0]) / 60:.0f} minutes of history; two hours are needed"
        )
    notes = []
    for parts, what in ((found.failed, "could not be read and are gaps"), (found.incomplete, "may be incomplete")):
        if parts:
            notes.append(f"{len(parts)} of {found.chunks} parts {what}: {parts[0]}")
    if times[-1] - times[0] < 86_400:
        notes.append(f"only {(times[-1] - times[0]) / 3600:.1f} h of history: no daily season can show")
    trace = from_samples(np.array(times), np.array(found.values), name=name, unit="rate", notes=tuple(notes))
    return replace(trace, name=name)


async def _chunk(client: Client, asked: _Range) -> Answer:
    """At most one row."""
    from nereus.prometheus.client import QueryError
    from nereus.prometheus.reading import Freshness

    said = ""
    for _ in range(TRIES):
        try:
            answer = await client.span(
                asked.query, start=asked.start, end=asked.end, step=asked.step, within=asked.timeout
            )
        except QueryError as error:
            said = error.message
            if error.state is Freshness.SLOW:
                said = (
                    f"{asked.url} is slow: {TRIES} times no whole answer within {asked.timeout:g} s; look at its load, "
                    "or ask for less: a larger --step, a shorter --history, a recorded series"
                )
            elif error.state is not Freshness.UNREACHABLE:
                break
            continue
        if len(answer.rows) > 1:
            raise TraceError(f"{asked.query}: gives {len(answer.rows)} series; wrap it in sum(...) to get one")
        return answer
    raise TraceError(said)


def _value(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
