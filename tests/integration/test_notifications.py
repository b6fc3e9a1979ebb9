"""An alert fires and resolves, and people are told: real Prometheus, real Alertmanager with the chart's configuration.

Messages end at a local SMTP server and at a local web server (webhook and Slack's form). The pod is an exporter, as no
Triton has a queue of a given length when asked; with real Triton pods, prometheus-operator and further faults the same
is measured by `make bench BENCH=alerts`. Times of the rules are at 1/100.
"""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from bench.monitoring import Inbox, query, receivers
from localcluster.packages import ensure_tools, find_tool
from localcluster.report import Progress
from nereus.alerting import rules
from tests.harness import chart
from tests.harness.apiserver import eventually
from tests.harness.prometheus import Exporter, Pod, Prometheus, free_port
from tests.unit.alerting.test_promtool import service

pytestmark = pytest.mark.timeout(600)

SECONDS = 150.0
"""For each thing that has to come; most take a few seconds."""
ALERT = "NereusQueueBacklog"
WAYS = ("mail", "webhook", "slack")


@contextmanager
def alertmanager(folder: Path, *, mail_port: int, web: str) -> Iterator[str]:
    """Alertmanager with what the chart renders where prometheus-operator is not there; gives its HOST:PORT."""
    secret = folder / "slack-url"
    secret.write_text(f"{web}/slack")
    values = {
        "notifications.install": "ConfigMap",
        "notifications.groupWait": "1s",
        "notifications.groupInterval": "1s",
        "notifications.webhook.url": f"{web}/webhook",
        "notifications.slack.channel": "#models",
        "notifications.slack.urlFile": str(secret),
        "notifications.email.to": "oncall@example.com",
        "notifications.email.from": "nereus@example.com",
        "notifications.email.smarthost": f"127.0.0.1:{mail_port}",
        "notifications.email.requireTls": "false",
    }
    chosen = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    [config] = [
        item["data"]["alertmanager.yml"]
        for item in chart.rendered("nereus", *chosen)
        if item["kind"] == "ConfigMap" and "alertmanager.yml" in item.get("data", {})
    ]
    (folder / "alertmanager.yml").write_text(config)
    port = free_port()
    command = [
        *(str(find_tool("prometheus-alertmanager")), f"--config.file={folder / 'alertmanager.yml'}"),
        *(f"--storage.path={folder / 'alertmanager'}", f"--web.listen-address=127.0.0.1:{port}"),
        "--cluster.listen-address=",
    ]
    with (folder / "alertmanager.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)

    def lack() -> str | None:
        assert process.poll() is None, (folder / "alertmanager.log").read_text()[-3000:]
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5).close()
        except OSError as error:
            return str(error)
        return None

    try:
        eventually(lack, seconds=SECONDS)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(timeout=30)


def until_told(inbox: Inbox, way: str, *words: str, since: float = 0.0) -> None:
    eventually(
        lambda: (
            None
            if inbox.first(way, ALERT, *words, since=since) is not None
            else f"no message by {way} with {words}: {inbox.messages}"
        ),
        seconds=SECONDS,
    )


def test_an_alert_that_fires_and_one_that_is_over_reach_people_by_mail_webhook_and_slack(tmp_path: Path) -> None:
    ensure_tools("prometheus", "promtool", "prometheus-alertmanager", progress=Progress())
    exporter = Exporter()
    pod = Pod("prod", "resnet", "resnet-1", queue=130)
    exporter.add(pod)
    pages = "https://wiki.example.com/runbooks"
    rule = tmp_path / "rules.yml"
    rule.write_text(yaml.safe_dump(rules.rules_file(rules.service_group(service(), pace=0.01, runbooks=pages))))
    with (
        receivers("127.0.0.1") as (inbox, mail_port, web_port),
        alertmanager(tmp_path, mail_port=mail_port, web=f"http://127.0.0.1:{web_port}") as address,
        Prometheus(tmp_path / "prometheus", exporter, rule_files=(rule,), alertmanager=address) as prometheus,
    ):
        for way in WAYS:
            until_told(inbox, way, "requests for model m pile up")
        until_told(inbox, "webhook", '"status":"firing"', f"{pages}/{ALERT}.md")
        until_told(inbox, "webhook", "130 requests for model m of prod/resnet wait in Triton")
        assert query(prometheus.url, f'ALERTS{{alertname="{ALERT}",alertstate="firing"}}')
        pod.queue, mended = 0, time.monotonic()
        until_told(inbox, "webhook", '"status":"resolved"', since=mended)
        for way in WAYS:
            until_told(inbox, way, since=mended)
        assert not query(prometheus.url, f'ALERTS{{alertname="{ALERT}"}}')
    exporter.stop()
