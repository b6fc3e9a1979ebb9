"""The reference pages as Markdown: every field of the resource from the CRD, every reason from its enum.

Pure: a manifest in, text out. The words come from the code; only the introductions are written here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nereus.api import names
from nereus.api.reasons import ConditionType, Reason

Json = Mapping[str, Any]

_PASSED_THROUGH = "As `kubectl explain "
_ABSENT = "When absent: "

_RESOURCE_INTRODUCTION = f"""
A `{names.KIND}` (`{names.API_VERSION}`, short name `{names.SHORT_NAME}`) says what is served and how. The same
manual is in the cluster: `kubectl explain {names.SHORT_NAME}.spec --recursive`.

* Durations are texts with a unit: `200ms`, `30s`, `5m`. Amounts are Kubernetes quantities: `500m`, `8Gi`.
* A field that is absent is automatic; the last column says what is taken. No default is ever written into the stored
  object, so a later release cannot change what an object means.
* A wrong value is refused when it is applied, with a sentence that names the field and the remedy.
* `kubectl apply` keeps a copy of the object in an annotation, and all annotations together hold at most 256 KiB. A
  larger object (many models with long `configText`) is applied with `kubectl apply --server-side`; the API server
  itself takes about 1.5 MiB.
"""

_STATUS_INTRODUCTION = f"""
The status answers two questions by itself: *why is it not ready?* and *why are there N pods?*

    kubectl get {names.SHORT_NAME}                 READY, and REASON in one word
    kubectl get {names.SHORT_NAME} -o wide         also the strategy and the measured cold start (p95, seconds)
    kubectl describe {names.SHORT_NAME} NAME       the sentences: conditions, reasons over all pods, models, events

`REASON` is the reason of the condition `Ready`: the most important thing that stands in the way, over *all* pods.
`status.reasons` lists all of them, grouped, with counts and an example. Each comes from the one that saw it: the
scheduler, the kubelet, the sidecar, Triton, the autoscaler, the API server; their words are kept.

Waiting in scripts:

    kubectl wait {names.SHORT_NAME}/NAME --for=condition=Ready --timeout=10m
    kubectl wait {names.SHORT_NAME}/NAME --for=condition=Progressing=False --timeout=10m
    kubectl wait {names.SHORT_NAME}/NAME --for=jsonpath='{{.status.replicas}}'=2/2 --timeout=10m

Tools that read [kstatus](https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md) (Flux, Argo CD
health checks, `kpt live`) see:

| kstatus | when |
|---|---|
| InProgress | the status is about an older `metadata.generation`, or `Ready` is not `True` and nobody has to act |
| Current | `Ready` is `True` for the present generation |
| Failed | `Stalled` is `True`: a person is needed; the reason and the message say for what |
"""


def resource_page(manifest: Json, *, notice: str) -> str:
    spec = _root(manifest)["properties"]["spec"]
    lines = [f"<!-- {notice} -->", "# ModelService reference", _RESOURCE_INTRODUCTION]
    lines += [f"* {rule['message']}." for rule in _root(manifest)["x-kubernetes-validations"]]
    lines.append("")
    lines += _section("spec", spec)
    return "\n".join(lines).rstrip() + "\n"


def status_page(manifest: Json, *, notice: str) -> str:
    status = _root(manifest)["properties"]["status"]
    lines = [f"<!-- {notice} -->", "# Status: conditions, reasons, fields", _STATUS_INTRODUCTION]
    lines += ["## Conditions", "", "| type | meaning |", "|---|---|"]
    lines += [f"| `{condition.value}` | {_cell(condition.meaning)} |" for condition in ConditionType]
    lines += ["", "## Reasons", "", "A reason is a promise to scripts: none is renamed.", ""]
    lines += ["| reason | meaning | what to do |", "|---|---|---|"]
    lines += [f"| `{reason.value}` | {_cell(reason.meaning)} | {_cell(reason.remedy) or '–'} |" for reason in Reason]
    lines += ["", "## Fields", ""]
    lines += _section("status", status)
    return "\n".join(lines).rstrip() + "\n"


def _root(manifest: Json) -> Json:
    schema: Json = manifest["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def _section(path: str, schema: Json) -> Iterator[str]:
    """One object as a table of its fields, its rules, and then its children."""
    required = schema.get("required", ())
    yield f"## `{path}`"
    yield ""
    yield schema["description"]
    yield ""
    yield "| field | type | meaning | when absent |"
    yield "|---|---|---|---|"
    for name, field in schema["properties"].items():
        meaning, _, absent = field["description"].partition(_ABSENT)
        if name in required:
            absent = "required"
        yield f"| `{name}` | {_cell(_kind(field))} | {_cell(meaning.strip())} | {_cell(absent) or 'none'} |"
    rules = list(_rules(schema))
    if rules:
        yield ""
        yield "Refused otherwise:"
        yield ""
        yield from (f"* {rule}." for rule in rules)
    yield ""
    for name, field in schema["properties"].items():
        inner, suffix = (field["items"], "[]") if "items" in field else (field, "")
        if "properties" in inner and not _is_passed_through(inner):
            yield from _section(f"{path}.{name}{suffix}", inner)


def _rules(schema: Json) -> Iterator[str]:
    """The sentences of the rules of an object, and of the plain values and lists in it."""
    for rule in schema.get("x-kubernetes-validations", ()):
        yield rule["message"]
    for name, field in schema["properties"].items():
        own = () if "properties" in field else field.get("x-kubernetes-validations", ())
        for rule in (*own, *_inner_rules(field)):
            yield f"`{name}`: {rule['message']}"
        keys = field.get("x-kubernetes-list-map-keys")
        if keys:
            yield f"`{name}`: no two entries have the same {' and '.join(f'`{key}`' for key in keys)}"
        elif field.get("x-kubernetes-list-type") == "set":
            yield f"`{name}`: no entry occurs twice"


def _inner_rules(field: Json) -> Iterator[Json]:
    inner = field.get("items") or field.get("additionalProperties") or {}
    if "properties" not in inner or _is_passed_through(inner):
        yield from inner.get("x-kubernetes-validations", ())


def _is_passed_through(schema: Json) -> bool:
    """Whether a value is one of Kubernetes' own, which `kubectl explain` describes better."""
    first = next(iter(schema["properties"].values()))
    return str(first["description"]).startswith(_PASSED_THROUGH)


def _kind(schema: Json) -> str:
    """Type and bounds in a few words."""
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    kind = str(schema["type"])
    if kind == "array":
        return f"list of {_kind(schema['items'])}{_range(schema, 'minItems', 'maxItems', 'entries')}"
    if kind == "object" and "additionalProperties" in schema:
        return (
            f"map of {_kind(schema['additionalProperties'])}{_range(schema, 'minProperties', 'maxProperties', 'keys')}"
        )
    if kind == "object":
        return "Kubernetes object" if _is_passed_through(schema) else "object"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    if kind == "string":
        return f"text{_range(schema, 'minLength', 'maxLength', 'characters')}"
    return f"{kind}{_range(schema, 'minimum', 'maximum', '')}"


def _range(schema: Json, low: str, high: str, unit: str) -> str:
    words = f" {unit}" if unit else ""
    least, most = schema.get(low), schema.get(high)
    if least is not None and most is not None:
        return f", {least} to {most}{words}"
    if most is not None:
        return f", at most {most}{words}"
    return f", at least {least}{words}" if least is not None else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
