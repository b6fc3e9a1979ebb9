"""Stored pod templates: used again while their part of the spec stays the same, whoever renders."""

from __future__ import annotations

from nereus.api import names
from nereus.api.manifests import Manifest
from nereus.api.service import read
from nereus.api.values import Json
from nereus.workload.revision import (
    changes,
    controller_revision,
    fresh_template,
    stored_template,
)
from tests.harness.resources import service

SERVICE = read(service())


def body(image: str) -> Json:
    return {"metadata": {}, "spec": {"containers": [{"name": "triton", "image": image}]}}


def stored(image: str, inputs: str, number: int) -> Manifest:
    template, _ = fresh_template(SERVICE, body(image), inputs, ())
    return controller_revision(SERVICE, template, number)


def test_a_stored_template_is_found_by_what_it_was_made_from() -> None:
    revisions = [stored("a", "one", 1), stored("b", "two", 2)]
    found = stored_template(revisions, "one")
    assert found is not None
    template, number = found
    assert template.body == body("a")
    assert number == 1
    assert template.revision == revisions[0]["metadata"]["name"]
    assert stored_template(revisions, "three") is None


def test_the_newest_of_several_is_taken() -> None:
    found = stored_template([stored("new", "one", 7), stored("old", "one", 3)], "one")
    assert found is not None
    assert found[0].body == body("new")


def test_a_fresh_template_is_numbered_after_all_others() -> None:
    _, number = fresh_template(SERVICE, body("c"), "three", [stored("a", "one", 4), stored("b", "two", 9)])
    assert number == 10


def test_the_same_template_keeps_its_name_whatever_it_was_made_from() -> None:
    one, two = stored("a", "one", 1), stored("a", "two", 2)
    assert one["metadata"]["name"] == two["metadata"]["name"]
    assert one["data"] == two["data"], "the data of a ControllerRevision cannot be changed"
    assert two["metadata"]["annotations"] == {names.ANNOTATION_INPUTS: "two"}


def test_what_would_change_is_said_in_the_users_terms() -> None:
    assert changes(body("a"), body("a")) is None
    assert changes(body("a"), body("b")) == "spec.containers[triton].image: a -> b"
    assert changes({"spec": {}}, {"spec": {"hostname": "x"}}) == "spec.hostname: absent -> x"
    many = changes({}, {f"field{number}": number for number in range(9)})
    assert many is not None
    assert many.endswith("and 4 more")
