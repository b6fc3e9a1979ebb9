"""Reading a ModelService: what is refused, in which words, and what the typed values say."""

from __future__ import annotations

import copy
import datetime
import re
from collections.abc import Collection, Iterator
from typing import Any

import pytest

from nereus.api import crd
from nereus.api import service as reading
from nereus.api.problems import InvalidSpecError
from nereus.api.service import ModelService
from tests.harness.refusals import REFUSED
from tests.harness.resources import ACCEPTED, MODEL, Json, Refusal, service, with_model


@pytest.mark.parametrize("resource", ACCEPTED.values(), ids=list(ACCEPTED))
def test_a_good_resource_is_read(resource: Json) -> None:
    read = reading.read(resource)
    assert read.name == resource["metadata"]["name"]
    assert len(read.models) == len(resource["spec"].get("models", ()))


@pytest.mark.parametrize("refusal", REFUSED, ids=str)
def test_a_bad_resource_is_refused_with_field_and_remedy(refusal: Refusal) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        reading.read(refusal.resource)
    for word in refusal.read_words or refusal.words:
        assert word in str(caught.value)


def _rules_by_place(schema: Json, place: str) -> Iterator[tuple[str, str]]:
    """The sentence of every rule in the definition, with the place of its value; list entries are `[]`, keys `{}`."""
    yield from ((place, rule["message"]) for rule in schema.get("x-kubernetes-validations", ()))
    for name, child in schema.get("properties", {}).items():
        yield from _rules_by_place(child, f"{place}.{name}")
    for marker, keyword in (("[]", "items"), ("{}", "additionalProperties")):
        if keyword in schema:
            yield from _rules_by_place(schema[keyword], f"{place}{marker}")


def _is_at(path: str, place: str) -> bool:
    """Whether a path of a resource is of this place of the definition."""
    pattern = re.escape(place).replace(re.escape("[]"), r"\[\d+\]").replace(re.escape("{}"), r"\..+")
    return re.fullmatch(pattern, path) is not None


def _broken(refusal: Refusal, rules: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """The rules of the definition that a refused resource breaks.

    A rule is told by its sentence. Types with rules of their own (durations, percentages, sources) say it in other
    words when they are read: there it is the one rule of the place with the words that the API server must say.
    """
    with pytest.raises(InvalidSpecError) as caught:
        reading.read(refusal.resource)
    found: set[tuple[str, str]] = set()
    for problem in caught.value.problems:
        here = {(place, sentence) for place, sentence in rules if _is_at(problem.path, place)}
        said = {rule for rule in here if rule[1] in problem.message}
        words = refusal.server_words or refusal.words
        meant = {rule for rule in here if all(word in f"{problem.path}: {rule[1]}" for word in words)}
        found |= said or (meant if len(meant) == 1 else set())
    return found


def test_every_rule_of_the_definition_refuses_a_resource_of_the_table() -> None:
    schema = crd.custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    of_the_name = {("metadata.name", rule["message"]) for rule in schema["x-kubernetes-validations"]}
    rules = of_the_name | set(_rules_by_place(schema["properties"]["spec"], "spec"))
    assert len(rules) > 100
    assert rules - set().union(*(_broken(refusal, rules) for refusal in REFUSED)) == set()


def test_every_problem_is_reported_and_not_only_the_first() -> None:
    resource = service("Bad", suspend="yes", endpoint={"connectionAge": "5h"}, models=[{**MODEL, "maxBatchSize": "4"}])
    with pytest.raises(InvalidSpecError) as caught:
        reading.read(resource)
    assert [problem.path for problem in caught.value.problems] == [
        "metadata.name",
        "spec.models[0].maxBatchSize",
        "spec.endpoint.connectionAge",
        "spec.suspend",
    ]


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        ({"metadata": {"name": "a"}}, "spec"),
        ({"metadata": {"name": "a"}, "spec": []}, "spec"),
        ({"metadata": {"name": "a"}, "spec": "models"}, "spec"),
        ({"metadata": ["a"], "spec": {"models": [MODEL]}}, "metadata"),
        ({"spec": {"models": [MODEL]}}, "metadata.name"),
        ({"metadata": {"name": "a"}, "spec": {"models": {"m": 1}}}, "spec.models"),
    ],
)
def test_something_that_is_no_model_service_is_refused_and_not_a_crash(resource: Json, path: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        reading.read(resource)
    assert path in {problem.path for problem in caught.value.problems}


def test_a_date_that_yaml_made_of_an_argument_is_the_text_it_was() -> None:
    read = reading.read(service(runtime={"args": [datetime.date(2026, 1, 31)]}))
    assert read.runtime.args == ("2026-01-31",)


def test_reading_changes_nothing_in_the_object() -> None:
    for resource in ACCEPTED.values():
        before = copy.deepcopy(resource)
        reading.read(resource)
        assert resource == before


def _read(**spec: Any) -> ModelService:
    return reading.read(service(**spec))


def test_an_absent_field_is_what_its_description_says() -> None:
    read = _read()
    assert (read.ports.http, read.ports.grpc, read.ports.metrics) == (8000, 8001, 8002)
    assert (read.min_replicas, read.max_replicas, read.strategy.value) == (1, 1, "Metrics")
    assert (str(read.connection_age), str(read.connection_age_grace)) == ("30s", "10s")
    assert (read.namespace, read.suspended, read.rollout_request) == ("default", False, "")


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ({"minReplicas": 3}, (3, 3)),
        ({"maxReplicas": 4}, (1, 4)),
        ({"minReplicas": 2, "maxReplicas": 5}, (2, 5)),
    ],
)
def test_the_range_of_replicas_is_completed_from_what_is_given(scaling: Json, expected: tuple[int, int]) -> None:
    read = _read(scaling=scaling)
    assert (read.min_replicas, read.max_replicas) == expected


def test_replicas_under_manual_may_be_zero() -> None:
    assert _read(scaling={"strategy": "Manual", "replicas": 0}).manual_replicas == 0
    assert _read(scaling={"strategy": "Manual"}).manual_replicas == 1


def test_the_preferred_sizes_of_a_model_are_at_hand() -> None:
    read = reading.read(with_model(maxBatchSize=8, batching={"preferredBatchSizes": [4, 8]}))
    assert read.models[0].preferred_batch_sizes == (4, 8)
    assert _read().models[0].preferred_batch_sizes == ()
