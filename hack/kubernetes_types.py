"""The shapes of Kubernetes values that a ModelService passes through, from Kubernetes' own OpenAPI definitions.

Field names and types only, with generic bounds; the words are ours and point to `kubectl explain`. The definitions
come with the development package kubernetes-validate, so this runs when the project is generated, never in a
cluster.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate

from nereus.api import crd
from nereus.api.spec import Spec

Json = dict[str, Any]

KUBERNETES_VERSION = "v1.35.0"
"""The newest release whose fields are offered; an older cluster refuses a field it does not know when applied."""

MAX_TEXT = 16384
MAX_NAME = 253
MAX_ENTRIES = 256
MAX_KEYS = 64

_NAMES = frozenset({"name", "key", "operator", "type", "topologyKey", "whenUnsatisfiable", "effect", "claimName"})
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_NARROWED = {_OBJECT_META: ("annotations", "labels")}
"""Of the metadata of a template only what a user may set there."""


def expanded() -> dict[str, Json]:
    """The structural schema of every passed-through value, by its key."""
    definitions = _definitions()
    wanted = crd.passed_through(crd.pydantic_schema(Spec))
    return {
        key: _Shape(definitions, explain=key).of(schema["x-nereus-definition"], fields=tuple(schema["x-nereus-fields"]))
        for key, schema in sorted(wanted.items())
    }


def _definitions() -> Mapping[str, Json]:
    root = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / f"{KUBERNETES_VERSION}-local"
    document: dict[str, Mapping[str, Json]] = json.loads((root / "_definitions.json").read_text())
    return document["$defs"]


class _Shape:
    """One passed-through value. `explain` may end in options of kubectl, which stay behind the path."""

    def __init__(self, definitions: Mapping[str, Json], *, explain: str) -> None:
        self._definitions = definitions
        self._path, _, self._options = explain.partition(" ")

    def of(self, definition: str, *, fields: tuple[str, ...]) -> Json:
        return self._definition(definition, path=self._path, fields=fields, inside=())

    def _definition(self, name: str, *, path: str, fields: tuple[str, ...], inside: tuple[str, ...]) -> Json:
        if name in inside:
            raise ValueError(f"{name} contains itself at {path}: a structural schema cannot; narrow its fields")
        schema = self._definitions[name]
        if name in (_QUANTITY, _INT_OR_STRING):
            return {"x-kubernetes-int-or-string": True, "maxLength": 64}
        if "properties" in schema and fields:
            unknown = set(fields) - set(schema["properties"])
            if unknown:
                raise ValueError(f"{name} of Kubernetes {KUBERNETES_VERSION} has no {', '.join(sorted(unknown))}")
            schema = {
                **schema,
                "properties": {field: schema["properties"][field] for field in fields},
                "required": [field for field in schema.get("required", ()) if field in fields],
            }
        return self._node(schema, path=path, inside=(*inside, name))

    def _node(self, schema: Json, *, path: str, inside: tuple[str, ...]) -> Json:
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            shape = self._definition(name, path=path, fields=_NARROWED.get(name, ()), inside=inside)
        else:
            shape = self._typed(schema, path=path, inside=inside)
        options = f" {self._options}" if self._options else ""
        return {"description": f"As `kubectl explain {path}{options}`.", **shape}

    def _typed(self, schema: Json, *, path: str, inside: tuple[str, ...]) -> Json:
        kinds = schema.get("type", "object")
        kind = next(kind for kind in ([kinds] if isinstance(kinds, str) else kinds) if kind != "null")
        if kind == "array":
            entries = self._node(schema["items"], path=path, inside=inside)
            return {"type": kind, "maxItems": MAX_ENTRIES, "items": entries, "x-kubernetes-list-type": "atomic"}
        if kind == "string":
            return {"type": kind, "maxLength": MAX_NAME if path.rpartition(".")[2] in _NAMES else MAX_TEXT}
        if kind == "integer":
            return {"type": kind, "format": schema.get("format", "int64")}
        if kind != "object":
            return {"type": kind}
        atomic = {key: value for key, value in schema.items() if key == "x-kubernetes-map-type"}
        if "properties" in schema:
            required = {"required": sorted(schema["required"])} if schema.get("required") else {}
            fields = {
                name: self._node(child, path=f"{path}.{name}", inside=inside)
                for name, child in sorted(schema["properties"].items())
            }
            return {"type": kind, **required, "properties": fields, **atomic}
        value = self._node(schema["additionalProperties"], path=path, inside=inside)
        return {"type": kind, "maxProperties": MAX_KEYS, "additionalProperties": value, **atomic}
