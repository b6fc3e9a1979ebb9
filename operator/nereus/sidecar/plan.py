"""Reading the plan: the ConfigMaps that the operator wrote, as files in this pod.

Here because a projected volume has its own rules: the kubelet swaps a link (`..data`) when anything changed, and the
ConfigMaps behind it may be of different ages. A model's document that does not have the digest the plan names is
therefore not an error but a reason to wait.

Reads and checks only; who acts on it is the keeper.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from nereus.api import protocol
from nereus.api.protocol import ModelPlan


class PlanPendingError(Exception):
    """There is no complete plan yet; the message says what is missing. The next update of the volume may bring it."""


@dataclass(frozen=True, kw_only=True)
class AcceptedPlan:
    """A plan of which every document is there. `refused` maps a model to what is wrong with its document."""

    revision: str
    models: tuple[ModelPlan, ...]
    refused: tuple[tuple[str, str], ...] = ()


def stamp(directory: Path) -> tuple[object, ...]:
    """Changes when the volume was updated; costs two system calls."""
    try:
        link: object = (directory / "..data").readlink()
    except OSError:
        link = None
    try:
        status = (directory / protocol.PLAN_KEY).stat()
    except OSError:
        return (link,)
    return (link, status.st_mtime_ns, status.st_ino)


def read(directory: Path) -> AcceptedPlan:
    """The plan in `directory`. Raises PlanPendingError while it is missing, half updated or unreadable."""
    path = directory / protocol.PLAN_KEY
    try:
        plan = protocol.Plan.from_json(path.read_text())
    except FileNotFoundError:
        raise PlanPendingError(f"no plan yet: {path} does not exist; its ConfigMap is missing or empty") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PlanPendingError(f"the plan cannot be read: {path}: {error}") from None
    models, refused = [], []
    for name, expected in plan.models.items():
        document = _document(directory, name, expected)
        try:
            model = ModelPlan.from_json(document)
        except (ValueError, KeyError, TypeError) as error:
            refused.append((name, f"its plan cannot be read: {error}"))
            continue
        problem = _wrong_name(name, model)
        if problem:
            refused.append((name, problem))
        else:
            models.append(model)
    return AcceptedPlan(revision=plan.revision, models=tuple(models), refused=tuple(refused))


def _document(directory: Path, name: str, expected: str) -> str:
    if "/" in name or "\0" in name:
        return json.dumps({"name": name, "source": ""})
    path = directory / protocol.model_key(name)
    try:
        document = path.read_text()
    except FileNotFoundError:
        raise PlanPendingError(f"the plan names model {name!r}, and {path.name} is not there yet") from None
    except (OSError, ValueError) as error:
        raise PlanPendingError(f"{path.name} cannot be read: {error}") from None
    if protocol.digest(document) != expected:
        raise PlanPendingError(f"{path.name} is of another age than the plan; waiting for the rest of the update")
    return document


def _wrong_name(name: str, model: ModelPlan) -> str:
    if model.name != name:
        return f"its document is for model {model.name!r}: the plan is inconsistent"
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")
    if not name or name.startswith(".") or len(name) > 200 or not set(name) <= allowed:
        return f"the name {name!r} can be no directory and no address in Triton; use letters, digits and - . _"
    return ""
