"""The CustomResourceDefinition, made from the types of the resource: one source for parser, schema and manual.

pydantic's JSON schema becomes the structural schema that Kubernetes asks for: references inlined, no nulls, no
titles, a description on every node. Pure: the shapes of passed-through Kubernetes values (`KubernetesTypes`) are
resolved when the project is generated (hack/kubernetes_types.py) and read here from a file of this package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from nereus.api import names
from nereus.api.spec import Spec
from nereus.api.spec.section import Section
from nereus.api.status import Status

Json = dict[str, Any]
KubernetesTypes = Mapping[str, Json]
"""Structural schemas by the key that `type_key` gives."""

DESCRIPTION = "An NVIDIA Triton deployment: which models it serves, how it is reached and how it scales."
LARGE = 2**31 - 1
"""From here on an upper bound is one of the number's type and says nothing to a user."""
_DROPPED = frozenset({"title", "default", "propertyNames", "x-nereus-fields", "x-nereus-explain"})
_KEPT = frozenset(
    {
        "type",
        "enum",
        "format",
        "required",
        "pattern",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
    }
)


def type_key(schema: Mapping[str, Any]) -> str:
    """Under which name the shape of a passed-through value is kept: its path in `kubectl explain`."""
    return str(schema["x-nereus-explain"])


def passed_through(schema: Any) -> dict[str, Json]:
    """Every value in a pydantic schema that is handed to Kubernetes as it is, by its key."""
    found: dict[str, Json] = {}
    children = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    if isinstance(schema, dict) and "x-nereus-definition" in schema:
        found[type_key(schema)] = schema
    for child in children:
        found.update(passed_through(child))
    return found


def packaged_types() -> KubernetesTypes:
    """The shapes that this release was generated with."""
    text = resources.files("nereus.api").joinpath("kubernetes_types.json").read_text(encoding="utf-8")
    types: KubernetesTypes = json.loads(text)
    return types


def pydantic_schema(section: type[Section]) -> Json:
    """pydantic's JSON schema of one part of the resource."""
    return section.model_json_schema(by_alias=True, mode="validation")


def structural(section: type[Section], types: KubernetesTypes) -> Json:
    """The structural schema of one part of the resource, as Kubernetes wants it."""
    schema = pydantic_schema(section)
    return _Structural(schema.get("$defs", {}), types).node(schema, fallback="")


class _Structural:
    """Rewrites one schema, node by node. An unknown keyword is an error: nothing may vanish silently."""

    def __init__(self, definitions: Mapping[str, Json], types: KubernetesTypes) -> None:
        self._definitions = definitions
        self._types = types

    def node(self, schema: Mapping[str, Any], *, fallback: str) -> Json:
        """`fallback` describes the node where its author did not."""
        source = self._resolved(schema)
        result: Json = {"description": _described(source, fallback)}
        for keyword, value in source.items():
            if keyword in _KEPT or keyword.startswith("x-kubernetes-"):
                result[keyword] = value
            elif keyword == "properties":
                result[keyword] = {
                    name: self.node(child, fallback=f"The field {name}.") for name, child in value.items()
                }
            elif keyword == "items":
                result[keyword] = self.node(value, fallback="One entry of the list.")
            elif keyword == "additionalProperties":
                if value is not False:
                    result[keyword] = self.node(value, fallback="The value under one key.")
            elif keyword not in _DROPPED | {"description", "$defs"}:
                raise ValueError(f"{keyword!r} has no place in a structural schema: {json.dumps(schema)[:200]}")
        if result.get("type") == "array":
            result.setdefault("x-kubernetes-list-type", "atomic")
        return result

    def _resolved(self, schema: Mapping[str, Any]) -> Json:
        """The schema without reference, without null and with the shape of a passed-through value."""
        own = {key: value for key, value in schema.items() if key not in ("anyOf", "$ref", "x-nereus-definition")}
        if "$ref" in schema:
            target = self._definitions[schema["$ref"].removeprefix("#/$defs/")]
            return {**self._resolved(target), **own}
        if "anyOf" in schema:
            choices = [choice for choice in schema["anyOf"] if choice.get("type") != "null"]
            if len(choices) != 1:
                raise ValueError(f"a structural schema has no unions: {json.dumps(schema)[:200]}")
            return {**self._resolved(choices[0]), **own}
        if "x-nereus-definition" in schema:
            shape = self._types[type_key(schema)]
            required = sorted({*shape.get("required", ()), *own.get("required", ())})
            return {**shape, **own, **({"required": required} if required else {})}
        return own


