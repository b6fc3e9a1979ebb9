"""A load from a live Prometheus: one range query, in chunks that Prometheus answers, as a trace. The room's only edge.

A server that is slow gets a deadline per chunk and two more tries; chunks that still fail become gaps, which the trace
reports. Fewer than two hours of history is refused; less than a day is said.
"""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from http.client import HTTPException
from typing import Any

import numpy as np

from nereus.backtest.trace import Trace, TraceError, from_samples

POINTS_PER_CHUNK = 5000
"""Prometheus refuses a range query of more than 11,000 points per series."""
TRIES = 3
LEAST_SECONDS = 2 * 3600


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
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise TraceError(f"--prometheus {url}: is not an http:// or https:// address")
    if end - start < 2 * step:
        raise TraceError(f"--from {start:g} --to {end:g}: the range is shorter than two steps of {step:g} s")
    times: list[float] = []
    values: list[float] = []
    failed: list[str] = []
    chunk = POINTS_PER_CHUNK * step
    chunks = math.ceil((end - start) / chunk)
    for number in range(chunks):
        first = start + number * chunk
        last = min(end, first + chunk - step)
        progress(f"Prometheus: part {number + 1} of {chunks}")
        try:
            pairs = _chunk(url, query, first=first, last=last, step=step, timeout=timeout)
        except TraceError as error:
            if not times and number == chunks - 1:
                raise
            failed.append(str(error))
            continue
        times += [float(when) for when, _ in pairs]
        values += [_value(value) for _, value in pairs]
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


def _value(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _chunk(url: str, query: str, *, first: float, last: float, step: float, timeout: float) -> list[tuple[float, str]]:
    fields = {"query": query, "start": f"{first:.3f}", "end": f"{last:.3f}", "step": f"{step:g}"}
    address = url.rstrip("/") + "/api/v1/query_range"
    said = ""
    for _ in range(TRIES):
        body = urllib.parse.urlencode(fields).encode()
        request = urllib.request.Request(address, data=body)  # noqa: S310  scheme checked by fetch
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310  scheme checked by fetch
                return _series(json.load(answer), query)
        except urllib.error.HTTPError as error:
            said = f"{address} answered {error.code}: {error.read(300).decode(errors='replace').strip()}"
            if error.code < 500:
                break
        except (OSError, HTTPException) as error:
            said = f"{address}: {error} (waited at most {timeout:g} s)"
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise TraceError(f"{address}: the answer is not JSON; is this a Prometheus?") from None
    raise TraceError(said)


def _series(answer: Any, query: str) -> list[tuple[float, str]]:
    try:
        result = answer["data"]["result"]
    except (KeyError, TypeError):
        raise TraceError(f"{query}: the answer has no data.result; is this a Prometheus?") from None
    if len(result) > 1:
        raise TraceError(f"{query}: gives {len(result)} series; wrap it in sum(...) to get one")
    return [(float(pair[0]), str(pair[1])) for pair in result[0]["values"]] if result else []
