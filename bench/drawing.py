"""Draws dashboards as SVG from their own JSON and from answers of a Prometheus: what Grafana would show, on white.

Only what our dashboards use: rows, single numbers, tables, curves with a legend, and the heat map of a status history.
Colours, units, thresholds, mappings and sizes come from the panels' JSON, so what is wrong there is wrong in the
picture. No I/O.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import Any

Json = dict[str, Any]
Point = tuple[float, float]

COLUMN, ROW, GAP = 50, 27, 6
"""Pixels of one column of Grafana's 24, of one unit of height, and between panels."""
WIDTH = 24 * COLUMN
HEAD = 26
LEGEND_ROW = 15
LETTER = 5.6
COLOURS = ("#3f8f3f", "#e0a800", "#3274d9", "#e0752d", "#8f3bb8", "#1aa6a6", "#d6568c", "#7a5c3a", "#5a6b7b", "#9bbf3b")
NAMED = {"green": "#2f8f3a", "red": "#c4162a", "text": "#222", "blue": "#3274d9"}
SCALE = ((0.0, (91, 170, 96)), (0.5, (240, 208, 76)), (1.0, (205, 52, 58)))
"""Green, yellow, red: where Grafana's continuous-GrYlRd starts, turns and ends."""


@dataclass(frozen=True)
class Series:
    """One answer: its legend, its labels, and (epoch seconds, value) pairs; an instant one has one pair."""

    legend: str
    points: Sequence[Point]
    labels: Mapping[str, str] = field(default_factory=dict)
    query: str = "A"

    @property
    def last(self) -> float | None:
        known = [value for _, value in self.points if math.isfinite(value)]
        return known[-1] if known else None


Answers = Mapping[str, Sequence[Series]]
"""The series of each panel, by its title; no two panels of a dashboard have the same."""


def picture(title: str, panels: Sequence[Json], answers: Answers, *, span: tuple[float, float]) -> str:
    """The panels at their places (the uppermost at the top), for a span of epoch seconds."""
    top = min(panel["gridPos"]["y"] for panel in panels)
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    height = (bottom - top) * ROW + 34
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" xmlns="http://www.w3.org/2000/svg" role="img"'
        f' font-family="Inter,system-ui,sans-serif" font-size="11" aria-label="{escape(title)}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#f4f5f5"/>',
        text(10, 21, title, size=15, weight=600),
    ]
    for panel in panels:
        at = panel["gridPos"]
        box = Box(
            at["x"] * COLUMN + GAP / 2,
            (at["y"] - top) * ROW + 34,
            at["w"] * COLUMN - GAP,
            at["h"] * ROW - GAP,
        )
        parts.append(_panel(panel, box, answers.get(panel["title"], ()), span))
    return "".join((*parts, "</svg>"))


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    x: float
    y: float
    w: float
    h: float

    @property
    def right(self) -> float:
        return self.x + self.w

    @property
    def bottom(self) -> float:
        return self.y + self.h


def text(
    x: float, y: float, words: str, *, size: float = 11, fill: str = "#333", anchor: str = "", weight: int = 0
) -> str:
    more = (f' text-anchor="{anchor}"' if anchor else "") + (f' font-weight="{weight}"' if weight else "")
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size:g}" fill="{fill}"{more}>{escape(words)}</text>'


def _panel(panel: Json, box: Box, series: Sequence[Series], span: tuple[float, float]) -> str:
    if panel["type"] == "row":
        return text(box.x + 2, box.y + 15, f"▾ {panel['title']}", size=12.5, weight=600, fill="#222")
    frame = (
        f'<rect x="{box.x:.0f}" y="{box.y:.0f}" width="{box.w:.0f}" height="{box.h:.0f}" rx="2" fill="#fff"'
        f' stroke="#dcdde0"/>{text(box.x + 9, box.y + 17, panel["title"], size=12, weight=600)}'
    )
    inner = Box(box.x + 9, box.y + HEAD, box.w - 18, box.h - HEAD - 6)
    if not series:
        return frame + text(box.x + box.w / 2, box.y + box.h / 2 + 6, "No data", fill="#999", anchor="middle", size=13)
    draw = {"stat": _stat, "table": _table, "timeseries": _curves, "status-history": _history}[panel["type"]]
    return frame + draw(panel, inner, series, span)


# --- values as Grafana prints them


