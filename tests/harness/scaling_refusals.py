"""Refused ModelServices whose mistake lies in `spec.scaling` or `spec.alerts`; part of the table in refusals.py."""

from __future__ import annotations

from typing import Any

from tests.harness.resources import Refusal, of_spec, service

_SCHEDULE = {"name": "office", "timeZone": "Europe/Berlin", "from": "08:00", "to": "18:00", "minReplicas": 3}


def _scheduled(fact: str, *words: str, **fields: Any) -> Refusal:
    """Two to four pods with one schedule, which has these fields instead; None takes a field away."""
    entry = {name: value for name, value in {**_SCHEDULE, **fields}.items() if value is not None}
    return of_spec(fact, *words, scaling={"minReplicas": 2, "maxReplicas": 4, "schedules": [entry]})


SCALING_REFUSED = (
    of_spec("replicas without Manual", "scaling.replicas", "set strategy Manual", scaling={"replicas": 2}),
    of_spec(
        "Manual with a range", "strategy Manual", "remove minReplicas", scaling={"strategy": "Manual", "minReplicas": 1}
    ),
    of_spec(
        "a range upside down", "scaling.minReplicas", "raise maxReplicas", scaling={"minReplicas": 3, "maxReplicas": 2}
    ),
    of_spec(
        "a metric without its source",
        "metrics[0]",
        "field of that name",
        scaling={"maxReplicas": 2, "metrics": [{"type": "Resource"}]},
    ),
    Refusal(
        "a strategy that does not exist",
        service(scaling={"strategy": "Magic"}),
        read_words=("spec.scaling.strategy", "Manual"),
        server_words=("spec.scaling.strategy", "supported values", "Manual"),
    ),
    of_spec(
        "a mode under strategy Metrics",
        "scaling.mode",
        "set one of these strategies",
        scaling={"strategy": "Metrics", "mode": "Advise"},
    ),
    of_spec(
        "an objective under strategy Manual",
        "objective",
        "set one of these strategies",
        scaling={"strategy": "Manual", "objective": {"latency": "1s"}},
    ),
    of_spec(
        "a forecast under strategy Reactive",
        "strategy Reactive forecasts nothing",
        "remove scaling.forecast",
        scaling={"strategy": "Reactive", "forecast": {"horizon": "1m"}},
    ),
    of_spec("an objective of no time", "objective.latency", "1ms", "10m", scaling={"objective": {"latency": "0s"}}),
    of_spec(
        "an objective that most requests miss",
        "objective.violations",
        "0.5%",
        scaling={"objective": {"violations": "51%"}},
    ),
    of_spec("a past of minutes", "forecast.history", "1h", "336h", scaling={"forecast": {"history": "5m"}}),
    of_spec(
        "a past longer than what is remembered",
        "scaling.forecast.history",
        "336h",
        scaling={"strategy": "Predictive", "forecast": {"history": "337h"}},
    ),
    of_spec("a look ahead of hours", "forecast.horizon", "10s", "15m", scaling={"forecast": {"horizon": "2h"}}),
    _scheduled("a schedule that does nothing", "does nothing", "give one of them", minReplicas=None),
    _scheduled(
        "a schedule upside down", "the schedule's minReplicas", "raise maxReplicas", minReplicas=3, maxReplicas=2
    ),
    _scheduled("a schedule above the most pods", "above scaling.maxReplicas", "lower it", minReplicas=5),
    _scheduled(
        "a schedule below the fewest pods", "below scaling.minReplicas", "raise it", minReplicas=None, maxReplicas=1
    ),
    _scheduled("a zone of no place", "timeZone", "Europe/Berlin", timeZone="+02:00"),
    _scheduled("a schedule from an hour of no day", "from", "08:30", **{"from": "24:00"}),
    _scheduled("a schedule to a time without minutes", "to", "08:30", to="8 pm"),
    # alerts
    of_spec("an alert on a latency of hours", "alerts.latency", "1ms", "10m", alerts={"latency": "1h"}),
    of_spec(
        "an alert on more memory than there is", "gpuMemory.above", "100%", alerts={"gpuMemory": {"above": "101%"}}
    ),
    of_spec("an alert on no failed load", "loadFailures.above", "100%", alerts={"loadFailures": {"above": "0%"}}),
    of_spec("an alert on a share that is none", "errors.above", "0.5%", alerts={"errors": {"above": "1"}}),
    of_spec(
        "a label that Nereus sets", "alerts.labels", "severity", "rename the key", alerts={"labels": {"severity": "x"}}
    ),
    of_spec(
        "a label that is a template",
        "alerts.labels",
        "write plain text",
        alerts={"labels": {"team": "{{ $value }}"}},
    ),
    of_spec(
        "an annotation that Nereus sets",
        "alerts.annotations",
        "runbook_url",
        "rename the key",
        alerts={"annotations": {"summary": "x"}},
    ),
    of_spec(
        "an annotation that is a template",
        "alerts.annotations",
        "write plain text",
        alerts={"annotations": {"wiki": "{{ $value }}"}},
    ),
)
