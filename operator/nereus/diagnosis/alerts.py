"""AlertsInstalled: whether the alerts of a service would really fire, and what to do when they would not.

A PrometheusRule that nobody selects looks exactly like one that works. So True is said only when Prometheus itself
lists the rules as loaded; everything else is False or Unknown with the next step.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nereus.api.conditions import Condition, Truth
from nereus.api.reasons import ConditionType, Reason


class Loading(StrEnum):
    """What Prometheus says of the rules."""

    UNASKED = "Unasked"
    UNREACHABLE = "Unreachable"
    PENDING = "Pending"
    MISSING = "Missing"
    OUTDATED = "Outdated"
    FAILING = "Failing"
    LOADED = "Loaded"


@dataclass(frozen=True, kw_only=True)
class AlertsInUse:
    """`way` is Service, Fleet or None; `known` whether the cluster has the kind PrometheusRule; `wished` the number of
    alerts that the service has; `refused` the API server's words; `words` those of Prometheus."""

    way: str = "None"
    known: bool = False
    wished: int = 0
    refused: str = ""
    loading: Loading = Loading.UNASKED
    words: str = ""


def condition(seen: AlertsInUse, *, name: str) -> Condition:
    """The condition; the first obstacle on the way to a firing alert speaks."""
    truth, reason, message = _verdict(seen, name)
    return Condition(type=ConditionType.ALERTS_INSTALLED, status=truth, reason=reason, message=message)


def _verdict(seen: AlertsInUse, name: str) -> tuple[Truth, Reason, str]:
    if seen.way == "None":
        return (
            Truth.FALSE,
            Reason.ALERTS_OFF,
            "alerts are switched off for this installation (chart value alerts.rules)",
        )
    if not seen.wished:
        return Truth.FALSE, Reason.ALERTS_OFF, "spec.alerts.disable names every alert"
    if seen.way == "Service" and not seen.known:
        return (
            Truth.FALSE,
            Reason.NO_RULE_KIND,
            (
                "the cluster has no kind PrometheusRule; install prometheus-operator, or give Prometheus the fleet's"
                " rules (`nereus render --rules fleet`) and set the chart value alerts.rules=Fleet"
            ),
        )
    if seen.refused:
        return Truth.FALSE, Reason.RULES_REFUSED, f"the rules were refused, those before stay: {seen.refused}"
    return _asked(seen, name)


def _asked(seen: AlertsInUse, name: str) -> tuple[Truth, Reason, str]:
    """What Prometheus itself answers."""
    subject = "the fleet's rules" if seen.way == "Fleet" else f"PrometheusRule {name}"
    count = f"{seen.wished} alerts"
    match seen.loading:
        case Loading.LOADED:
            return Truth.TRUE, Reason.RULES_LOADED, f"Prometheus has loaded {count}"
        case Loading.UNASKED:
            return (
                Truth.UNKNOWN,
                Reason.RULES_UNVERIFIED,
                (
                    f"{subject} with {count} is there, and nobody was asked whether it is loaded: set the chart value"
                    " prometheus.url"
                ),
            )
        case Loading.UNREACHABLE:
            return Truth.UNKNOWN, Reason.RULES_UNVERIFIED, f"Prometheus cannot be asked: {seen.words}"
        case Loading.PENDING:
            return Truth.UNKNOWN, Reason.RULES_PENDING, f"{count} were written; Prometheus has not loaded them yet"
        case Loading.FAILING:
            return Truth.FALSE, Reason.RULES_REFUSED, f"Prometheus cannot evaluate the rules: {seen.words}"
        case Loading.OUTDATED:
            return (
                Truth.FALSE,
                Reason.RULES_NOT_LOADED,
                (f"Prometheus still has other rules than {subject} holds ({seen.words}): could it reload?"),
            )
        case _:
            return (
                Truth.FALSE,
                Reason.RULES_NOT_LOADED,
                (
                    f"Prometheus does not know the rules: nobody selects {subject}. Compare labels and namespace with"
                    " ruleSelector and ruleNamespaceSelector of the Prometheus object; chart value alerts.ruleLabels"
                    " adds labels"
                ),
            )