def shown(value: float | None, unit: str, decimals: int | None = None) -> str:
    """A value with its unit."""
    if value is None or not math.isfinite(value):
        return ""
    if unit == "s":
        return _seconds(value)
    if unit == "percentunit":
        return f"{_digits(value * 100, decimals)} %"
    if unit == "bytes":
        size = min(4, int(math.log(abs(value), 1024))) if abs(value) >= 1 else 0
        return f"{_digits(value / 1024**size)} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[size]}"
    size = min(3, int(math.log10(abs(value)) / 3)) if abs(value) >= 1000 else 0
    suffix = {"reqps": " req/s", "ops": " ops/s", "wps": " wr/s"}.get(unit, "")
    return f"{_digits(value / 1000**size, decimals)}{('', ' K', ' Mil', ' Bil')[size]}{suffix}"


def _seconds(value: float) -> str:
    for size, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if abs(value) >= size:
            return f"{_digits(value / size)} {name}"
    return "0 s" if value == 0 else f"{_digits(value / 1e-6)} µs"


def _digits(value: float, decimals: int | None = None) -> str:
    if decimals is None:
        decimals = 0 if abs(value) >= 100 or value == round(value) else 1 if abs(value) >= 10 else 2
    return f"{value:.{decimals}f}"


def _mapped(value: float | None, mappings: Sequence[Json]) -> tuple[str, str] | None:
    """Text and colour of a value that has words of its own."""
    if value is None:
        return None
    for mapping in mappings:
        found = mapping.get("options", {}).get(f"{value:g}")
        if found:
            return found["text"], NAMED.get(found.get("color") or "", "#333")
    return None


def _threshold(value: float | None, thresholds: Json) -> str:
    colour = "text"
    for step in thresholds.get("steps", ()):
        if step["value"] is None or (value is not None and value >= step["value"]):
            colour = step["color"]
    return NAMED.get(colour, "#333")


# --- the kinds of panels


def _stat(panel: Json, box: Box, series: Sequence[Series], span: tuple[float, float]) -> str:
    del span
    defaults = panel["fieldConfig"]["defaults"]
    one = series[0]
    colour = _threshold(one.last, defaults.get("thresholds", {}))
    words = shown(one.last, defaults["unit"])
    if mapped := _mapped(one.last, defaults.get("mappings") or ()):
        words, colour = mapped[0], mapped[1] if mapped[1] != "#333" else colour
    if (panel.get("options") or {}).get("textMode") == "name":
        words = one.legend
    size = min(34.0, box.w / max(len(words), 1) * 1.7)
    return text(
        box.x + box.w / 2, box.y + box.h / 2 + size / 3, words, size=size, fill=colour, anchor="middle", weight=600
    )


