"""A recorded load: requests per second over time, from a CSV (also gzipped). Says what is wrong with a file in one
line.

Two columns are needed: a time (`t`, `time` or `timestamp`: seconds, milliseconds, or ISO 8601) and a count or a rate.
The step is found from the times. Missing rows are gaps (unknown, not zero); negative and unreadable values become
gaps and are reported. It reads no network.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

TIME_NAMES = ("t", "time", "timestamp", "ts", "date", "datetime")
MILLISECONDS_FROM = 1e11
"""Epoch seconds pass this in the year 5138; a larger number is in milliseconds."""
MAX_BINS = 20_000_000


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


def read_csv(path: Path, *, column: str | None = None, unit: str = "count") -> Trace:
    """Reads one column of a CSV; `unit` is `count` (per row) or `rate` (per second)."""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, EOFError) as error:
        raise TraceError(f"{path}: is not a text file in UTF-8; give a CSV with a header line") from error
    return parse_csv(text, name=path.name.removesuffix(".gz").removesuffix(".csv"), column=column, unit=unit)


def parse_csv(text: str, *, name: str, column: str | None = None, unit: str = "count") -> Trace:
    """A trace from the text of a CSV; raises `TraceError`."""
    rows = [row for row in csv.reader(io.StringIO(text)) if row and not row[0].lstrip().startswith("#")]
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
    times, values, bad = _cells(rows[1:], time_column, value_column)
    label = name if len(others) == 1 else f"{name}:{header[value_column]}"
    return from_samples(times, values, name=label, unit=unit, notes=_bad_note(bad))


def _bad_note(bad: int) -> tuple[str, ...]:
    return (f"{bad} rows were unreadable and left out",) if bad else ()


def _cells(rows: list[list[str]], time_column: int, value_column: int) -> tuple[Floats, Floats, int]:
    times, values, bad = [], [], 0
    for row in rows:
        try:
            when = _seconds(row[time_column])
        except (ValueError, IndexError):
            bad += 1
            continue
        try:
            value = float(row[value_column])
        except (ValueError, IndexError):
            value, bad = math.nan, bad + 1
        times.append(when)
        values.append(value)
    return np.array(times), np.array(values), bad


def _seconds(cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        moment = datetime.fromisoformat(cell.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(value):
        raise ValueError(cell)
    return value / 1000 if abs(value) > MILLISECONDS_FROM else value


def from_samples(times: Floats, values: Floats, *, name: str, unit: str, notes: tuple[str, ...] = ()) -> Trace:
    """Puts samples on an even grid; the last of two samples in one bin wins, missing bins are gaps."""
    if len(times) < 2:
        raise TraceError(f"{name}: {len(times)} readable rows; at least two are needed")
    order = np.argsort(times, kind="stable")
    times, values = times[order], values[order]
    steps = np.diff(times)
    steps = steps[steps > 0]
    if not len(steps):
        raise TraceError(f"{name}: every row has the same time {times[0]:g}; the time column does not advance")
    step = float(np.median(steps))
    if step > 3600:
        raise TraceError(f"{name}: one row per {step:g} s; at least one row per hour is needed, better one per minute")
    bins = np.round((times - times[0]) / step).astype(np.int64)
    if bins[-1] + 1 > MAX_BINS:
        raise TraceError(f"{name}: {bins[-1] + 1} bins of {step:g} s from first to last row; is the time column right?")
    rates = np.full(int(bins[-1]) + 1, np.nan)
    rates[bins] = values / step if unit == "count" else values
    said = list(notes)
    negative = int((rates < 0).sum())
    if negative:
        rates[rates < 0] = np.nan
        said.append(f"{negative} negative values were taken as gaps (counters must be given as rate or increase)")
    infinite = np.isinf(rates)
    rates[infinite] = np.nan
    gaps = int(np.isnan(rates).sum())
    if gaps:
        said.append(f"{gaps} of {len(rates)} bins have no value; the load before the gap is held in the replay")
    known = rates[np.isfinite(rates)]
    if not len(known):
        raise TraceError(f"{name}: no usable value in {len(values)} rows; check the column and the units")
    if unit == "count" and len(known) > 100 and (np.diff(known) >= 0).all() and known[-1] > 100 * max(known[1], 1e-9):
        said.append("the values only grow: this looks like a counter; give increases per row instead")
    return Trace(name=name, start=float(times[0]), step=step, rates=rates, notes=tuple(said))
