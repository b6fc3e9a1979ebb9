"""The CRD is a manual and a gate: every node says what it is and has bounds, and stays within Kubernetes' rules."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from hack.kubernetes_types import expanded
from nereus.api import crd
from nereus.api.spec import Spec

Json = dict[str, Any]
MANIFEST = crd.custom_resource_definition()
VERSION = MANIFEST["spec"]["versions"][0]
ROOT = VERSION["schema"]["openAPIV3Schema"]
CLIENT_SIDE_APPLY_LIMIT = 262_144
"""All annotations together (apimachinery, TotalAnnotationSizeLimitB); `kubectl apply` stores a copy in one."""


def nodes(schema: Json, path: str) -> Iterator[tuple[str, Json]]:
    """Every node of a schema with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


NODES = [pair for part in ("spec", "status") for pair in nodes(ROOT["properties"][part], part)]


def test_every_field_list_entry_and_map_value_has_a_description() -> None:
    assert [path for path, node in NODES if len(node.get("description", "")) < 5] == []


def test_every_text_list_and_map_has_an_upper_bound() -> None:
    unbounded = []
    for path, node in NODES:
        kind = node.get("type")
        if kind == "string" and not {"maxLength", "enum", "pattern"} & node.keys():
            unbounded.append(path)
        if kind == "array" and "maxItems" not in node:
            unbounded.append(path)
        if "additionalProperties" in node and "maxProperties" not in node:
            unbounded.append(path)
    assert unbounded == []


def test_the_schema_is_structural() -> None:
    """As Kubernetes' page on CustomResourceDefinitions has it under "Specifying a structural schema"."""
    wrong = []
    for path, node in NODES:
        typed = node.get("type") in {"object", "array", "string", "integer", "number", "boolean"}
        if typed == bool(node.get("x-kubernetes-int-or-string")):
            wrong.append(f"{path}: exactly one of type and int-or-string")
        if {"$ref", "anyOf", "oneOf", "allOf", "not", "title", "default", "nullable"} & node.keys():
            wrong.append(f"{path}: a keyword that has no place")
        if "properties" in node and "additionalProperties" in node:
            wrong.append(f"{path}: fields and free keys")
        if node.get("additionalProperties") is False:
            wrong.append(f"{path}: forbids unknown fields; pruning does that")
        if node.get("type") == "array" and "items" not in node:
            wrong.append(f"{path}: a list of what?")
        if node.get("type") == "object" and not {"properties", "additionalProperties"} & node.keys():
            wrong.append(f"{path}: everything in it would be pruned")
        if set(node.get("required", ())) - set(node.get("properties", ())):
            wrong.append(f"{path}: requires a field that it lacks")
    assert wrong == []


def test_the_keys_of_a_keyed_list_are_required_texts() -> None:
    keyed = [(path, node) for path, node in NODES if node.get("x-kubernetes-list-type") == "map"]
    assert {path for path, _ in keyed} >= {
        "spec.models",
        "spec.models[].inputs",
        "spec.models[].outputs",
        "spec.runtime.env",
        "spec.runtime.volumes",
        "spec.runtime.volumeMounts",
        "status.conditions",
        "status.models",
    }
    for path, node in keyed:
        for key in node["x-kubernetes-list-map-keys"]:
            assert key in node["items"]["required"], f"{path}: {key} must be required"
            assert node["items"]["properties"][key]["type"] == "string", f"{path}: {key}"


def test_every_rule_has_a_sentence_with_a_remedy() -> None:
    rules = [(path, rule) for path, node in NODES for rule in node.get("x-kubernetes-validations", ())]
    assert len(rules) > 20
    remedy = re.compile(
        r"lower|raise|remove|set |write|keep one|choose|name one|declare|rename|shorten|clear|must be", re.IGNORECASE
    )
    assert [f"{path}: {rule['message']}" for path, rule in rules if not remedy.search(rule["message"])] == []


def test_a_description_names_every_value_of_an_enum() -> None:
    silent = [path for path, node in NODES for value in node.get("enum", ()) if value not in node["description"]]
    assert silent == []


def test_an_optional_field_of_the_spec_says_what_its_absence_means() -> None:
    """Except where absence is plain: nothing is added, or the field belongs to Kubernetes."""
    plain = {
        "spec.suspend",
        "spec.models[].platform",
        "spec.models[].parameters",
        "spec.models[].configText",
        "spec.models[].versions.latest",
        "spec.models[].versions.all",
        "spec.models[].versions.specific",
        "spec.endpoint.serviceAnnotations",
    }
    silent = set()
    for path, node in nodes(ROOT["properties"]["spec"], "spec"):
        for name, field in node.get("properties", {}).items():
            ours = not field["description"].startswith("As `kubectl explain")
            if ours and name not in node.get("required", ()) and "absent:" not in field["description"]:
                silent.add(f"{path}.{name}")
    further = {path for path in silent if path.startswith("spec.runtime.")}
    assert silent - further - plain == set()
    assert all("Further" in _described(path) or path in _ADDITIONS for path in further), further


_ADDITIONS = {
    "spec.runtime.imagePullSecrets",
    "spec.runtime.env",
    "spec.runtime.volumeMounts",
    "spec.runtime.tolerations",
    "spec.runtime.affinity",
}


def _described(path: str) -> str:
    return str(dict(NODES)[path]["description"])


def test_the_definition_fits_into_a_client_side_apply() -> None:
    size = len(json.dumps(MANIFEST, separators=(",", ":")))
    assert size < CLIENT_SIDE_APPLY_LIMIT * 0.65, f"{size} bytes"


def test_the_packaged_kubernetes_types_are_those_that_would_be_generated_now() -> None:
    assert crd.packaged_types() == expanded()


def test_a_passed_through_value_keeps_the_fields_of_kubernetes() -> None:
    runtime = ROOT["properties"]["spec"]["properties"]["runtime"]["properties"]
    toleration = runtime["tolerations"]["items"]["properties"]
    assert set(toleration) == {"key", "operator", "value", "effect", "tolerationSeconds"}
    assert toleration["tolerationSeconds"]["type"] == "integer"
    assert "kubectl explain pod.spec.tolerations.key" in toleration["key"]["description"]
    metric = ROOT["properties"]["spec"]["properties"]["scaling"]["properties"]["metrics"]["items"]["properties"]
    value = metric["external"]["properties"]["target"]["properties"]["averageValue"]
    assert value["x-kubernetes-int-or-string"] is True


def test_a_keyword_that_the_schema_cannot_say_is_an_error_and_not_dropped() -> None:
    types = {**crd.packaged_types(), "pod.spec.tolerations": {"type": "object", "propertyOrder": ["key"]}}
    with pytest.raises(ValueError, match="propertyOrder"):
        crd.structural(Spec, types)


def test_the_subresources_and_columns_point_to_fields_that_exist() -> None:
    known = {f".{path}" for path, _ in NODES}
    paths = [
        *(value for key, value in VERSION["subresources"]["scale"].items() if key.endswith("Path")),
        *(column["jsonPath"] for column in VERSION["additionalPrinterColumns"]),
    ]
    plain = [re.sub(r"\[\?.*?\)\]", "[]", path) for path in paths]
    assert [path for path in plain if path not in known | {".metadata.creationTimestamp"}] == []
