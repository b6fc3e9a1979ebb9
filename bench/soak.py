"""Memory of the operator over a long time of changes: sampled, and how steeply it grows.

Part of `bench.scale` (--soak-minutes). The first minutes are left out of the trend, because caches fill.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.figures import MIB, cpu_seconds, memory_bytes, queue, ready

if TYPE_CHECKING:
    from bench.scale import Bench

SAMPLE_SECONDS = 10.0
WARM_MINUTES = 10.0
SAY_EVERY = 6


async def soak(bench: Bench, minutes: float, per_second: float) -> None:
    """So many services change each second; the result is kept up to date, so that an early end loses nothing."""
    churn = asyncio.create_task(bench.churn(bench.fleet.services(), per_second, exclude=frozenset()))
    samples: list[dict[str, float]] = []
    async with bench.measured("soak") as result:
        bench.results["soak"] = result
        began = time.monotonic()
        while time.monotonic() - began < minutes * 60:
            await asyncio.sleep(SAMPLE_SECONDS)
            if churn.done():
                churn.result()
            passed = time.monotonic() - began
            seen = await asyncio.to_thread(bench.seen)
            samples.append(
                {
                    "minute": round(passed / 60, 2),
                    "rss_mib": round(memory_bytes(bench.operator.pid)["VmRSS"] / MIB, 1),
                    "cpu_seconds": round(cpu_seconds(bench.operator.pid), 1),
                    "changes": bench.changed,
                    "queue": queue(seen),
                    "ready": ready(seen),
                }
            )
            result.update(trend(samples), samples=samples, changes_per_second=round(bench.changed / passed, 2))
            if len(samples) % SAY_EVERY == 0:
                sys.stderr.write(f"soak: {samples[-1]}\n")
        churn.cancel()


def trend(samples: Sequence[Mapping[str, float]], *, warm: float = WARM_MINUTES) -> dict[str, Any]:
    """Least squares through the memory after `warm` minutes, in MiB per hour with its standard error; empty for fewer
    than four samples."""
    kept = [(each["minute"] / 60, each["rss_mib"]) for each in samples if each["minute"] >= warm]
    if len(kept) < 4:
        return {}
    hours, memory = np.array(kept).T
    (slope, _), covariance = np.polyfit(hours, memory, 1, cov=True)
    return {
        "rss_mib_per_hour": round(float(slope), 2),
        "rss_mib_per_hour_standard_error": round(float(np.sqrt(covariance[0, 0])), 2),
        "rss_mib_warm": kept[0][1],
        "rss_mib_last": kept[-1][1],
        "rss_mib_highest": max(amount for _, amount in kept),
    }
