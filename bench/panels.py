"""Every query of every panel of the dashboards, asked of a real Prometheus while a load runs; empty ones are named.

    make bench BENCH=panels [BENCH_ARGS="--minutes 8 --draw docs/img"]

On a local cluster with prometheus-operator and Prometheus, and real Triton pods: a service that scales with its load,
an idle one, a broken one, one with a response cache, and one on a GPU that is SIMULATED. Closed rows too are asked, of
the service that has what they show. Only the latency histogram is missing, which this Triton has not. Exit status 1
when a panel is empty or a query gives nothing. `--draw` writes the dashboards as pictures; `--prometheus` asks one that
is there, and starts nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import fleetload
from bench.drawing import Series, legend, picture
from localcluster.config import DEFAULT_NAME, known_names
from nereus.alerting import conventions as c
from tests import tiers
from tests.harness.dashboards import dashboards, filled

Json = dict[str, Any]
STEP = 10
"""Seconds between two points of a curve; Grafana chooses a similar number of points for a panel of this width."""
WINDOW = "20s"
"""What Grafana takes for $__rate_interval at a scrape every 5 s: four of them."""
NOT_HERE = (c.LATENCY_BUCKET,)
"""Metrics that the Triton of the local cluster (24.10) does not have."""


@dataclass(frozen=True)
class Asked:
    """Whom to ask, about which services, over which span of epoch seconds."""

    url: str
    namespace: str
    service: str
    span: tuple[float, float]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench BENCH=panels BENCH_ARGS=", description=__doc__)
    parser.add_argument("--minutes", type=float, default=8, help="how long the load runs, and what pictures show")
    parser.add_argument("--draw", type=Path, metavar="FOLDER", help="write pictures there")
    parser.add_argument("--prometheus", metavar="URL", help="ask this one about --namespace and --service")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--service", default="quickstart")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    given = parser.parse_args()
    with _source(given) as (asked, owners):
        lacking = [lack for board in dashboards().values() for lack in _look(board, asked, owners, given.draw)]
    for lack in lacking:
        sys.stdout.write(f"{lack}\n")
    sys.stdout.write(f"without data: {len(lacking)} of the queries of every panel\n")
    return 1 if lacking else 0


@contextmanager
def _source(given: argparse.Namespace) -> Iterator[tuple[Asked, Mapping[str, str]]]:
    """Whom to ask, and the service that has what a closed row shows, by the row's first word."""
    if given.prometheus:
        end = time.time()
        yield Asked(given.prometheus, given.namespace, given.service, (end - given.minutes * 60, end)), {}
        return
    before = DEFAULT_NAME in known_names()
    try:
        with fleetload.running(minutes=given.minutes) as (url, span):
            yield Asked(url, fleetload.NAMESPACE, fleetload.MAIN, span), fleetload.OWNERS
    finally:
        if not before and not given.keep:
            tiers.remove_local_cluster(DEFAULT_NAME)


def _look(board: Json, asked: Asked, owners: Mapping[str, str], folder: Path | None) -> Iterator[str]:
    """Names the queries without data; draws the open part of a dashboard, and its closed rows as one more picture."""
    name = str(board["uid"]).removeprefix("nereus-")
    if any(variable.get("includeAll") for variable in board["templating"]["list"]):
        asked = replace(asked, namespace=".*", service=".*")
    answers: dict[str, list[Series]] = {}
    closed: list[Json] = []
    shown = [panel for panel in board["panels"] if not panel.get("panels")]
    for panel in shown:
        yield from _answer(panel, asked, answers, f"{name}: ", whole=True)
    for row in (panel for panel in board["panels"] if panel.get("panels")):
        owner = owners.get(row["title"].split()[0], asked.service)
        for panel in row["panels"]:
            yield from _answer(
                panel, replace(asked, service=owner), answers, f"{name} of {owner}: ", whole=bool(owners)
            )
        closed += [{**row, "gridPos": {**row["gridPos"], "y": row["panels"][0]["gridPos"]["y"] - 1}}, *row["panels"]]
    if folder is None:
        return
    about = {"": f" ({asked.namespace}/{asked.service})" if name == "service" else "", "-more": ", closed rows"}
    rows = [panel["gridPos"]["y"] for panel in shown if panel["type"] == "row"]
    first = [panel for panel in shown if panel["gridPos"]["y"] < rows[1]] if name == "fleet" else []
    for suffix, panels in (("", shown), ("-glance", first), ("-more", closed)):
        if panels:
            path = folder / f"dashboard-{name}{suffix}.svg"
            title = f"{board['title']}{about.get(suffix, '')}"
            path.write_text(picture(title, panels, answers, span=asked.span) + "\n")
            sys.stdout.write(f"{path}: {path.stat().st_size / 1000:.0f} kB\n")


def _answer(panel: Json, asked: Asked, answers: dict[str, list[Series]], what: str, *, whole: bool) -> Iterator[str]:
    """Asks all queries of a panel. `whole`: each of them must answer, otherwise what is missing is given."""
    found = answers.setdefault(panel["title"], [])
    for target in panel.get("targets", ()):
        series = _series(target, asked)
        found += series
        if not series and whole and not any(metric in target["expr"] for metric in NOT_HERE):
            yield f"{what}{panel['title']}: {target['expr']}"


def _series(target: Json, asked: Asked) -> list[Series]:
    begin, end = asked.span
    query = filled(target["expr"], namespace=asked.namespace, service=asked.service, interval=WINDOW)
    if target.get("instant"):
        rows = _get(asked.url, "query", query=query, time=f"{end:.0f}")
        points: Callable[[Json], Sequence[Sequence[Any]]] = lambda row: [row["value"]]  # noqa: E731
    else:
        rows = _get(asked.url, "query_range", query=query, start=f"{begin:.0f}", end=f"{end:.0f}", step=f"{STEP}")
        points = lambda row: row["values"]  # noqa: E731
    found = []
    for row in rows:
        name = legend(target.get("legendFormat", ""), row["metric"], "")
        known = [(float(when), float(value)) for when, value in points(row)]
        if any(math.isfinite(value) for _, value in known):
            found.append(Series(name, known, row["metric"], target["refId"]))
    return sorted(found, key=lambda one: one.legend)


def _get(url: str, what: str, **parameters: str) -> list[Json]:
    with urllib.request.urlopen(f"{url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}", timeout=60) as answer:  # noqa: S310
        found: list[Json] = json.load(answer)["data"]["result"]
    return found


if __name__ == "__main__":
    sys.exit(main())
