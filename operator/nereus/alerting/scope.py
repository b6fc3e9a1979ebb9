"""Over which services an expression looks, and what it is compared with: one service, or every service of a fleet.

A rule per service names its service in every selector and has its thresholds as numbers. A fleet's rules name nobody
and join the thresholds from a metric that the operator exports, so their number does not grow with the fleet.
Expressions are written once and ask the scope for the parts that differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nereus.alerting import conventions as c

PODS = f"{c.NAMESPACE}, {c.POD_SERVICE}"
"""What series of pods are grouped by."""
OPERATOR = f"{c.SERVICE_NAMESPACE}, {c.SERVICE}"
"""What the operator's series of a service are grouped by: both of its replicas may speak for a moment."""


class Scope(Protocol):
    """What an expression needs to know of the services that it is about."""

    @property
    def pace(self) -> float: ...

    def pods(self, metric: str, *matchers: str) -> str:
        """A selector of series that the pods of the services export."""
        ...

    def said(self, metric: str) -> str:
        """A selector of series in which the operator speaks of the services."""
        ...

    def beyond(self, signal: str, alert: str, *, from_pods: bool = True) -> str:
        """The signal where it is above the threshold of the alert; its value stays."""
        ...


def gauge(scope: Scope, metric: str) -> str:
    """What the operator says of the services, one value each."""
    return f"max by ({OPERATOR}) ({scope.said(metric)})"


def window(scope: Scope, seconds: float) -> str:
    """A range for `rate`; shortened together with `for` where a test sets a faster pace, at least four scrapes."""
    return promql_duration(max(20.0, seconds * scope.pace)) if scope.pace < 1 else promql_duration(seconds)


def promql_duration(seconds: float) -> str:
    """`300` -> `5m`: as Prometheus itself prints it, the largest units first."""
    left = max(0, round(seconds))
    if not left:
        return "0s"
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def number(value: float) -> str:
    """A number as Prometheus prints it: no exponent, no needless digits."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


@dataclass(frozen=True, kw_only=True)
class ServiceScope:
    """One service. `limits` are its thresholds by the alert's name."""

    namespace: str
    name: str
    limits: dict[str, float]
    pace: float = 1.0

    def pods(self, metric: str, *matchers: str) -> str:
        own = (f'{c.NAMESPACE}="{self.namespace}"', f'{c.POD_SERVICE}="{self.name}"')
        return f"{metric}{{{','.join((*own, *matchers))}}}"

    def said(self, metric: str) -> str:
        return f'{metric}{{{c.SERVICE_NAMESPACE}="{self.namespace}",{c.SERVICE}="{self.name}"}}'

    def beyond(self, signal: str, alert: str, *, from_pods: bool = True) -> str:
        del from_pods
        return f"({signal}) > {number(self.limits[alert])}"


@dataclass(frozen=True, kw_only=True)
class FleetScope:
    """Every service whose thresholds the operator exports."""

    pace: float = 1.0

    def pods(self, metric: str, *matchers: str) -> str:
        ours = f'{c.POD_SERVICE}!=""'
        return f"{metric}{{{','.join((ours, *matchers))}}}"

    def said(self, metric: str) -> str:
        return metric

    def beyond(self, signal: str, alert: str, *, from_pods: bool = True) -> str:
        if from_pods:
            limit = f'{c.THRESHOLD_RECORD}{{{c.ALERT}="{alert}"}}'
            return f"({signal}) > on ({PODS}) group_left () {limit}"
        limit = f'max by ({OPERATOR}) ({c.THRESHOLD}{{{c.ALERT}="{alert}"}})'
        return f"({signal}) > on ({OPERATOR}) group_left () {limit}"
