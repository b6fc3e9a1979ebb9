"""One alert, said without Prometheus: what is wrong, how it is measured, from when on, and who is to be woken.

The expression is a function of a scope (see `scope`), so that one description serves a rule per service and one rule
for a whole fleet. Times carry their reason: a `for` that nobody can explain is one that nobody dares to change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from nereus.alerting.scope import Scope
from nereus.alerting.thresholds import Thresholds


class Severity(StrEnum):
    """`critical` wakes somebody; `warning` is for working hours; `none` is no alert but a sign of life."""

    CRITICAL = "critical"
    WARNING = "warning"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One alert.

    `threshold` gives the number that the signal is compared with, in the signal's own unit; None when a service has
    no such alert. `shown` writes that number for people. `summary` and `description` are Prometheus templates: they
    may hold `$value` and `$labels`, and `{limit}` and `{service}` which are filled in when the rule is made.
    """

    name: str
    severity: Severity
    summary: str
    description: str
    expression: Callable[[Scope], str]
    threshold: Callable[[Thresholds], float | None]
    shown: Callable[[float], str]
    for_seconds: float
    for_reason: str
    keep_seconds: float
    keep_reason: str
    from_pods: bool = True
    """Whether the signal comes from series of the service's pods; otherwise from the operator's."""
