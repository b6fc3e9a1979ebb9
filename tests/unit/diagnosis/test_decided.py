"""What a decision becomes in a status: whether its load and its forecast are to be believed, and advice that nobody
carries out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nereus.api.decision import ScalingDecision
from nereus.diagnosis import status
from tests.unit.diagnosis.worlds import NOW, autoscaler, deployment, report, service, serving_pod, unix, world

Json = dict[str, Any]
DECISION = ScalingDecision(
    id="69206a7f-0",
    at=unix(0),
    replicas=4,
    known=True,
    least=1,
    most=5,
    message="load 3.1 replicas, forecast 3.2, at most 3.8 replicas at +30 s",
    load=3.14159,
    reactive=4,
    forecast=3.2,
    forecast_high=3.8,
    horizon_seconds=30.0,
    trusted=True,
    trust_message="its bounds hold",
    metrics="Fresh",
    metrics_ok=True,
)


def told(decision: ScalingDecision | None, *, mode: str | None = "Act", floor: int | None = 4, **scaling: Any) -> Json:
    """The status of a service with one pod, told the decision."""
    of = service(scaling={"strategy": "Predictive", "mode": mode, "minReplicas": 1, "maxReplicas": 5, **scaling})
    observed = world([serving_pod()], [report()], of=of, told=deployment(1), hpa=autoscaler())
    return status(replace(observed, decision=decision, floor=floor), previous={}, now=NOW)


def condition(of: Json, kind: str) -> tuple[str, str, str] | None:
    found = [(c["status"], c["reason"], c["message"]) for c in of["conditions"] if c["type"] == kind]
    return found[0] if found else None


@pytest.mark.parametrize(
    ("trusted", "message", "expected"),
    [
        (True, "its bounds hold", ("True", "BoundsHold")),
        (False, "its bounds held only 61 % of the time: reacting to the present load", ("False", "BoundsMissed")),
        (None, "less than an hour of load is known: reacting, with a wide margin", ("Unknown", "Learning")),
    ],
)
def test_forecast_trusted_has_three_answers_and_says_why(
    trusted: bool | None, message: str, expected: tuple[str, str]
) -> None:
    made = told(replace(DECISION, trusted=trusted, trust_message=message))
    assert condition(made, "ForecastTrusted") == (*expected, message)


def test_nothing_is_said_of_a_forecast_that_nobody_makes() -> None:
    assert condition(told(replace(DECISION, trusted=None, trust_message="")), "ForecastTrusted") is None
    assert condition(told(None), "ForecastTrusted") is None
    assert condition(told(DECISION, strategy="Metrics", mode=None), "ForecastTrusted") is None


@pytest.mark.parametrize(
    ("ok", "word", "expected"),
    [
        (True, "Fresh", ("True", "Fresh")),
        (True, "Slow", ("True", "Fresh")),  # too short to be told
        (None, "Recovering", ("Unknown", "Recovering")),
        (False, "NotPrometheus", ("False", "NotPrometheus")),
        (False, "a word of a later version", ("False", "NotReadYet")),
    ],
)
def test_metrics_available_names_the_state_of_the_load(ok: bool | None, word: str, expected: tuple[str, str]) -> None:
    found = condition(told(replace(DECISION, metrics=word, metrics_ok=ok)), "MetricsAvailable")
    assert found is not None
    assert found[:2] == expected
    assert ("nothing is taken away until the load is known again" in found[2]) is (ok is False)


def test_advice_explains_itself_and_has_no_floor() -> None:
    made = told(DECISION, mode="Advise", floor=None)["scaling"]
    assert made["message"].startswith("advice only: 4 pods: load 3.1 replicas, forecast 3.2")
    assert "HorizontalPodAutoscaler" in made["message"], "who does decide is told, too"
    assert (made["load"], made["reactive"], made["forecast"]) == (3.1, 4, 3.8)
    assert "floor" not in made
    assert told(DECISION)["scaling"]["floor"] == 4
