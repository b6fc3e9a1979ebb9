"""Alerts on the real thing: faults caused one after the other or together, and when each was told and was over.

Local cluster, real Triton pods, prometheus-operator, Prometheus and Alertmanager: see `oncall`. The times of the rules
are shortened (`--pace`); the measured times contain them. Exit status 1 when anything did not come.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from typing import Any

from bench import oncall
from bench.oncall import ROOT, SHOP, Fault, Row, Site

Json = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench BENCH=alerts BENCH_ARGS=", description=__doc__)
    parser.add_argument("--name", default="alerts", help="of the local cluster, which is started and ended")
    parser.add_argument("--pace", type=float, default=0.01, help="times of the rules are shortened by this")
    parser.add_argument("--scrape", type=int, default=5, metavar="SECONDS", help="between scrapes and evaluations")
    parser.add_argument("--limit", type=float, default=180, help="seconds to wait for an alert or its end")
    parser.add_argument("--together", action="store_true", help="faults side by side, the operator's own after them")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    given = parser.parse_args()
    began = time.monotonic()
    try:
        with oncall.site(given.name, pace=given.pace, scrape_seconds=given.scrape) as site:
            report = _measure(site, limit=given.limit, together=given.together)
    finally:
        if not given.keep:
            oncall.remove(given.name)
    report["seconds"] = round(time.monotonic() - began)
    folder = ROOT / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "alerts.json").write_text(json.dumps(report, indent=1) + "\n")
    _print(report)
    return 0 if report["passed"] else 1


def _measure(site: Site, *, limit: float, together: bool) -> Json:
    began = time.monotonic()
    oncall.open_shop(site)
    installed = round(time.monotonic() - began, 1)
    rows: list[Row] = []
    side_by_side = [oncall.faults(site)] if together else [[fault] for fault in oncall.faults(site)]
    for faults in (*side_by_side, [_no_metrics(site)], [oncall.operator_gone(site)]):
        for row in oncall.go_through(site, faults, limit=limit):
            _say(f"  {row}")
            rows.append(row)
        for name in oncall.SERVICES:
            site.world.wait_ready(name, seconds=300)
    unselected = oncall.unselected(site)
    heartbeat = site.inbox.first("heartbeat", "NereusWatchdog") is not None
    passed = not any(row.missing for row in rows) and heartbeat and unselected is not None
    return {
        "rows": [asdict(row) for row in rows],
        "installed_seconds": installed,
        "unselected_seconds": unselected,
        "heartbeat": heartbeat,
        "passed": passed,
    }


def _no_metrics(site: Site) -> Fault:
    """The autoscaler loses what it reads itself: processor time."""
    return Fault(
        what="metrics-server gone",
        alert="NereusAutoscalerBlind",
        about=f"{SHOP}/slow",
        cause=lambda: site.component("kill", "metrics-server"),
        mend=lambda: site.component("start", "metrics-server"),
    )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _print(report: Json) -> None:
    columns = ("fires", "mail", "webhook", "slack", "ends", "mail_over", "webhook_over", "slack_over")
    _say(f"\n{'fault':48} {'alert':24}" + "".join(f"{name.replace('_', ' '):>13}" for name in columns))
    for row in report["rows"]:
        times = "".join(f"{'-' if row[name] is None else row[name]:>13}" for name in columns)
        _say(f"{row['fault']:48} {row['alert']:24}{times}")
    _say(f"everything ready and every rule loaded {report['installed_seconds']} s after the services were applied;")
    _say(f"unselected rules noticed after {report['unselected_seconds']} s; heartbeat arrived: {report['heartbeat']}")
    _say(f"{'passed' if report['passed'] else 'FAILED'} in {report['seconds']} s")


if __name__ == "__main__":
    sys.exit(main())
