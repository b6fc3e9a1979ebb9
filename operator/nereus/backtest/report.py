"""What a replay found, for people (one HTML file, no network needed) and for machines (JSON types). Pure: text in
memory.

The plots and numbers come from one `Contest`; nothing is computed twice or rounded before the JSON.
"""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import Any

import numpy as np

from nereus.backtest.contest import Contest, Result
from nereus.backtest.plot import Chart, Line
from nereus.backtest.world import Floats

OURS_COLOUR, LOAD_COLOUR, OTHER_COLOUR = "#0b6e4f", "#9aa5b1", "#c8553d"
COLOURS = ("#c8553d", "#3a6ea5", "#8d6a9f", "#b08900", "#5f7470", "#a23b72", "#555555", "#2a9d8f")
LEAST_VIOLATIONS = 1e-4
WORST_HOURS = 5
SHOWN_COST = 1.8
"""The plot of cost ends at this multiple of what Nereus or the best other costs: curves shall be told apart."""
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:980px;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;width:100%;font-size:14px}td,th{padding:4px 8px;text-align:right;"
    "border-bottom:1px solid #e4e4e4}td:first-child,th:first-child{text-align:left}.good{color:#0b6e4f}"
    ".bad{color:#b3261e}.tiles{display:flex;gap:14px;flex-wrap:wrap;margin:1em 0}.tile{flex:1;min-width:200px;"
    "border:1px solid #e4e4e4;border-radius:6px;padding:10px 14px}.tile b{display:block;font-size:26px;line-height:1.3}"
    ".tile span{color:#666;font-size:13px}svg{width:100%;height:auto;margin:.6em 0}small{color:#666}"
)


def money(result: Result, *, gpus: int, price: float | None) -> float | None:
    """Cost of the scored time, when a price is known."""
    return None if price is None else result.replica_hours * gpus * price


def as_json(contest: Contest, *, gpus: int, price: float | None) -> dict[str, Any]:
    """Everything in the report as JSON types."""
    trace, setup, best = contest.trace, contest.setup, contest.best()

    def row(result: Result) -> dict[str, Any]:
        return {
            "policy": result.name,
            "setting": result.setting,
            "violations": result.violations,
            "worstHour": result.worst_hour,
            "replicaHours": result.replica_hours,
            "gpuHours": result.replica_hours * gpus,
            "money": money(result, gpus=gpus, price=price),
            "relativeToOptimum": result.replica_hours / contest.optimum_hours,
            "startsPerDay": result.starts_per_day,
            "keepsObjective": result.violations <= setup.violations,
        }

    return {
        "trace": {"name": trace.name, "start": trace.start, "seconds": trace.seconds, "notes": list(trace.notes)},
        "world": {
            "coldStartP95Seconds": setup.cold_start,
            "capacityPerReplica": setup.capacity,
            "minReplicas": setup.min_replicas,
            "maxReplicas": setup.max_replicas,
            "objectiveViolations": setup.violations,
            "objectiveLatencySeconds": setup.latency,
            "seed": setup.seed,
            "warmUpHours": contest.warm_up_hours,
        },
        "optimumReplicaHours": contest.optimum_hours,
        "policies": [row(result) for result in contest.usual],
        "sweep": [row(result) for result in contest.swept],
        "ourCurve": [row(result) for result in contest.curve],
        "bestTunedBaseline": None if best is None else row(best),
        "worstHours": worst_hours(contest),
    }


def worst_hours(contest: Contest) -> list[dict[str, Any]]:
    """The hours in which most requests were late under Nereus, or under the first policy when it did not take part."""
    result = contest.ours() or contest.usual[0]
    late = result.late_by_hour.copy()
    late[: contest.warm_up_hours] = 0
    hours = [int(hour) for hour in np.argsort(late)[::-1][:WORST_HOURS] if late[hour] > 0]
    return [
        {
            "hour": hour,
            "time": _when(contest, hour * 3600.0),
            "late": float(late[hour]),
            "share": float(late[hour] / max(result.requests_by_hour[hour], 1)),
        }
        for hour in hours
    ]


def _when(contest: Contest, seconds: float) -> str:
    at = contest.trace.start + seconds
    if contest.trace.start < 1e8:
        return f"day {int(at // 86_400) + 1}, {int(at % 86_400 // 3600):02d}:00"
    return datetime.fromtimestamp(at, UTC).strftime("%a %Y-%m-%d %H:%M UTC")


