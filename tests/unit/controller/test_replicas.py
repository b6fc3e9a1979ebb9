"""Who sets the number of pods."""

from __future__ import annotations

from typing import Any

import pytest

from nereus.api.decision import ScalingDecision
from nereus.api.service import ModelService, read
from nereus.controller.replicas import Way, Wish, applied, created, scaled, served, wish
from nereus.scaling.hpa import METRIC
from tests.harness.resources import service


def wished(**scaling: Any) -> ModelService:
    return read(service(scaling=scaling))


def deployment(replicas: int) -> dict[str, Any]:
    return {"metadata": {"name": "svc", "resourceVersion": "7"}, "spec": {"replicas": replicas, "template": {}}}


@pytest.mark.parametrize(
    ("scaling", "live", "expected"),
    [
        ({"minReplicas": 2, "maxReplicas": 5}, 0, Wish(2, Way.SCALE)),
        ({"minReplicas": 2, "maxReplicas": 5}, 1, Wish(2, Way.SCALE)),
        ({"minReplicas": 2, "maxReplicas": 5}, 2, None),
        ({"minReplicas": 2, "maxReplicas": 5}, 5, None),
        ({"minReplicas": 2, "maxReplicas": 5}, 9, None),
        ({}, 1, None),
        ({"strategy": "Manual", "replicas": 3}, 3, None),
        ({"strategy": "Manual", "replicas": 3}, 1, Wish(3, Way.APPLY)),
        ({"strategy": "Manual", "replicas": 3}, 9, Wish(3, Way.APPLY)),
        ({"strategy": "Manual", "replicas": 0}, 1, Wish(0, Way.APPLY)),
        ({"strategy": "Manual"}, 4, Wish(1, Way.APPLY)),
    ],
)
def test_the_number_is_lifted_to_the_floor_or_set_by_hand_and_never_lowered_otherwise(
    scaling: dict[str, Any], live: int, expected: Wish | None
) -> None:
    assert wish(wished(**scaling), deployment(live), floor=wished(**scaling).min_replicas) == expected


def test_the_floor_is_written_only_to_the_deployment_that_was_looked_at() -> None:
    assert scaled(deployment(1), 3) == {"metadata": {"resourceVersion": "7"}, "spec": {"replicas": 3}}


def test_the_replicas_manager_names_nothing_but_replicas() -> None:
    assert applied(wished(), 3)["spec"] == {"replicas": 3}


def test_a_deployment_is_created_with_its_number_only_when_the_number_is_ours() -> None:
    first = created(wished(strategy="Manual", replicas=0), deployment(1))
    assert first is not None
    assert first["spec"] == {"replicas": 0, "template": {}}
    assert created(wished(strategy="Manual"), deployment(1)) is None
    assert created(wished(minReplicas=3), deployment(1)) is None


def autoscaler(floor: int, metric: str = METRIC) -> dict[str, Any]:
    return {"spec": {"minReplicas": floor, "metrics": [{"type": "External", "external": {"metric": {"name": metric}}}]}}


def decided(replicas: int, *, known: bool) -> ScalingDecision:
    return ScalingDecision(id="1", at=0.0, replicas=replicas, known=known, least=1, most=9, message="")


@pytest.mark.parametrize(
    ("decision", "leads", "expected"),
    [
        (decided(2, known=True), True, 2),  # also below the floor that was written last
        (decided(6, known=False), True, 6),
        (decided(2, known=True), False, 3),
        # Five pods are there, two more than the floor: somebody had a reason, and nobody knows yet if it is over.
        (decided(7, known=False), False, 5),
        (None, False, 5),
        (None, True, 5),
    ],
)
def test_an_autoscaler_reads_the_decision_and_before_there_is_one_the_pods_that_are_there(
    decision: ScalingDecision | None, leads: bool, expected: int
) -> None:
    read = served(decision, leads=leads, autoscaler=lambda: autoscaler(3), deployment=lambda: deployment(5))
    assert read == expected
    below = served(None, leads=leads, autoscaler=lambda: autoscaler(3), deployment=lambda: deployment(1))
    assert below == 3, "never less than the floor"


@pytest.mark.parametrize("leads", [False, True])
def test_an_autoscaler_that_reads_no_decision_is_served_none(leads: bool) -> None:
    assert (
        served(None, leads=leads, autoscaler=lambda: autoscaler(3, "other"), deployment=lambda: deployment(5)) is None
    )
    assert served(None, leads=leads, autoscaler=lambda: None, deployment=lambda: None) is None