def _described(schema: Mapping[str, Any], fallback: str) -> str:
    """The description, completed with the values of an enum and the bounds of a number where it does not say them."""
    text = " ".join(str(schema.get("description") or fallback).split())
    meaning, absent, remedy = text.partition("When absent:")
    meaning = meaning.rstrip()
    values = schema.get("enum", ())
    if not all(str(value) in meaning for value in values):
        meaning += f" One of {', '.join(map(str, values))}."
    if schema.get("type") == "integer" and "maximum" in schema:
        low, high = schema.get("minimum", 0), schema["maximum"]
        meaning += f" From {low} to {high}." if high < LARGE else f" At least {low}."
    return f"{meaning} {absent}{remedy}".rstrip()


def root_schema(types: KubernetesTypes) -> Json:
    """The schema of a whole ModelService."""
    return {
        "type": "object",
        "description": DESCRIPTION,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "maxLength": 64, "description": f"Always {names.API_VERSION}."},
            "kind": {"type": "string", "maxLength": 64, "description": f"Always {names.KIND}."},
            "metadata": {"type": "object"},  # Kubernetes describes it; words of ours are refused
            "spec": structural(Spec, types),
            "status": structural(Status, types),
        },
        "x-kubernetes-validations": [
            {"rule": f"size(self.metadata.name) <= {names.MAX_NAME_LENGTH}", "message": names.NAME_TOO_LONG},
            {"rule": f"self.metadata.name.matches('{names.NAME_PATTERN}')", "message": names.NAME_NOT_DNS},
        ],
    }


def printer_columns() -> list[Json]:
    """What `kubectl get msvc` shows; priority 1 is for `-o wide`."""
    ready = '.status.conditions[?(@.type=="Ready")]'
    return [
        _column("Ready", "string", f"{ready}.status", "Whether every wanted pod serves every model."),
        _column("Reason", "string", f"{ready}.reason", "Why it is as it is; see docs/status.md."),
        _column("Replicas", "string", ".status.replicas", "Ready pods / wanted pods."),
        _column("Load", "number", ".status.scaling.load", "Load now, in pods."),
        _column("Next", "number", ".status.scaling.forecast", "Highest load expected within a cold start, in pods."),
        _column("Min", "integer", ".status.resolved.minReplicas", "Fewest pods in effect."),
        _column("Max", "integer", ".status.resolved.maxReplicas", "Most pods in effect."),
        _column("GPU", "string", ".status.gpu.mechanism", "What keeps pods within their GPU memory."),
        _column("URL", "string", ".status.url", "Where clients in the cluster send HTTP requests."),
        _column("Age", "date", ".metadata.creationTimestamp", "Time since it was created."),
        _column("Strategy", "string", ".status.resolved.strategy", "What sets the number of pods.", priority=1),
        _column("GPUMem", "string", ".status.gpu.memory", "GPU memory: most seen / limit in effect.", priority=1),
        _column("Coldstart", "number", ".status.coldStart.p95", "Seconds a new pod needs (p95).", priority=1),
    ]


def _column(name: str, kind: str, path: str, description: str, *, priority: int = 0) -> Json:
    return {"name": name, "type": kind, "jsonPath": path, "description": description, "priority": priority}


def custom_resource_definition(types: KubernetesTypes | None = None) -> Json:
    """The whole manifest. `types` are the packaged ones when absent."""
    version = {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": root_schema(packaged_types() if types is None else types)},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.scaling.replicas",
                "statusReplicasPath": ".status.currentReplicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": printer_columns(),
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.PLURAL}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": names.PLURAL,
                "singular": names.SINGULAR,
                "shortNames": [names.SHORT_NAME],
                "categories": ["serving"],
            },
            "versions": [version],
        },
    }
