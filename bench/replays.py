"""Replays every policy on every scenario, and keeps what came out under a name that its inputs make.

All settings of all baselines live side by side in one world: arrays of a thousand rows cost little more than arrays of
ten. A result is named after the content of all code and loads it depends on, so a change of the scaling policy replays
the policy and nothing else, and a run that was interrupted goes on.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np

import nereus.backtest
from bench import loads
from nereus.backtest.baselines import BASELINES, DAY, WEEK, Baseline
from nereus.backtest.baselines.fixed import Static
from nereus.backtest.baselines.offset import Offset
from nereus.backtest.optimum import optimum
from nereus.backtest.ours import Nereus
from nereus.backtest.world import Batch, BatchPolicy, Floats, Ints, Outcome, Row, World

VIOLATIONS = 0.01
STATIC_SHARES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.7, 2.0)
SHORT_OFFSETS = tuple(
    Baseline(
        name=f"offset-{name}-short", title="", usual=0.7, make=partial(Offset, offset_seconds=seconds, early_seconds=0)
    )
    for name, seconds in (("day", DAY), ("week", WEEK))
)
"""The offset trick with its other knob turned: looking ahead no further than the cold start."""
ALL = (*BASELINES, *SHORT_OFFSETS)
SETTINGS = {baseline.name: baseline.settings for baseline in ALL} | {"static": STATIC_SHARES}
WORLD = ("backtest/world.py",)
OURS = (*WORLD, "backtest/ours.py", "scaling")


def say(text: str) -> None:
    """Progress on stderr."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


class SideBySide:
    """Several policies in one world, each for the next `rows` rows."""

    def __init__(self, parts: Sequence[tuple[int, BatchPolicy]]) -> None:
        ends = np.cumsum([rows for rows, _ in parts])
        self._parts = [(slice(end - rows, end), policy) for end, (rows, policy) in zip(ends, parts, strict=True)]
        self._arrays = [field.name for field in fields(Batch) if field.name != "time"]

    def decide(self, batch: Batch) -> Ints:
        """Replicas per row, each part asked for its own."""
        made = []
        for rows, policy in self._parts:
            part = {name: getattr(batch, name)[rows] for name in self._arrays}
            made.append(policy.decide(Batch(time=batch.time, **part)))
        return np.concatenate(made)


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """Per hour, of shape (settings, scenarios, hours): late requests, replica-seconds, requests."""

    late: Floats
    cost: Floats
    requests: Floats


def code(*parts: str) -> bytes:
    """A digest of source files of the package."""
    root = Path(nereus.backtest.__file__).parent.parent
    found = [
        path for part in parts for path in ([root / part] if part.endswith(".py") else (root / part).rglob("*.py"))
    ]
    digest = hashlib.sha256()
    for path in sorted(found):
        digest.update(path.read_bytes())
    return digest.digest()


def _place(out: Path, name: str, group: loads.Group, *parts: str, settings: object = None) -> Path:
    digest = hashlib.sha256(code(*parts))
    digest.update(f"{settings} {VIOLATIONS}".encode())
    for scenario, row in zip(group.scenarios, group.rows, strict=True):
        digest.update(f"{scenario.name} {row.max_replicas} {group.warm_up_hours} {group.seed}".encode())
        digest.update(row.arrivals.tobytes())
    return out / f"{name}-{digest.hexdigest()[:16]}"


def optima(group: loads.Group, out: Path) -> list[float]:
    """Replica-seconds of the clairvoyant optimum per scenario, after the warm-up."""
    path = _place(out, "optimum", group, *WORLD, "backtest/optimum.py").with_suffix(".json")
    if not path.exists():
        say(f"{group.name}: the optimum")
        path.write_text(json.dumps([_optimum(row, group.warm_up_hours) for row in group.rows]))
    return [float(value) for value in json.loads(path.read_text())]


def _optimum(row: Row, warm_up_hours: int) -> float:
    return optimum(
        row.arrivals,
        capacity=row.capacity,
        cold_start_p95=row.cold_start_p95,
        violations=VIOLATIONS,
        max_replicas=row.max_replicas,
        from_tick=warm_up_hours * 240,
    )


def ours(group: loads.Group, out: Path, *, blind: bool) -> Replayed:
    """Nereus with its one default."""
    most = np.array([row.max_replicas for row in group.rows])
    path = _place(out, "nereus-blind" if blind else "nereus", group, *OURS).with_suffix(".npz")
    return _replay(path, group, {"": 1}, lambda: Nereus(rows=len(most), max_replicas=most, blind=blind))[""]


def baselines(group: loads.Group, out: Path) -> dict[str, Replayed]:
    """All baselines at all their settings (see `SETTINGS`)."""
    count = len(group.rows)

    def make() -> BatchPolicy:
        parts: list[tuple[int, BatchPolicy]] = [
            (count * len(b.settings), b.make(np.repeat(np.array(b.settings), count))) for b in ALL
        ]
        peaks = np.tile([s.peak for s in group.scenarios], len(STATIC_SHARES))
        counts = np.maximum(1, np.round(np.repeat(STATIC_SHARES, count) * peaks)).astype(np.int64)
        return SideBySide([*parts, (len(counts), Static(counts))])

    path = _place(out, "baselines", group, *WORLD, "backtest/baselines", settings=SETTINGS).with_suffix(".npz")
    return _replay(path, group, {name: len(settings) for name, settings in SETTINGS.items()}, make)


def _replay(
    path: Path, group: loads.Group, settings: dict[str, int], make: Callable[[], BatchPolicy]
) -> dict[str, Replayed]:
    rows = len(group.rows)
    if not path.exists():
        count = sum(settings.values())
        say(f"{group.name}: {path.stem}, {count * rows} replays")
        world = World(list(group.rows) * count, seed=group.seed)
        begin = time.process_time()
        outcome = world.run(make())
        spent = time.process_time() - begin
        say(
            f"{group.name}: {spent:.0f} s of CPU, {1e6 * spent / world.ticks / rows / count:.1f} us per tick and replay"
        )
        _save(path, outcome)
    with np.load(path) as data:
        late, cost, requests = (data[key].astype(np.float64) for key in ("late", "cost", "requests"))
    found, at = {}, 0
    for name, count in settings.items():
        part = slice(at * rows, (at + count) * rows)
        shape = (count, rows, -1)
        found[name] = Replayed(
            late=late[part].reshape(shape), cost=cost[part].reshape(shape), requests=requests[part].reshape(shape)
        )
        at += count
    return found


def _save(path: Path, outcome: Outcome) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part.npz")
    np.savez_compressed(
        unfinished,
        late=outcome.late_by_hour.astype(np.float32),
        cost=outcome.replica_seconds_by_hour.astype(np.float32),
        requests=outcome.requests_by_hour.astype(np.float32),
    )
    unfinished.rename(path)
