"""The past of every service, fetched in paced pieces from raw series: a recording rule has no past.

Newest first: the last day of every service is worth more than two weeks of one. A piece is one day of a batch of
services, 1,440 points of each series, well below the 11,000 that Prometheus answers. The batch grows while answers
come quickly and is halved when one is slow or too large; between two queries there is a pause in proportion to the
time that the last one took, so that a back-fill uses a known share of one query slot of Prometheus and no more. What
cannot be read stays a gap.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nereus.prometheus.client import Answer, QueryError, Source
from nereus.prometheus.queries import MODEL, VERSION, Scope, regex, seconds
from nereus.prometheus.reading import Key, PastLoad, Wanted

STEP = 60
"""Seconds: forecasts learn from minutes."""
PIECE = 86_400
"""Seconds of one query."""
FIRST_BATCH, LARGEST_BATCH = 8, 64
QUICK, TIRING = 0.5, 2.0
"""Seconds: a quicker answer doubles the batch, a slower one halves it."""
TRIES = 3
WAIT_AFTER_FAULT = 5.0


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How much a back-fill may ask of Prometheus: the share of time that a query of it runs, seconds for one query,
    and seconds for all of it (what is missing then stays missing)."""

    share: float = 0.25
    query_seconds: float = 30.0
    total_seconds: float = 4 * 3600.0


@dataclass
class _Work:
    """What is still to fetch of one piece of time: services in batches, the batch size carried on."""

    start: float
    end: float
    waiting: list[Wanted] = field(default_factory=list)


def load_query(scope: Scope, batch: Sequence[Wanted]) -> str:
    """Offered inferences per second of each model of these services, as far as the past tells: done, plus refused."""
    labels, window = scope.labels, f"[{seconds(max(STEP, scope.window))}]"
    keys = [wanted.key for wanted in batch]
    where = ",".join(
        (
            scope.selector,
            f"{labels.namespace}=~{regex({key.namespace for key in keys})}",
            f"{labels.service}=~{regex({key.name for key in keys})}",
        )
    )
    model = f"{labels.namespace},{labels.service},{MODEL}"
    series = f"{model},{labels.pod},{VERSION}"
    done = f"sum by ({model}) (max by ({series}) (rate(nv_inference_count{{{where}}}{window})))"
    failed = f"sum by ({model}) (max by ({series},reason) (rate(nv_inference_request_failure{{{where}}}{window})))"
    return f"({done} + {failed}) or {done}"


async def back_fill(
    source: Source,
    scope: Scope,
    wanted: Sequence[Wanted],
    *,
    now: float,
    days: float = 14,
    pace: Pace | None = None,
    resume: Mapping[Key, float] | None = None,
) -> AsyncIterator[PastLoad]:
    """Pieces as they come. `resume` says for which services everything since that time (epoch seconds) is known.

    A fault of Prometheus is waited out within `pace.total_seconds`; a piece that fails three times is left out.
    """
    pace, known = pace or Pace(), dict(resume or {})
    end = math.floor(now / STEP) * STEP
    oldest = end - days * 86_400
    pieces = [(max(oldest, end - (n + 1) * PIECE), end - n * PIECE) for n in range(math.ceil(days * 86_400 / PIECE))]
    size, done, total = FIRST_BATCH, 0, max(1, len(pieces) * len(wanted))
    give_up = time.monotonic() + pace.total_seconds
    for start, until in pieces:
        work = _Work(start, until, [w for w in wanted if known.get(w.key, math.inf) > start])
        done += len(wanted) - len(work.waiting)
        tries = 0
        while work.waiting:
            batch = work.waiting[:size]
            began = time.monotonic()
            if began >= give_up:
                return
            answer = await _ask(source, scope, batch, work, pace)
            took = time.monotonic() - began
            if isinstance(answer, QueryError):
                size = max(1, len(batch) // 2)
                tries += 1
                if tries < TRIES or (len(batch) > 1 and answer.too_much):
                    await asyncio.sleep(0 if answer.too_much else min(WAIT_AFTER_FAULT, pace.query_seconds))
                    continue
            elif took < QUICK:
                size = min(LARGEST_BATCH, max(size, 2 * len(batch)))
            elif took > TIRING:
                size = max(1, len(batch) // 2)
            tries, done = 0, done + len(batch)
            del work.waiting[: len(batch)]
            if isinstance(answer, Answer):
                # In a thread: a day of dozens of services is a hundred thousand numbers.
                for piece in await asyncio.to_thread(_pieces, answer, scope, batch, work, share=done / total):
                    yield piece
            await asyncio.sleep(took * (1 / pace.share - 1))


async def _ask(source: Source, scope: Scope, batch: Sequence[Wanted], work: _Work, pace: Pace) -> Answer | QueryError:
    try:
        return await source.span(
            load_query(scope, batch), start=work.start + STEP, end=work.end, step=STEP, within=pace.query_seconds
        )
    except QueryError as error:
        return error


def _pieces(answer: Answer, scope: Scope, batch: Sequence[Wanted], work: _Work, *, share: float) -> list[PastLoad]:
    """One piece per service of the batch; without a series it is all unknown."""
    first, count = int(work.start // STEP), int((work.end - work.start) // STEP)
    sums: dict[Key, np.ndarray[tuple[int], np.dtype[np.float64]]] = defaultdict(lambda: np.full(count, np.nan))
    models = {wanted.key: wanted.models for wanted in batch}
    for row in answer.rows:
        labels = row["metric"]
        key = Key(labels.get(scope.labels.namespace, ""), labels.get(scope.labels.service, ""))
        if key not in models or (models[key] and labels.get(MODEL) not in models[key]):
            continue
        pairs = np.array(row["values"], dtype=np.float64)
        # The rate at the end of a minute is that minute's mean.
        place = np.rint(pairs[:, 0] / STEP).astype(np.int64) - 1 - first
        fits = (place >= 0) & (place < count) & np.isfinite(pairs[:, 1]) & (pairs[:, 1] >= 0)
        place, rate = place[fits], pairs[fits, 1]
        sums[key][place] = np.nan_to_num(sums[key][place]) + rate
    minutes = np.arange(first, first + count, dtype=np.int64)
    return [
        PastLoad(key=key, minutes=minutes, rates=sums[key], since=work.start, share=min(1.0, share)) for key in models
    ]
