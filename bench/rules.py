"""What alert rules cost a Prometheus: evaluation time and series, for 1 and 1,000 services, per service and as a fleet.

A real Prometheus (Debian's) scrapes a page with the series of two pods of one model for each service, as Triton and the
sidecar export them, and what the operator says of it; traffic flows. Measured: how long one evaluation of all groups
takes (`prometheus_rule_group_last_duration_seconds`, summed), how many series the rules read and make, and the answer
of /api/v1/rules, which AlertsInstalled reads.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from bench.monitoring import query
from localcluster.packages import ensure_tools, find_tool
from localcluster.report import Progress
from nereus.alerting import conventions as c
from nereus.alerting import rules
from nereus.alerting.thresholds import thresholds
from nereus.api.service import ModelService, read
from nereus.controller.servicemetrics import ServiceMetrics
from nereus.controller.store import Key

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
INTERVAL_SECONDS = 15
COUNTERS = (c.SUCCESS, c.DURATION_US, c.QUEUE_US, c.INFERENCES, c.EXECUTIONS, c.LOADS, c.LOAD_FAILURES)
STATUS = {
    "replicas": "2/2",
    "resolved": {"minReplicas": 1, "maxReplicas": 4},
    "coldStart": {"p95": 30.0},
    "conditions": [
        {"type": "Ready", "status": "True", "reason": "Serving"},
        {"type": "ScalingActive", "status": "True", "reason": "Scaling"},
    ],
}


def service(number: int) -> ModelService:
    spec = {"models": [{"name": "m", "source": {"uri": "configmap://m"}}], "scaling": {"maxReplicas": 4}}
    return read({"metadata": {"name": f"svc-{number}", "namespace": "fleet"}, "spec": spec})


def page(services: list[ModelService], *, fleet: bool) -> str:
    """What all pods and the operator export now; counters grow with the clock."""
    elapsed = time.monotonic() * 10
    lines = []
    for one in services:
        for pod in ("a", "b"):
            own = f'{c.NAMESPACE}="fleet",{c.POD_SERVICE}="{one.name}",pod="{one.name}-{pod}",model="m",version="1"'
            lines += [f"{name}{{{own}}} {elapsed:.0f}" for name in COUNTERS]
            lines += [
                f'{c.FAILURE}{{{own},reason="{reason}"}} 0' for reason in ("REJECTED", "BACKEND", "OTHER", "CANCELED")
            ]
            lines.append(f"{c.PENDING}{{{own}}} 1")
    metrics = ServiceMetrics()
    for one in services:
        limits = rules.limits(thresholds(one)) if fleet else {}
        metrics.put(Key("fleet", one.name), STATUS, latency_seconds=0.5, limits=limits)
    return "\n".join(lines) + "\n" + metrics.render()


def measure(count: int, *, fleet: bool, seconds: float) -> Json:
    services = [service(number) for number in range(count)]
    groups = [rules.fleet_group()] if fleet else [rules.service_group(one) for one in services]

    class Exporter(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page(services, fleet=fleet).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "rules.yml").write_text(yaml.dump(rules.rules_file(*groups), Dumper=yaml.CSafeDumper))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        targets = {"fleet": server.server_address[1], "prometheus": port}
        jobs = [
            {"job_name": name, "honor_labels": True, "static_configs": [{"targets": [f"127.0.0.1:{at}"]}]}
            for name, at in targets.items()
        ]
        every = f"{INTERVAL_SECONDS}s"
        config = {
            "global": {"scrape_interval": every, "evaluation_interval": every},
            "rule_files": [str(folder / "rules.yml")],
            "scrape_configs": jobs,
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))
        command = [str(find_tool("prometheus")), f"--config.file={folder / 'prometheus.yml'}"]
        command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                return _read(f"http://127.0.0.1:{port}", seconds)
            finally:
                process.kill()  # nothing of it is kept
                server.shutdown()


def _read(url: str, seconds: float) -> Json:
    time.sleep(seconds)
    found = {
        "evaluation_seconds": "sum(prometheus_rule_group_last_duration_seconds)",
        "cpu_seconds_per_minute": '60 * rate(process_cpu_seconds_total{job="prometheus"}[1m])',
        "rules": "sum(prometheus_rule_group_rules)",
        "failures": "sum(prometheus_rule_evaluation_failures_total)",
        "missed": "sum(prometheus_rule_group_iterations_missed_total)",
        "series_read": 'count({job="fleet"})',
        "series_made": 'count({__name__=~"ALERTS.*|nereus:.*"}) or vector(0)',
        "series_of_thresholds": f"count({c.THRESHOLD}) or vector(0)",
    }
    row = {name: float(answer[0]["value"][1]) if (answer := query(url, text)) else None for name, text in found.items()}
    began = time.monotonic()
    with urllib.request.urlopen(f"{url}/api/v1/rules?type=alert", timeout=60) as answer:  # noqa: S310
        row["rules_answer_bytes"] = len(answer.read())
    row["rules_answer_seconds"] = round(time.monotonic() - began, 3)
    return row


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench BENCH=rules BENCH_ARGS=", description=__doc__)
    parser.add_argument("--services", type=int, nargs="+", default=[1, 1000])
    parser.add_argument("--seconds", type=float, default=150, help="how long each Prometheus runs before it is read")
    given = parser.parse_args()
    ensure_tools("prometheus", progress=Progress())
    rows = [
        {
            "services": count,
            "mode": "Fleet" if fleet else "Service",
            **measure(count, fleet=fleet, seconds=given.seconds),
        }
        for count in given.services
        for fleet in (False, True)
    ]
    folder = ROOT / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rules.json").write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        sys.stdout.write(json.dumps(row) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
