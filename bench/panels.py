"""Asks a Prometheus for every panel of the dashboards, names those without data, and draws some for docs/img.

    python -m bench.panels --prometheus URL --namespace default --service quickstart --minutes 5 [--draw docs/img]

What Grafana would ask is asked here: the queries of charts/nereus/dashboards, variables filled in, over a range.
Exit status 1 when a panel outside of the closed rows is empty.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from nereus.backtest.plot import Chart, Line
from tests.harness.dashboards import dashboards, filled

Json = dict[str, Any]
STEP = 5
DRAWN = {
    ("nereus-service", "Latency"): "seconds",
    ("nereus-service", "Requests by pod"): "requests/s",
    ("nereus-service", "Pods"): "pods",
    ("nereus-service", "Load and forecast"): "pods' worth of load",
    ("nereus-service", "Cold start by phase"): "seconds",
    ("nereus-fleet", "Load of each service"): "instances computing",
}
"""Panels with a picture, and the name of their axis."""
COLOURS = ("#0b6e4f", "#5aa9e6", "#c8553d", "#8f6bb3", "#d9a441", "#444444")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.panels", description=__doc__)
    parser.add_argument("--prometheus", required=True, metavar="URL")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--service", default="quickstart")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--draw", type=Path, metavar="FOLDER", help="write pictures there")
    given = parser.parse_args()
    empty = []
    for board in dashboards().values():
        for panel, optional in _panels(board):
            series = _series(given, panel)
            if not series and not optional:
                empty.append(f"{board['uid']}: {panel['title']}")
            axis = DRAWN.get((board["uid"], panel["title"]))
            if given.draw and axis and series:
                path = given.draw / f"panel-{panel['title'].lower().replace(' ', '-')}.svg"
                path.write_text(_picture(f"{board['title']}: {panel['title']}", axis, series) + "\n")
                sys.stdout.write(f"{path}: {path.stat().st_size / 1000:.0f} kB\n")
    sys.stdout.write(f"panels without data: {empty or 'none'}\n")
    return 1 if empty else 0


def _panels(board: Json) -> list[tuple[Json, bool]]:
    """Every panel, and whether it stands in a closed row."""
    found = [(panel, False) for panel in board["panels"] if panel["type"] != "row"]
    return found + [(inner, True) for panel in board["panels"] for inner in panel.get("panels") or ()]


def _series(given: argparse.Namespace, panel: Json) -> dict[str, np.ndarray[Any, Any]]:
    """Times (epoch seconds) and values of each curve, by its legend."""
    end = time.time()
    found = {}
    for target in panel["targets"]:
        asked = {
            "query": filled(target["expr"], namespace=given.namespace, service=given.service, interval="20s"),
            "start": f"{end - given.minutes * 60:.0f}",
            "end": f"{end:.0f}",
            "step": f"{STEP}",
        }
        url = f"{given.prometheus}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310
            rows = json.load(answer)["data"]["result"]
        for row in rows:
            legend = target.get("legendFormat") or panel["title"]
            for label, value in row["metric"].items():
                legend = legend.replace("{{" + label + "}}", value)
            values = np.array(row["values"], dtype=float)
            if np.isfinite(values[:, 1]).any():
                found[legend] = values
    return found


def _picture(title: str, axis: str, series: dict[str, np.ndarray[Any, Any]]) -> str:
    first = min(values[0, 0] for values in series.values())
    band = ("expected, 95 %", "expected, median")
    lines = []
    for number, (name, values) in enumerate(sorted(series.items())[: len(COLOURS)]):
        if name == band[1] and band[0] in series:
            continue
        low = series.get(band[1]) if name == band[0] else None
        x = values[:, 0] - first
        below = None if low is None else np.interp(values[:, 0], low[:, 0], low[:, 1])
        legend = f"{band[1]} to 95 %" if below is not None else name
        lines.append(Line(name=legend, x=x / 60, y=values[:, 1], low=below, colour=COLOURS[number]))
    return Chart(title=title, x_name="minutes", y_name=axis, lines=lines).svg()


if __name__ == "__main__":
    sys.exit(main())