def _table(panel: Json, box: Box, series: Sequence[Series], span: tuple[float, float]) -> str:
    del span
    names, hidden, order = _organized(panel)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for one in series:
        key = (one.labels.get("modelservice_namespace", ""), one.labels.get("modelservice", ""))
        rows.setdefault(key, {}).update({**one.labels, f"Value #{one.query}": one.last})
    columns = [name for name in order if name not in hidden]
    chosen = (panel.get("options") or {}).get("sortBy") or []
    by = next((name for name in columns if chosen and names.get(name, name) == chosen[0]["displayName"]), None)
    listed = list(rows.values())
    if by is not None:
        listed.sort(key=lambda row: float(row.get(by) or 0), reverse=True)
    look = {each["matcher"]["options"]: each["properties"] for each in panel["fieldConfig"]["overrides"]}
    wide = {
        name: 2.0 if names.get(name) == "Why not ready" else 1.6 if "modelservice" in name else 1.0 for name in columns
    }
    unit = box.w / sum(wide.values())
    parts, left = [], box.x
    for name in columns:
        shows = {item["id"]: item["value"] for item in look.get(names.get(name, name), ())}
        numeric = name.startswith("Value")
        x, anchor = (left + wide[name] * unit - 14, "end") if numeric else (left, "")
        parts.append(text(x, box.y + 12, names.get(name, name), fill="#3274d9", anchor=anchor, weight=600))
        for at, row in enumerate(listed[: int((box.h - 22) // 19)]):
            words, colour = _cell(row.get(name), shows)
            colour = "#3274d9" if "links" in shows else colour
            parts.append(text(x, box.y + 32 + 19 * at, words, fill=colour, anchor=anchor))
        left += wide[name] * unit
    for at in range(len(listed[: int((box.h - 22) // 19)])):
        y = box.y + 18 + 19 * at
        parts.append(f'<line x1="{box.x:.0f}" x2="{box.right:.0f}" y1="{y:.0f}" y2="{y:.0f}" stroke="#e9eaec"/>')
    return "".join(parts)


def _organized(panel: Json) -> tuple[dict[str, str], set[str], list[str]]:
    """New names, hidden columns and the order, from the transformations."""
    options = next(each["options"] for each in panel["transformations"] if each["id"] == "organize")
    order = sorted(options["indexByName"], key=options["indexByName"].__getitem__)
    return options["renameByName"], {name for name, off in options["excludeByName"].items() if off}, order


def _cell(value: Any, shows: Json) -> tuple[str, str]:
    if value is None or isinstance(value, str):
        return value or "", "#333"
    if mapped := _mapped(value, shows.get("mappings", ())):
        return mapped
    colour = _threshold(value, shows["thresholds"]) if "thresholds" in shows else "#333"
    return shown(value, shows.get("unit", "short")), colour


def _history(panel: Json, box: Box, series: Sequence[Series], span: tuple[float, float]) -> str:
    defaults = panel["fieldConfig"]["defaults"]
    most = defaults.get("max") or max((v for one in series for _, v in one.points if math.isfinite(v)), default=1.0)
    names = sorted(series, key=lambda one: one.legend)
    left = box.x + LETTER * max(len(one.legend) for one in names) + 14
    high = (box.h - 18) / len(names)
    parts = []
    for number, one in enumerate(names):
        y = box.y + number * high
        parts.append(text(left - 8, y + high / 2 + 4, one.legend, anchor="end"))
        width = (box.right - left) / max(len(one.points), 1)
        for begin, value in one.points:
            if math.isfinite(value):
                x = left + (begin - span[0]) / (span[1] - span[0]) * (box.right - left - width)
                parts.append(
                    f'<rect x="{x:.0f}" y="{y + 1:.0f}" width="{width * 0.9:.1f}" height="{high * 0.85:.0f}"'
                    f' fill="{_heat(value / most)}"/>'
                )
    return "".join((*parts, _times(Box(left, box.y, box.right - left, box.h - 14), span)))


def _heat(share: float) -> str:
    share = min(max(share, 0.0), 1.0)
    for (low, first), (high, second) in pairwise(SCALE):
        if share <= high:
            part = (share - low) / (high - low)
            return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in zip(first, second, strict=True))
    raise AssertionError(share)


def _curves(panel: Json, box: Box, series: Sequence[Series], span: tuple[float, float]) -> str:
    defaults = panel["fieldConfig"]["defaults"]
    custom, unit = defaults.get("custom", {}), defaults["unit"]
    look = {
        each["matcher"]["options"]: {item["id"]: item["value"] for item in each["properties"]}
        for each in panel["fieldConfig"]["overrides"]
    }
    stacked = (custom.get("stacking") or {}).get("mode") == "normal"
    legend = _legend_rows(len(series), box)
    plot = Box(box.x + 54, box.y + 4, box.w - 60, box.h - 22 - legend * LEGEND_ROW)
    drawn = _stacked(series) if stacked else [(one, one.points, None) for one in series]
    most = max((value for _, points, _ in drawn for _, value in points if math.isfinite(value)), default=1.0) or 1.0
    step, top = _scale(most, unit)

    def at(point: Point) -> tuple[float, float]:
        share = (point[0] - span[0]) / (span[1] - span[0])
        return plot.x + share * plot.w, plot.bottom - max(0.0, min(point[1] / top, 1.05)) * plot.h

    parts = []
    for tick in range(round(top / step) + 1):
        y = plot.bottom - tick * step / top * plot.h
        parts.append(f'<line x1="{plot.x:.0f}" x2="{plot.right:.0f}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ececee"/>')
        parts.append(text(plot.x - 6, y + 4, shown(tick * step, unit), anchor="end", fill="#666", size=10))
    colours = {}
    for number, (one, points, beneath) in enumerate(drawn):
        shows, below = look.get(one.legend, {}), beneath
        colour = NAMED.get((shows.get("color") or {}).get("fixedColor", ""), COLOURS[number % len(COLOURS)])
        colours[one.legend] = colour
        if "custom.fillBelowTo" in shows:
            below = next((other.points for other in series if other.legend == shows["custom.fillBelowTo"]), below)
        opacity = shows.get("custom.fillOpacity", custom.get("fillOpacity", 0)) / 100
        dash = "6 4" if "custom.lineStyle" in shows else ""
        parts += [_curve([at(p) for p in piece], colour, dash) for piece in _pieces(points)]
        if opacity:
            floor = [at(p) for p in below if math.isfinite(p[1])] if below else []
            parts += [_area([at(p) for p in piece], floor, plot.bottom, colour, opacity) for piece in _pieces(points)]
    ranked = panel["options"]["legend"].get("sortBy")
    listed = sorted(series, key=lambda one: -(one.last or 0.0)) if ranked else series
    named = [(one.legend, colours[one.legend], one.points) for one in listed]
    return "".join((*parts, _times(plot, span), _legend(named, Box(box.x, plot.bottom + 18, box.w, 0), legend, unit)))


def _stacked(series: Sequence[Series]) -> list[tuple[Series, Sequence[Point], Sequence[Point] | None]]:
    """Each on top of those before it."""
    found: list[tuple[Series, Sequence[Point], Sequence[Point] | None]] = []
    total: dict[float, float] = {}
    for one in series:
        below = [(when, total.get(when, 0.0)) for when, _ in one.points]
        for when, value in one.points:
            total[when] = total.get(when, 0.0) + (value if math.isfinite(value) else 0.0)
        found.append((one, [(when, total[when]) for when, _ in one.points], below))
    return found


def _pieces(points: Sequence[Point]) -> list[list[Point]]:
    """Without gaps: a missing sample (more than twice the usual distance) or no number ends a piece."""
    known = [point for point in points if math.isfinite(point[1])]
    gaps = sorted(b[0] - a[0] for a, b in pairwise(known))
    usual = gaps[len(gaps) // 2] if gaps else 0.0
    pieces: list[list[Point]] = []
    for point in known:
        if not pieces or point[0] - pieces[-1][-1][0] > 2 * usual:
            pieces.append([])
        pieces[-1].append(point)
    return pieces


def _curve(points: Sequence[Point], colour: str, dash: str) -> str:
    path = " ".join(f"{x:.0f},{y:.1f}" for x, y in points)
    more = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"{more}/>'


def _area(points: Sequence[Point], floor: Sequence[Point], bottom: float, colour: str, opacity: float) -> str:
    first, last = points[0][0], points[-1][0]
    back = [p for p in floor if first - 0.5 <= p[0] <= last + 0.5][::-1] or [(last, bottom), (first, bottom)]
    path = " ".join(f"{x:.0f},{y:.1f}" for x, y in (*points, *back))
    return f'<polygon points="{path}" fill="{colour}" opacity="{opacity:g}"/>'


def _scale(most: float, unit: str) -> tuple[float, float]:
    """A round step, and the top of the axis."""
    base = (
        1024 ** int(math.log(most, 1024)) if unit == "bytes" and most >= 1 else 60 if unit == "s" and most > 60 else 1.0
    )
    raw = most / base / 4
    size = 10 ** math.floor(math.log10(raw))
    step = next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= raw * 0.999) * base
    return step, math.ceil(most / step * 0.999) * step


def _times(plot: Box, span: tuple[float, float]) -> str:
    """Minutes since the beginning, below the plot."""
    minutes = (span[1] - span[0]) / 60
    every = next(each for each in (1, 2, 5, 10, 15, 30, 60, 120, 1e9) if minutes / each <= 8)
    parts = []
    for tick in range(int(minutes / every) + 1):
        x = plot.x + tick * every / minutes * plot.w
        parts.append(text(x, plot.bottom + 13, f"{tick * every:g} min", anchor="middle", fill="#666", size=10))
    return "".join(parts)


def _legend_rows(count: int, box: Box) -> int:
    """As many as there is room for in a third of the panel."""
    return min(count, max(2, int(box.h * 0.36 // LEGEND_ROW)))


def _legend(named: Sequence[tuple[str, str, Sequence[Point]]], box: Box, rows: int, unit: str) -> str:
    """Name, last and greatest value; the last row says how many more there are."""
    parts = []
    kept = named if len(named) <= rows else named[: rows - 1]
    for number, (name, colour, points) in enumerate(kept):
        y = box.y + LEGEND_ROW * (number + 1) - 3
        known = [value for _, value in points if math.isfinite(value)]
        parts.append(f'<rect x="{box.x:.0f}" y="{y - 5:.0f}" width="12" height="3" fill="{colour}"/>')
        parts.append(text(box.x + 17, y, _short(name, box.w - 230)))
        for x, what, value in ((105, "last", known[-1]), (0, "max", max(known))) if known else ():
            parts.append(text(box.right - x, y, f"{what} {shown(value, unit)}", anchor="end", fill="#666"))
    if len(kept) < len(named):
        y = box.y + LEGEND_ROW * rows - 3
        parts.append(text(box.x + 17, y, f"and {len(named) - len(kept)} more", fill="#666"))
    return "".join(parts)


def _short(name: str, room: float) -> str:
    most = int(room / LETTER)
    return name if len(name) <= most else f"{name[: most - 1]}…"


def legend(template: str, labels: Mapping[str, str], otherwise: str) -> str:
    """A legend as Grafana fills it in."""
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), template) or otherwise
