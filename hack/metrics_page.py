"""docs/metrics.md: every metric that Nereus exports, with its labels, from the code that exports them.

The operator's are read from its registry, those of services from their table, the sidecar's from a page that it
rendered, Triton's from the names that rules and dashboards use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

from nereus.agent.exposition import Exposition
from nereus.alerting import conventions as c
from nereus.controller.main import Operator
from nereus.controller.metrics import PREFIX, Metrics
from nereus.controller.servicemetrics import HELP
from nereus.gpu.usage import NodeUsage
from nereus.sidecar import metrics as sidecar
from nereus.sidecar.state import Board, Moments, Record

_INTRODUCTION = """
Names end in their unit, counters in `_total`. Nothing has an object's name as a label except where it says so: the
series of a service and of its models. Times are in seconds, as Prometheus has it; Triton's own are in microseconds.

Labels of ours never have the name of a target label (`namespace`, `pod`, `service`, ...), so no scrape renames them.
"""
"""Words before the tables."""


def page(*, notice: str) -> str:
    lines = [f"<!-- {notice} -->", "# Metrics", _INTRODUCTION]
    lines += ["## The operator", "", "Port 8080, `/metrics`. One of its replicas leads; sum or take the maximum.", ""]
    lines += [*_table(_operator()), ""]
    lines += ["## Each ModelService, from the operator", ""]
    lines += [
        f"Labels `{c.SERVICE_NAMESPACE}` and `{c.SERVICE}`; only the leader exports them. Absent while unknown.",
        "",
    ]
    lines += [*_table((name, "gauge", _more(name), text) for name, text in HELP.items()), ""]
    lines += [
        "## Each pod, from the sidecar",
        "",
        "Port 8003, `/metrics`. Label `model` where it is about a model.",
        "",
    ]
    lines += [*_table(_sidecar()), ""]
    lines += [
        "## Each GPU node, from the agent",
        "",
        "Port 9410, `/metrics`. A series for each container and device; `modelservice` is empty for pods of others.",
        "",
    ]
    lines += [*_table(_agent()), ""]
    lines += ["## Each pod, from Triton", "", "Port 8002, `/metrics`. Those that alerts and dashboards use:", ""]
    names = sorted(value for name, value in vars(c).items() if name.isupper() and str(value).startswith("nv_"))
    lines += [f"* `{name}`" for name in names]
    return "\n".join(lines) + "\n"


def _more(name: str) -> str:
    return {c.NOT_READY: "reason", c.THRESHOLD: "alert"}.get(name, "")


def _table(rows: Iterator[tuple[str, str, str, str]]) -> Iterator[str]:
    yield "| metric | type | labels | meaning |"
    yield "|---|---|---|---|"
    for name, kind, labels, text in rows:
        yield f"| `{name}` | {kind} | {labels} | {text} |"


def _operator() -> Iterator[tuple[str, str, str, str]]:
    for collector in vars(Metrics()).values():
        for family in collector.describe() if hasattr(collector, "describe") else ():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            yield name, family.type, ", ".join(getattr(collector, "_labelnames", ())), family.documentation
    # What is read only when somebody asks: the names and words do not depend on what is read.
    empty: Any = Mock()
    for part in (empty.auditor.ages, empty.store.counts):
        part.return_value = {}
    empty.statuses.reasons = {}
    empty.leadership.held = False
    for part in ("oldest_waiting_seconds", "longest_working_seconds"):
        getattr(empty.queue, part).return_value = 0.0
    empty.queue.depth = 0
    for name, (text, label, _) in Operator._gauges(empty).items():
        yield f"{PREFIX}_{name}", "gauge", label, text


def _agent() -> Iterator[tuple[str, str, str, str]]:
    for family in Exposition(lambda: NodeUsage(node=""), lambda _namespace, _pod: "").collect():
        yield family.name, family.type, ", ".join(getattr(family, "_labelnames", ())), family.documentation


def _sidecar() -> Iterator[tuple[str, str, str, str]]:
    board = Board(revision="r", moments=Moments(started_at=1.0, fetched_at=1.0, server_live_at=1.0, ready_at=1.0))
    board.records["m"] = Record(name="m", fetch_seconds=1.0, fetched_bytes=1, load_seconds=1.0)
    text = sidecar.render(board)
    for name, about in re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE):
        kind = re.findall(rf"^# TYPE {name} (\S+)$", text, re.MULTILINE)[0]
        yield name, kind, "model" if f"{name}{{" in text else "", about
