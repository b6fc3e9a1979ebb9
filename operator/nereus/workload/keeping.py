"""Plans that were run, kept as ControllerRevisions, so that one can be rolled back to. Pure.

A plan is kept when another is about to replace it; what runs now needs no copy. The newest few are kept. One that is
too large for a single object is not, and the words of the change say so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nereus.api import names
from nereus.api.children import child
from nereus.api.manifests import Manifest
from nereus.api.problems import InvalidSpecError, Problem
from nereus.api.service import ModelService
from nereus.api.stages import Bundle, bundle

KEPT_PLANS = 5
MOST_BYTES = 900_000
"""An object of the API server is at most 1.5 MiB in etcd; the same bound as for one ConfigMap of a plan."""
KIND_PLAN = "plan"
_PATH = f'metadata.annotations["{names.ANNOTATION_ROLLBACK}"]'


def is_plan(revision: Mapping[str, Any]) -> bool:
    """Whether a ControllerRevision keeps a plan; the others keep pod templates."""
    return ((revision.get("metadata") or {}).get("labels") or {}).get(names.LABEL_KEEPS) == KIND_PLAN


def kept(service: ModelService, plan: Bundle, stored: Sequence[Mapping[str, Any]]) -> Manifest | None:
    """The object that keeps a plan, the newest of all kept ones; None when the plan is too large."""
    name = names.plan_revision_name(service.name, plan.revision)
    data = {"plan.json": plan.plan.to_json(), "documents": dict(plan.documents)}
    if len(json.dumps(data)) > MOST_BYTES:
        return None
    newest = max(stored, key=_number, default=None)
    known = newest is not None and newest["metadata"]["name"] == name
    number = _number(newest) if known and newest is not None else max(map(_number, stored), default=0) + 1
    made = child(service, api_version="apps/v1", kind="ControllerRevision", name=name, data=data, revision=number)
    made["metadata"]["labels"] = {**made["metadata"]["labels"], names.LABEL_KEEPS: KIND_PLAN}
    return made


def revisions(stored: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The kept plans, the newest first."""
    found = [(_number(item), plan.revision) for item in stored if (plan := _read(item)) is not None]
    return tuple(revision for _, revision in sorted(found, reverse=True))


def asked_for(service: ModelService, known: Iterable[Bundle | None], stored: Sequence[Mapping[str, Any]]) -> Bundle:
    """The plan that the user rolls back to: one that is running (`known`) or kept. Raises InvalidSpecError."""
    plans = [plan for plan in (*known, *map(_read, stored)) if plan is not None]
    for plan in plans:
        if plan.revision == service.rollback_to:
            return plan
    have = ", ".join(revisions(stored)) or "none"
    raise InvalidSpecError(
        (
            Problem(
                _PATH,
                f"no plan {service.rollback_to!r:.80} is kept; kept are: {have}; remove the annotation or name one",
            ),
        )
    )


def _read(revision: Mapping[str, Any]) -> Bundle | None:
    data = revision.get("data")
    if not isinstance(data, Mapping) or not isinstance(data.get("documents"), Mapping):
        return None
    documents = {f"model.{name}.json": text for name, text in data["documents"].items()}
    return bundle({"plan.json": data.get("plan.json", ""), **documents})


def _number(revision: Mapping[str, Any] | None) -> int:
    return int((revision or {}).get("revision") or 0)
