"""ControllerRevisions: rendered pod templates, stored, so that a new release of the operator changes no running pod.

A template is stored under its digest, with the digest of the spec it was made from. It is used as long as that part
of the spec stays the same, whatever this release would render today; `changes` puts the difference into words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from nereus.api import names
from nereus.api.children import child
from nereus.api.manifests import Manifest, digest
from nereus.api.service import ModelService
from nereus.api.values import Json

MAX_SHOWN_CHANGES = 5


@dataclass(frozen=True, kw_only=True)
class Template:
    """One pod template in effect: `body` is {metadata, spec}, `revision` the name of what stores it."""

    revision: str
    hash: str
    inputs: str
    body: Json


def stored_template(stored: Iterable[Mapping[str, Any]], inputs: str) -> tuple[Template, int] | None:
    """The newest stored template that was made from `inputs`, and its revision number."""
    fitting = [
        revision
        for revision in stored
        if _annotations(revision).get(names.ANNOTATION_INPUTS) == inputs and revision.get("data")
    ]
    if not fitting:
        return None
    newest = max(fitting, key=_number)
    body = newest["data"]
    return Template(revision=newest["metadata"]["name"], hash=digest(body), inputs=inputs, body=body), _number(newest)


def fresh_template(
    service: ModelService, body: Json, inputs: str, stored: Sequence[Mapping[str, Any]]
) -> tuple[Template, int]:
    """A template to be stored, with the number after all stored ones. One that is stored already keeps its name."""
    name = digest(body)
    number = max((_number(revision) for revision in stored), default=0) + 1
    return Template(revision=names.revision_name(service.name, name), hash=name, inputs=inputs, body=body), number


def controller_revision(service: ModelService, template: Template, number: int) -> Manifest:
    """The object that stores a template; its data never changes, its number and inputs may."""
    return child(
        service,
        api_version="apps/v1",
        kind="ControllerRevision",
        name=template.revision,
        annotations={names.ANNOTATION_INPUTS: template.inputs},
        data=deepcopy(template.body),
        revision=number,
    )


def changes(old: Json, new: Json) -> str | None:
    """In a short sentence, what `new` would change in `old`; None when they are the same."""
    found = list(_differences(old, new, ""))
    if not found:
        return None
    more = f" and {len(found) - MAX_SHOWN_CHANGES} more" if len(found) > MAX_SHOWN_CHANGES else ""
    return "; ".join(found[:MAX_SHOWN_CHANGES]) + more


def _number(revision: Mapping[str, Any]) -> int:
    return int(revision.get("revision") or 0)


def _annotations(revision: Mapping[str, Any]) -> Mapping[str, str]:
    return (revision.get("metadata") or {}).get("annotations") or {}


def _differences(old: Any, new: Any, path: str) -> Iterable[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif isinstance(old, list) and isinstance(new, list) and _named(old) and _named(new):
        before, after = ({item["name"]: item for item in items} for items in (old, new))
        for name in dict.fromkeys([*before, *after]):
            yield from _differences(before.get(name), after.get(name), f"{path}[{name}]")
    elif old != new:
        yield f"{path}: {_shown(old)} -> {_shown(new)}"


def _named(items: list[Any]) -> bool:
    return bool(items) and all(isinstance(item, dict) and "name" in item for item in items)


def _shown(value: Any) -> str:
    if value is None:
        return "absent"
    if isinstance(value, dict | list):
        return "present" if len(str(value)) > 80 else str(value)
    return str(value)[:120]
