"""Plots as SVG text: lines, steps, bands and points on linear or logarithmic axes. Small, so that a report is one file.

It knows nothing of policies; colours are given by the caller.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from nereus.backtest.world import Floats

WIDTH, HEIGHT = 960, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 26, 42
LEGEND_ROW, LETTER = 16, 6.1
MOST_POINTS = 1500


@dataclass(frozen=True, kw_only=True)
class Line:
    """One series. `step` draws replicas as they are, `low` fills a band down to it, `dots` marks the points."""

    name: str
    x: Floats
    y: Floats
    colour: str
    step: bool = False
    low: Floats | None = None
    dots: bool = False
    width: float = 1.4
    labels: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A plot with its title (a sentence that says what to see) and axis names."""

    title: str
    x_name: str
    y_name: str
    lines: Sequence[Line]
    log_x: bool = False
    x_marks: Sequence[tuple[float, str]] | None = None

    def svg(self) -> str:
        """The plot as an `<svg>` element."""
        shown = [line for line in self.lines if len(line.x)]
        xs = np.concatenate([line.x for line in shown]) if shown else np.array([0.0, 1.0])
        ys = np.concatenate([line.y for line in shown]) if shown else np.array([0.0, 1.0])
        x_low, x_high = self._span(xs)
        y_high = float(np.nanmax(ys)) * 1.06 or 1.0

        def at_x(value: float) -> float:
            v, low, high = (math.log10(t) for t in (value, x_low, x_high)) if self.log_x else (value, x_low, x_high)
            return LEFT + (v - low) / max(high - low, 1e-12) * (WIDTH - LEFT - RIGHT)

        def at_y(value: float) -> float:
            return HEIGHT - BOTTOM - value / y_high * (HEIGHT - TOP - BOTTOM)

        legend, rows = self._legend(shown)
        height = HEIGHT + LEGEND_ROW * (rows - 1)
        parts = [
            f'<svg viewBox="0 0 {WIDTH} {height}" xmlns="http://www.w3.org/2000/svg" '
            f'font-family="system-ui,sans-serif" font-size="11" role="img" aria-label="{escape(self.title)}">',
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            f'<text x="{LEFT}" y="15" font-size="13" font-weight="600" fill="#222">{escape(self.title)}</text>',
        ]
        for tick in _ticks(y_high):
            y = at_y(tick)
            parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e4e4"/>')
            parts.append(f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end" fill="#666">{tick:g}</text>')
        for value, label in self._marks(x_low, x_high):
            x = at_x(value)
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#f0f0f0"/>')
            parts.append(
                f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle" fill="#666">{escape(label)}</text>'
            )
        parts.extend(_draw(line, at_x, at_y) for line in shown)
        parts.append(legend)
        parts.append(
            f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end" fill="#666">{escape(self.x_name)}</text>'
            f'<text x="12" y="{TOP + 4}" fill="#666" transform="rotate(-90 12 {TOP + 4})" text-anchor="end">'
            f"{escape(self.y_name)}</text></svg>"
        )
        return "".join(parts)

    def _span(self, xs: Floats) -> tuple[float, float]:
        low, high = float(np.nanmin(xs)), float(np.nanmax(xs))
        return (low, high) if high > low else (low * 0.9, high * 1.1 + 1e-9)

    def _marks(self, low: float, high: float) -> list[tuple[float, str]]:
        if self.x_marks is not None:
            return [(value, label) for value, label in self.x_marks if low <= value <= high]
        if self.log_x:
            first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
            marks = [m * 10.0**e for e in range(first, last + 1) for m in (1, 3)]
            return [(mark, f"{mark:g}") for mark in marks if low <= mark <= high]
        return [(tick, f"{tick:g}") for tick in _ticks(high) if tick >= low]

    def _legend(self, shown: Sequence[Line]) -> tuple[str, int]:
        """The names below the plot, and how many rows they take; the first row leaves room for the name of the axis."""
        parts, x, row = [], float(LEFT), 0
        for line in shown:
            wide = 34 + LETTER * len(line.name)
            room = WIDTH - RIGHT - (0 if row else LETTER * len(self.x_name) + 12)
            if x > LEFT and x + wide > room:
                x, row = float(LEFT), row + 1
            y = HEIGHT - 8 + LEGEND_ROW * row
            parts.append(
                f'<rect x="{x:.0f}" y="{y - 9}" width="14" height="9" fill="{line.colour}"'
                f' opacity="{0.35 if line.low is not None else 1}"/>'
                f'<text x="{x + 18:.0f}" y="{y}" fill="#333">{escape(line.name)}</text>'
            )
            x += wide
        return "".join(parts), row + 1


def _ticks(high: float) -> list[float]:
    step = 10 ** math.floor(math.log10(high / 4)) if high > 0 else 1
    for factor in (1, 2, 5, 10):
        if high / (step * factor) <= 5:
            step *= factor
            break
    return [step * i for i in range(int(high / step) + 1)]


def _thin(line: Line) -> tuple[Floats, Floats, Floats | None]:
    """Few enough points to draw; each one is the highest of those it stands for, so that no peak is lost."""
    every = -(-len(line.x) // MOST_POINTS)
    if every <= 1 or line.dots:
        return line.x, line.y, line.low
    whole = len(line.x) // every * every
    y = np.nan_to_num(line.y[:whole]).reshape(-1, every).max(1)
    low = None if line.low is None else np.nan_to_num(line.low[:whole]).reshape(-1, every).min(1)
    return line.x[:whole:every], y, low


def _draw(line: Line, at_x: object, at_y: object) -> str:
    assert callable(at_x)
    assert callable(at_y)
    x, y, low = _thin(line)
    points = [(at_x(float(a)), at_y(float(b))) for a, b in zip(x, y, strict=True) if math.isfinite(b)]
    if line.low is not None and low is not None:
        back = [(at_x(float(a)), at_y(float(b))) for a, b in zip(x, low, strict=True) if math.isfinite(b)][::-1]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points + back)
        return f'<polygon points="{path}" fill="{line.colour}" opacity="0.3"/>'
    if line.step:
        points = [p for a, b in zip(points, [*points[1:], points[-1]], strict=True) for p in (a, (b[0], a[1]))]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    drawn = f'<polyline points="{path}" fill="none" stroke="{line.colour}" stroke-width="{line.width}"/>'
    if line.dots:
        labels = line.labels or [""] * len(points)
        for (a, b), label in zip(points, labels, strict=False):
            title = f"<title>{escape(label)}</title>"
            drawn += f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{line.colour}">{title}</circle>'
    return drawn