def as_html(contest: Contest, *, gpus: int, price: float | None) -> str:
    """The report as one page."""
    setup, trace = contest.setup, contest.trace
    days = (trace.seconds - contest.warm_up_hours * 3600) / 86_400
    notes = "".join(f"<li>{escape(note)}</li>" for note in trace.notes)
    world = (
        f"{trace.seconds / 86_400:.1f} days of load; the first {contest.warm_up_hours} h are lived through but not "
        f"scored. One replica serves {setup.capacity:g} requests/s; a new one serves after a cold start of up to "
        f"{setup.cold_start:g} s (95th percentile); {setup.min_replicas} to {setup.max_replicas} replicas; "
        f"objective: at most {setup.violations:.2%} of requests later than {setup.latency:g} s."
    )
    caveats = (
        "A replay cannot know retries, requests of different size, or what users would have done. Arrivals within a "
        "second are drawn at random (Poisson), rates are seen one scrape late, every policy meets the same draws. Cost "
        "counts from the creation of a replica. The optimum knows the future and breaks the objective as often as "
        "allowed."
    )
    parts = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Backtest of {escape(trace.name)}</title>',
        f"<style>{STYLE}</style><h1>Backtest: {escape(trace.name)}</h1><p><b>{_headline(contest, days)}</b></p>",
        _tiles(contest, days=days, gpus=gpus, price=price),
        f"<p>{world}</p>",
        f"<ul>{notes}</ul>" if notes else "",
        _table(contest, gpus=gpus, price=price),
        *(chart.svg() for chart in charts(contest)),
        _worst(contest),
        f"<p><small>{caveats}</small></p></html>",
    )
    return "".join(parts)


def _headline(contest: Contest, days: float) -> str:
    ours, best = contest.ours(), contest.best()
    if ours is None:
        return f"{len(contest.usual)} policies over {days:.1f} days."
    kept = ours.violations <= contest.setup.violations
    said = f"With its one default Nereus would have {'kept' if kept else 'missed'} the objective over {days:.1f} days"
    if best is not None:
        said += (
            f", with {_less(ours, best)} GPU time than {best.title} at {best.setting:g}: the best setting of any other "
            "scaler, which nobody could have known beforehand"
        )
    elif contest.swept:
        said += "; no other scaler would have kept it, at any setting"
    return escape(said + ".")


def _tiles(contest: Contest, *, days: float, gpus: int, price: float | None) -> str:
    """The few numbers that decide: kept or not, what it costs, and against the usual setting of what people run."""
    ours = contest.ours()
    if ours is None:
        return ""
    allowed = contest.setup.violations
    hpa = next((r for r in contest.usual if r.name == "hpa"), None)
    static = next((r for r in contest.usual if r.name == "static"), None)
    tiles = [
        (f"{ours.violations:.2%}", ours.violations <= allowed, f"of requests late; {allowed:.2%} are allowed"),
        (f"{ours.replica_hours * gpus:,.0f}", None, f"GPU-hours in {days:.1f} days"),
    ]
    for other, name in ((hpa, "an HPA at 70 %"), (static, "the cheapest constant number of replicas")):
        if other is not None:
            fails = "" if other.violations <= allowed else f", which had {other.violations:.2%} late"
            tiles.append((f"{ours.replica_hours / other.replica_hours - 1:+.0%}", None, f"against {name}{fails}"))
    cost = money(ours, gpus=gpus, price=price)
    if cost is not None:
        tiles.append((f"{cost / days * 30:,.0f}", None, "money in 30 days at this pace"))
    colour = {True: " class=good", False: " class=bad", None: ""}
    made = "".join(
        f"<div class=tile><b{colour[good]}>{big}</b><span>{escape(text)}</span></div>" for big, good, text in tiles
    )
    return f"<div class=tiles>{made}</div>"


def _less(ours: Result, other: Result) -> str:
    change = ours.replica_hours / other.replica_hours - 1
    return f"{abs(change):.0%} {'less' if change < 0 else 'more'}"


def _table(contest: Contest, *, gpus: int, price: float | None) -> str:
    header = "<th>policy<th>setting<th>late<th>worst hour<th>GPU-hours<th>of optimum<th>starts/day"
    rows = []
    best = contest.best()
    listed = list(contest.usual) + ([best] if best is not None and best not in contest.usual else [])
    for result in listed:
        good = result.violations <= contest.setup.violations
        cost = money(result, gpus=gpus, price=price)
        setting = "-" if result.setting is None else f"{result.setting:g}"
        title = result.title + (" (best in hindsight)" if result is best else "")
        rows.append(
            f"<tr><td>{escape(title)}<td>{setting}<td class={'good' if good else 'bad'}>{result.violations:.2%}"
            f"<td>{result.worst_hour:.1%}<td>{result.replica_hours * gpus:.0f}"
            f"<td>{result.replica_hours / contest.optimum_hours:.2f}<td>{result.starts_per_day:.0f}"
            + (f"<td>{cost:,.0f}" if cost is not None else "")
        )
    optimum = f"<tr><td>optimum (knows the future)<td>-<td>{contest.setup.violations:.2%}<td>-"
    optimum += f"<td>{contest.optimum_hours * gpus:.0f}<td>1.00<td>-" + ("<td>" if price is not None else "")
    return f"<table><tr>{header}{'<th>money' if price is not None else ''}</tr>{''.join(rows)}{optimum}</table>"


def _worst(contest: Contest) -> str:
    found = worst_hours(contest)
    if not found:
        return "<h2>Worst hours</h2><p>No request was late.</p>"
    rows = "".join(f"<tr><td>{escape(h['time'])}<td>{h['late']:.0f}<td>{h['share']:.1%}" for h in found)
    return f"<h2>Worst hours</h2><table><tr><th>hour<th>late requests<th>share of the hour</tr>{rows}</table>"


