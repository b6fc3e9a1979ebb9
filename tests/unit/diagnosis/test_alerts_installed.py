"""AlertsInstalled is True only when Prometheus lists the rules; every other answer says what to do."""

from __future__ import annotations

import pytest

from nereus.api.conditions import Truth
from nereus.api.reasons import Reason
from nereus.diagnosis.alerts import AlertsInUse, Loading, condition


def said(**given: object) -> tuple[Truth, Reason, str]:
    seen = AlertsInUse(**{"way": "Service", "known": True, "wished": 12, **given})  # type: ignore[arg-type]
    made = condition(seen, name="resnet")
    return made.status, made.reason, made.message


def test_it_is_true_only_when_prometheus_lists_the_rules() -> None:
    truths = {loading: said(loading=loading)[0] for loading in Loading}
    assert [loading for loading, truth in truths.items() if truth is Truth.TRUE] == [Loading.LOADED]


@pytest.mark.parametrize(
    ("given", "truth", "reason", "words"),
    [
        ({"loading": Loading.MISSING}, Truth.FALSE, Reason.RULES_NOT_LOADED, "ruleSelector"),
        ({"loading": Loading.OUTDATED, "words": "A"}, Truth.FALSE, Reason.RULES_NOT_LOADED, "(A)"),
        ({"loading": Loading.FAILING, "words": "many"}, Truth.FALSE, Reason.RULES_REFUSED, "many"),
        ({"loading": Loading.PENDING}, Truth.UNKNOWN, Reason.RULES_PENDING, "not loaded them yet"),
        ({"loading": Loading.UNREACHABLE, "words": "refused"}, Truth.UNKNOWN, Reason.RULES_UNVERIFIED, "refused"),
        ({"loading": Loading.UNASKED}, Truth.UNKNOWN, Reason.RULES_UNVERIFIED, "prometheus.url"),
        ({"known": False}, Truth.FALSE, Reason.NO_RULE_KIND, "prometheus-operator"),
        ({"refused": "Invalid: bad"}, Truth.FALSE, Reason.RULES_REFUSED, "those before stay: Invalid: bad"),
        ({"wished": 0}, Truth.FALSE, Reason.ALERTS_OFF, "spec.alerts.disable"),
        ({"way": "None"}, Truth.FALSE, Reason.ALERTS_OFF, "alerts.rules"),
        ({"way": "Fleet", "known": False, "loading": Loading.MISSING}, Truth.FALSE, Reason.RULES_NOT_LOADED, "fleet"),
    ],
)
def test_everything_else_says_what_to_do(given: dict[str, object], truth: Truth, reason: Reason, words: str) -> None:
    status, because, message = said(**given)
    assert (status, because) == (truth, reason)
    assert words in message
