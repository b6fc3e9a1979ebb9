"""The checker itself: each promise that can be broken is seen to be broken."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from nereus.diagnosis import status
from tests.harness.status_checker import check_status, kstatus
from tests.unit.diagnosis.scenarios import SCENARIOS
from tests.unit.diagnosis.worlds import NOW

Json = dict[str, Any]


def serving() -> Json:
    return {"metadata": {"generation": 3}, "status": deepcopy(status(SCENARIOS[0].world, previous={}, now=NOW))}


def condition(of: Json, kind: str) -> Json:
    found: Json = next(item for item in of["status"]["conditions"] if item["type"] == kind)
    return found


def test_a_good_status_breaks_nothing() -> None:
    assert check_status(serving()) == []


@pytest.mark.parametrize(
    ("kind", "field", "value", "words"),
    [
        ("Ready", "type", "Steady", "condition Ready is missing"),
        ("Ready", "status", "true", "is not True, False or Unknown"),
        ("Ready", "reason", "not camel", "is not CamelCase"),
        ("Ready", "reason", "AllGood", "is not a documented one"),
        ("Ready", "message", "", "the message is empty"),
        ("Ready", "message", "x" * 5000, "has 5000 characters"),
        ("Ready", "observedGeneration", 4, "ahead of generation"),
        ("Ready", "observedGeneration", 2, "is about generation 2, not 3"),
        ("Ready", "lastTransitionTime", "today", "is not RFC 3339"),
        ("Progressing", "status", "True", "and Progressing is True"),
        ("Progressing", "type", "Ready", "condition Ready is there twice"),
        ("ScalingActive", "type", "Stalled", "it is there only while it is True"),
    ],
)
def test_a_broken_condition_is_named(kind: str, field: str, value: object, words: str) -> None:
    resource = serving()
    condition(resource, kind)[field] = value
    assert any(words in line for line in check_status(resource)), check_status(resource)


def test_stalled_and_ready_exclude_each_other() -> None:
    resource = serving()
    condition(resource, "ScalingActive").update(type="Stalled", status="True")
    assert "Ready and Stalled are both True" in check_status(resource)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("observedGeneration", 4, "observedGeneration 4 is ahead of generation 3"),
        ("observedGeneration", None, "not a number"),
        ("replicas", "three", "is not ready/wanted"),
        ("reasons", [{"reason": "Crashing", "count": 1, "message": "x"}] * 11, "11 reasons"),
        ("reasons", [{"reason": "Bad", "count": 0}], "has no message"),
        ("models", [{"name": "resnet", "ready": "all"}], "has ready 'all'"),
    ],
)
def test_a_broken_part_is_named(field: str, value: object, words: str) -> None:
    resource = serving()
    resource["status"][field] = value
    assert any(words in line for line in check_status(resource)), check_status(resource)


def test_health_is_what_kstatus_would_say() -> None:
    resource = serving()
    assert kstatus(resource) == "Current"
    assert kstatus({"metadata": {"generation": 4}, "status": resource["status"]}) == "InProgress"
    assert kstatus({**resource, "metadata": {"generation": 3, "deletionTimestamp": "x"}}) == "Terminating"
    condition(resource, "Ready")["status"] = "Unknown"
    assert kstatus(resource) == "InProgress"
    condition(resource, "Progressing").update(type="Stalled", status="True")
    assert kstatus(resource) == "Failed"
