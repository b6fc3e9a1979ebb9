"""A load from a live Prometheus: one range query, in chunks that Prometheus answers, as a trace.

The connection is that of the operator (`nereus.prometheus.client`): deadlines, and every fault a sentence. A server
that is slow or restarts gets two more tries; chunks that still fail become gaps, which the trace reports. Fewer than
two hours of history is refused; less than a day is said.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nereus.backtest.trace import Trace, TraceError, from_samples

if TYPE_CHECKING:
    from nereus.prometheus.client import Client

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
        times, values, failed, chunks = asyncio.run(_read(client, asked, progress))
    finally:
        client.close()
    return _trace(query, times, values, failed=failed, chunks=chunks)


async def _read(
    client: Client, asked: _Range, progress: Callable[[str], None]
) -> tuple[list[float], list[float], list[str], int]:
    """Times, values, what failed, and how many chunks there were; raises TraceError when all of them fail."""
    times: list[float] = []
    values: list[float] = []
    failed: list[str] = []
    chunk = POINTS_PER_CHUNK * asked.step
    chunks = math.ceil((asked.end - asked.start) / chunk)
    for number in range(chunks):
        first = asked.start + number * chunk
        last = min(asked.end, first + chunk - asked.step)
        progress(f"Prometheus: part {number + 1} of {chunks}")
        try:
            pairs = await _chunk(client, replace(asked, start=first, end=last))
        except TraceError as error:
            if not times and number == chunks - 1:
                raise
            failed.append(str(error))
            continue
        times += [when for when, _ in pairs]
        values += [value for _, value in pairs]
    return times, values, failed, chunks


def _trace(query: str, times: list[float], values: list[float], *, failed: list[str], chunks: int) -> Trace:
    name = query if len(query) <= 60 else query[:57] + "..."
    if not times:
        raise TraceError(f"{name}: Prometheus has no samples in the range; check the query and the time range")
    if times[-1] - times[0] < LEAST_SECONDS:
        raise TraceError(
            f"{name}: Prometheus has {(times[-1] - times[0]) / 60:.0f} minutes of history; two hours are needed"
        )
    notes = [f"{len(failed)} of {chunks} parts could not be read and are gaps: {failed[0]}"] if failed else []
    if times[-1] - times[0] < 86_400:
        notes.append(f"only {(times[-1] - times[0]) / 3600:.1f} h of history: no daily season can show")
    trace = from_samples(np.array(times), np.array(values), name=name, unit="rate", notes=tuple(notes))
    return replace(trace, name=name)


async def _chunk(client: Client, asked: _Range) -> list[tuple[float, float]]:
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
        return [(float(when), _value(text)) for when, text in answer.rows[0]["values"]] if answer.rows else []
    raise TraceError(said)


def _value(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