def charts(contest: Contest) -> list[Chart]:
    """The plots of the report."""
    made = [_whole(contest), _trade_off(contest)]
    ours = contest.ours()
    if ours is not None and contest.forecasts is not None:
        late = ours.late_by_hour.copy()
        late[: contest.warm_up_hours] = 0
        days = max(1, len(late) // 24)
        by_day = late[: days * 24].reshape(days, -1).sum(1)
        worst, last = int(by_day.argmax()), days - 1
        title = f"The worst day (day {worst + 1}): load, what was expected, what was there"
        made.append(_day(contest, ours, worst, title))
        if last != worst:
            made.append(_day(contest, ours, last, f"The last day (day {last + 1})"))
    return made


def _clock(contest: Contest, seconds: float) -> str:
    """Time of day (UTC) so many seconds after the start of the trace."""
    minutes = int((contest.trace.start + seconds) % 86_400 // 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _day_marks(days: float) -> list[tuple[float, str]]:
    step = max(1, round(days / 10))
    return [(float(d), f"day {d + 1}") for d in range(0, int(days) + 1, step)]


def _hourly(values: Floats) -> Floats:
    return np.asarray(values[: len(values) // 60 * 60].reshape(-1, 60).max(1))


def _whole(contest: Contest) -> Chart:
    load = _hourly(contest.load_by_minute)
    hours = np.arange(len(load)) / 24
    lines = [Line(name="load (highest minute)", x=hours, y=load, colour=LOAD_COLOUR, low=np.zeros_like(load))]
    hpa = next((r for r in contest.usual if r.name == "hpa"), None)
    if hpa is not None:
        lines.append(Line(name="HPA at 70 %", x=hours, y=hpa.replicas_by_hour[: len(load)], colour=OTHER_COLOUR))
    ours = contest.ours()
    if ours is not None:
        lines.append(Line(name="Nereus", x=hours, y=ours.replicas_by_hour[: len(load)], colour=OURS_COLOUR))
    return Chart(
        title="Replicas paid for, hour by hour, over the load",
        x_name="time",
        y_name="replicas",
        lines=lines,
        x_marks=_day_marks(len(load) / 24),
    )


def _trade_off(contest: Contest) -> Chart:
    lines = []
    names = list(dict.fromkeys(r.name for r in contest.swept))
    fair = [r.replica_hours for r in (contest.ours(), contest.best()) if r is not None]
    highest = SHOWN_COST * max(fair, default=3 * contest.optimum_hours)
    for index, name in enumerate(names):
        results = sorted((r for r in contest.swept if r.name == name), key=lambda r: r.replica_hours)
        results = [r for r in results if r.violations < 0.3 and r.replica_hours < highest]
        lines.append(_curve(results, contest, results[0].title if results else name, COLOURS[index % len(COLOURS)]))
    lines.append(_curve(list(contest.curve), contest, "Nereus", OURS_COLOUR, width=2.6))
    return Chart(
        title="Cost against late requests, every setting (left and low is better)",
        x_name="late requests, % (log)",
        y_name="cost relative to the optimum",
        lines=lines,
        log_x=True,
    )


def _curve(results: list[Result], contest: Contest, name: str, colour: str, width: float = 1.2) -> Line:
    return Line(
        name=name,
        x=np.array([100 * max(r.violations, LEAST_VIOLATIONS) for r in results]),
        y=np.array([r.replica_hours / contest.optimum_hours for r in results]),
        colour=colour,
        dots=True,
        width=width,
        labels=[
            f"{name} at {r.setting:g}: {r.violations:.2%} late" if r.setting is not None else name for r in results
        ],
    )


def _day(contest: Contest, ours: Result, day: int, title: str) -> Chart:
    assert contest.forecasts is not None
    part = slice(day * 1440, (day + 1) * 1440)
    load = contest.load_by_minute[part]
    hours = np.arange(len(load)) / 60

    def cut(values: Floats) -> Floats:
        return np.asarray(np.nan_to_num(values[part][: len(load)]))

    median, bound = cut(contest.forecasts.median), cut(contest.forecasts.bound)
    top = max(float(load.max()), float(ours.ready_by_minute[part].max())) * 1.1
    return Chart(
        title=title,
        x_name="hour",
        y_name="replicas",
        lines=[
            Line(
                name="expected until the horizon: median to 95 %",
                x=hours[: len(bound)],
                y=np.minimum(bound, top),
                low=np.minimum(median, top),
                colour="#5aa9e6",
            ),
            Line(name="load", x=hours, y=load, colour="#444444", width=1.0),
            Line(name="ready replicas", x=hours, y=cut(ours.ready_by_minute), colour=OURS_COLOUR, step=True, width=1.8),
        ],
        x_marks=[(float(h), _clock(contest, (24 * day + h) * 3600.0)) for h in range(0, 25, 3)],
    )
