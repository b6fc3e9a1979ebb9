"""Who sets the number of pods."""

from __future__ import annotations

from typing import Any

import pytest

from nereus.api.service import ModelService, read
from nereus.controller.replicas import Way, Wish, applied, created, scaled, wish
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
