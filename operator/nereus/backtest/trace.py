"""A recorded load: requests per second over time, from a CSV (also gzipped). Says what is wrong with a file in one
line.

Two columns are needed: a time (`t`, `time` or `timestamp`: seconds to nanoseconds, or ISO 8601) and a count or a rate.
The step is found from the times. Missing rows are gaps (unknown, not zero); negative and unreadable values become
gaps and are reported. It reads no network.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

TIME_NAMES = ("t", "time", "timestamp", "ts", "date", "datetime")
TIME_UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
"""How many of a unit are a second."""
LATEST = 1e11
"""Seconds since 1970 pass this in the year 5138. In each smaller unit the years from 1973 on lie above the bound of the
unit before it, so the size of a time tells its unit."""
WEEK = 7 * 86_400
LONGEST_STEP = 3600
MAX_BINS = 20_000_000
MOST_RATE = 1e8
"""Requests per second that no service has; the simulated world could count up to twenty times as many."""


class TraceError(ValueError):
    """The load cannot be used; the message names the source, what was found, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """`rates[i]` is the mean rate per second in [start + i*step, start + (i+1)*step); `nan` is a gap."""

    name: str
    start: float
    step: float
    rates: Floats
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Length of the trace."""
        return self.step * len(self.rates)

    def filled(self) -> tuple[Floats, int]:
        """Rates with gaps held at the last known value (what a world needs to go on), and the number of bins filled."""
        known = np.isfinite(self.rates)
        if not known.any():
            raise TraceError(f"{self.name}: no usable value in {len(self.rates)} rows; check the column and the units")
        index = np.maximum.accumulate(np.where(known, np.arange(len(self.rates)), 0))
        held = self.rates[index]
        held[~np.isfinite(held)] = self.rates[known][0]
        return held, int((~known).sum())

    def per_second(self) -> Floats:
        """The filled rates, one per second."""
        rates, _ = self.filled()
        at = np.minimum((np.arange(int(self.seconds)) / self.step).astype(np.int64), len(rates) - 1)
        return np.asarray(rates[at])

    def scaled(self, factor: float) -> Trace:
        """The same shape at another rate."""
        return replace(self, rates=self.rates * factor)

    def cut(self, *, days: float) -> Trace:
        """The first days of the trace."""
        return replace(self, rates=self.rates[: int(days * 86_400 / self.step)])

    def peak(self, quantile: float = 0.999) -> float:
        """A high quantile of the rate per minute: the peak, without the single worst minute."""
        per_second = self.per_second()
        minutes = per_second[: len(per_second) // 60 * 60].reshape(-1, 60).mean(1)
        return float(np.quantile(minutes, quantile)) if len(minutes) else float(per_second.mean())


def read_csv(path: Path, *, column: str | None = None, unit: str = "count", time_unit: str | None = None) -> Trace:
    """Reads one column of a CSV; `unit` is `count` (per row) or `rate` (per second), `time_unit` one of TIME_UNITS."""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TraceError(f"{path}: damaged as a gzip file ({error}); copy it again, or give it unpacked") from error
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: is not a text file in UTF-8; give a CSV with a header line") from error
    name = path.name.removesuffix(".gz").removesuffix(".csv")
    return parse_csv(text, name=name, column=column, unit=unit, time_unit=time_unit)


def parse_csv(
    text: str, *, name: str, column: str | None = None, unit: str = "count", time_unit: str | None = None
) -> Trace:
    """A trace from the text of a CSV; raises `TraceError`."""
    reader = csv.reader(io.StringIO(text, newline=None))
    try:
        rows = [row for row in reader if row and not row[0].lstrip().startswith("#")]
    except csv.Error as error:
        raise TraceError(
            f"{name}: line {reader.line_num}: {error}; is a quote not closed? Give a CSV with a time and a count"
        ) from error
    if len(rows) < 3:
        raise TraceError(f"{name}: {len(rows)} lines; a header and at least two rows are needed")
    header = [cell.strip() for cell in rows[0]]
    time_column = next((i for i, cell in enumerate(header) if cell.lower() in TIME_NAMES), None)
    if time_column is None:
        raise TraceError(
            f"{name}: no time column in {', '.join(header)}; name one of them `t` (seconds) or `timestamp`"
        )
    others = [i for i in range(len(header)) if i != time_column]
    if column is not None and column not in header:
        raise TraceError(f"{name}: no column {column!r}; there are {', '.join(header[i] for i in others)}")
    if column is None and len(others) != 1:
        raise TraceError(f"{name}: several columns ({', '.join(header[i] for i in others)}); choose one with --column")
    value_column = header.index(column) if column is not None else others[0]
    label = name if len(others) == 1 else f"{name}:{header[value_column]}"
    cells = _cells(rows[1:], time_column, value_column)
    time_unit = time_unit or _unit_of(cells.times[cells.numbers])
    times = np.where(cells.numbers, cells.times / TIME_UNITS[time_unit], cells.times)
    return from_samples(times, cells.values, name=label, unit=unit, notes=cells.notes, time_unit=time_unit)


@dataclass(frozen=True, kw_only=True)
class _Cells:
    """Readable rows: times as written where `numbers`, else in seconds; notes tell of the rest."""

    times: Floats
    numbers: npt.NDArray[np.bool_]
    values: Floats
    notes: tuple[str, ...]


def _cells(rows: list[list[str]], time_column: int, value_column: int) -> _Cells:
    times, numbers, values, bad = [], [], [], []
    for row in rows:
        try:
            when, number = _time(row[time_column])
        except (ValueError, IndexError):
            bad.append(row)
            continue
        try:
            value = float(row[value_column])
        except (ValueError, IndexError):
            value = math.nan
            bad.append(row)
        times.append(when)
        numbers.append(number)
        values.append(value)
    said = f"{len(bad)} rows were unreadable and left out, the first is {','.join(bad[0])[:60]!r}" if bad else ""
    return _Cells(
        times=np.array(times, np.float64),
        numbers=np.array(numbers, np.bool_),
        values=np.array(values, np.float64),
        notes=(said,) if bad else (),
    )


def _time(cell: str) -> tuple[float, bool]:
    """The number in a cell, or the seconds of an ISO 8601 text; and whether it was a number."""
    try:
        return float(cell), True
    except ValueError:
        moment = datetime.fromisoformat(cell.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(), False


def _unit_of(times: Floats) -> str:
    """The unit that puts most of the times between 1973 and 5138; seconds when they are smaller."""
    size = float(np.median(np.abs(times[np.isfinite(times)]))) if np.isfinite(times).any() else 0.0
    return next((unit for unit, per_second in TIME_UNITS.items() if size <= LATEST * per_second), "s")


def from_samples(
    times: Floats, values: Floats, *, name: str, unit: str, notes: tuple[str, ...] = (), time_unit: str = "s"
) -> Trace:
    """Puts samples on an even grid; the last of two samples in one bin wins, missing bins are gaps.

    `times` are in seconds; `time_unit` is what they were taken to have been in, for the words of a refusal.
    """
    possible = np.abs(times) <= LATEST
    said = list(notes)
    if not possible.all():
        count, first = int((~possible).sum()), float(times[~possible][0])
        said.append(f"{count} rows have impossible times and were left out, the first is {first:g}")
    times, values = times[possible], values[possible]
    if len(times) < 2:
        need = "at least two are needed, with times in seconds, milliseconds or ISO 8601"
        raise TraceError("; ".join([f"{name}: {len(times)} readable rows, {need}", *said]))
    order = np.argsort(times, kind="stable")
    times, values = times[order], values[order]
    steps = np.diff(times)
    steps = steps[steps > 0]
    if not len(steps):
        raise TraceError(f"{name}: every row has the same time {times[0]:g}; the time column does not advance")
    step = float(np.median(steps))
    if step > LONGEST_STEP:
        raise TraceError(f"{name}: {_too_far_apart(step, time_unit)}")
    last = round(float(times[-1] - times[0]) / step)
    if last >= MAX_BINS:
        raise TraceError(f"{name}: {last + 1} bins of {step:g} s from first to last row; is the time column right?")
    bins = np.round((times - times[0]) / step).astype(np.int64)
    rates = np.full(int(bins[-1]) + 1, np.nan)
    rates[bins] = values / step if unit == "count" else values
    negative = int((rates < 0).sum())
    if negative:
        rates[rates < 0] = np.nan
        said.append(f"{negative} negative values were taken as gaps (counters must be given as rate or increase)")
    absurd = rates > MOST_RATE
    if absurd.any():
        rates[absurd] = np.nan
        said.append(f"{int(absurd.sum())} values above {MOST_RATE:g} per second were taken as gaps")
    gaps = int(np.isnan(rates).sum())
    if gaps:
        said.append(f"{gaps} of {len(rates)} bins have no value; the load before the gap is held in the replay")
    known = rates[np.isfinite(rates)]
    if not len(known):
        raise TraceError(f"{name}: no usable value in {len(values)} rows; check the column and the units")
    if unit == "count" and len(known) > 100 and (np.diff(known) >= 0).all() and known[-1] > 100 * max(known[1], 1e-9):
        said.append("the values only grow: this looks like a counter; give increases per row instead")
    start = float(times[0])
    if start < 0:
        # The policy knows no time before 1970; the hour of the day and the day of the week are what counts.
        start %= WEEK
        said.append("times below 0 were moved by whole weeks")
    return Trace(name=name, start=start, step=step, rates=rates, notes=tuple(said))


def _too_far_apart(step: float, taken: str) -> str:
    """What is wrong with a step of so many seconds: perhaps the unit that times were taken to be in."""
    for unit, per_second in TIME_UNITS.items():
        other = step * TIME_UNITS[taken] / per_second
        if 1 <= other < step and other <= LONGEST_STEP:
            return (
                f"one row per {step:g} s, with times in {taken}; at least one per hour is needed. "
                f"If they are in {unit} (one row per {other:g} s), give --time-unit {unit}"
            )
    return f"one row per {step:g} s; at least one row per hour is needed, better one per minute"
