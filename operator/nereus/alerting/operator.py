"""The alerts about Nereus itself: they stand in the chart, because nobody else would say that the operator is gone.

The last one always fires: a receiver that expects it notices when Prometheus, Alertmanager or the way to it is dead.
"""

from __future__ import annotations

from dataclasses import dataclass

from nereus.alerting import conventions as c
from nereus.alerting.alert import Severity

STUCK_SECONDS = 300


@dataclass(frozen=True, kw_only=True)
class OperatorAlert:
    """An alert with its expression as it stands."""

    name: str
    severity: Severity
    summary: str
    description: str
    expression: str
    for_seconds: float
    for_reason: str
    keep_seconds: float
    keep_reason: str


ALERTS: tuple[OperatorAlert, ...] = (
    OperatorAlert(
        name="NereusOperatorDown",
        severity=Severity.CRITICAL,
        summary="The Nereus operator is not there",
        description="Prometheus reads no metrics of any replica of the operator: it is down, or it is not scraped."
        " Pods go on serving and nothing scales down; forecasts, changes and most alerts of services stand still.",
        expression=f"absent({c.LEADER})",
        for_seconds=300,
        for_reason="an upgrade or a lost node is over by then; the standby takes over within seconds",
        keep_seconds=120,
        keep_reason="an operator that crashes again and again is there for a moment each time",
    ),
    OperatorAlert(
        name="NereusOperatorNotReconciling",
        severity=Severity.CRITICAL,
        summary="The Nereus operator does not work",
        description=f"For {STUCK_SECONDS // 60} minutes either no replica has led, or a service has waited, or one look"
        " at a service has gone on (the value: seconds, or 0 for no leader). Changes of ModelServices are not"
        " carried out.",
        expression=f"max({c.LEADER}) == 0 or max({c.QUEUE_OLDEST}) > {STUCK_SECONDS}"
        f" or max({c.WORKING}) > {STUCK_SECONDS}",
        for_seconds=300,
        for_reason="a start with thousands of services, or an API server that restarts, takes a few minutes",
        keep_seconds=120,
        keep_reason="work that hangs is ended and hangs again",
    ),
    OperatorAlert(
        name="NereusWatchdog",
        severity=Severity.NONE,
        summary="Alerts reach you",
        description="This alert always fires. Send it to a receiver that complains when it stops: then Prometheus,"
        " Alertmanager or the way between is broken.",
        expression="vector(1)",
        for_seconds=0,
        for_reason="it is always true",
        keep_seconds=0,
        keep_reason="it never ends",
    ),
)
