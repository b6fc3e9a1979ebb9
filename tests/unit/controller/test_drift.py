"""When is a live object as it is wished? Facts about the comparison that decides every write."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hack import quick_yaml
from nereus.api import names
from nereus.controller.drift import differences, stamped
from tests.golden.write import EXPECTED

GOLDENS = [
    document
    for path in sorted(EXPECTED.glob("*.yaml"))
    for document in quick_yaml.load_all(path.read_text(encoding="utf-8"))
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4))
def test_an_object_is_as_itself(manifest: dict[str, Any]) -> None:
    assert differences(manifest, copy.deepcopy(manifest)) == ()


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4), json_values)
def test_the_comparison_is_total(desired: dict[str, Any], live: Any) -> None:
    assert isinstance(differences({"x": desired}, {"x": live}), tuple)


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda item: f"{item['kind']}-{item['metadata']['name'][:20]}")
def test_what_the_api_server_adds_is_no_difference(golden: dict[str, Any]) -> None:
    live = copy.deepcopy(golden)
    live["metadata"] |= {"uid": "u", "resourceVersion": "7", "managedFields": [{}], "generation": 3}
    live["status"] = {"replicas": 1}
    for container in live.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
        container["terminationMessagePath"] = "/dev/termination-log"
        container.setdefault("env", []).append({"name": "INJECTED", "value": "1"})
    assert differences(golden, live) == ()


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda item: f"{item['kind']}-{item['metadata']['name'][:20]}")
def test_every_single_value_that_is_lost_is_noticed(golden: dict[str, Any]) -> None:
    for path in leaves(golden):
        live = copy.deepcopy(golden)
        holder: Any = live
        for step in path[:-1]:
            holder = holder[step]
        value = holder[path[-1]]
        if value in ("", None):
            continue
        holder[path[-1]] = "something else"
        assert differences(golden, live), f"{path} may be changed unnoticed"


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [leaf for name, item in value.items() for leaf in leaves(item, (*path, name))]
    if isinstance(value, list):
        return [leaf for index, item in enumerate(value) for leaf in leaves(item, (*path, index))]
    return [path]


def container(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "triton", **fields}]}}


@pytest.mark.parametrize(
    ("wished", "stored"),
    [
        (container(resources={"requests": {"cpu": "0.5"}}), container(resources={"requests": {"cpu": "500m"}})),
        (container(resources={"limits": {"memory": "1024Mi"}}), container(resources={"limits": {"memory": "1Gi"}})),
        (container(env=[{"name": "A", "value": ""}]), container(env=[{"name": "A"}])),
        (container(args=[]), container()),
        (container(securityContext={}), container()),
    ],
)
def test_the_servers_own_spelling_is_no_difference(wished: dict[str, Any], stored: dict[str, Any]) -> None:
    assert differences(wished, stored) == ()


@pytest.mark.parametrize(
    ("wished", "stored"),
    [
        (container(env=[{"name": "A", "value": "1.0"}]), container(env=[{"name": "A", "value": "1"}])),
        (container(args=["a", "b"]), container(args=["b", "a"])),
        (container(args=["a"]), container(args=["a", "b"])),
        (container(tty=True), container(tty=1)),
        (container(), {"spec": {"containers": []}}),
        (container(image="a"), {"spec": {"containers": "broken"}}),
    ],
)
def test_a_difference_is_seen(wished: dict[str, Any], stored: dict[str, Any]) -> None:
    assert differences(wished, stored)


def test_containers_are_compared_by_name_whatever_their_order() -> None:
    two = {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}
    assert differences(two, {"containers": list(reversed(two["containers"]))}) == ()


def test_a_difference_names_the_field_and_both_values() -> None:
    assert differences(container(image="new"), container(image="old")) == (
        "spec.containers[triton].image: 'old' -> 'new'",
    )


def test_a_field_that_is_no_longer_wished_changes_the_stamp() -> None:
    manifest: dict[str, Any] = {"metadata": {"name": "a", "annotations": {"x": "1"}}, "spec": {"a": 1, "b": 2}}
    live = stamped(manifest)
    assert differences(stamped(manifest), live) == ()
    less = {**manifest, "spec": {"a": 1}}
    (difference,) = differences(stamped(less), live)
    assert names.ANNOTATION_APPLIED in difference
    assert manifest["metadata"]["annotations"] == {"x": "1"}, "the given manifest was changed"
