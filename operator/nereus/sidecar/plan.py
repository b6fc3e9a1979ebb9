"""Reading the plan: the ConfigMaps that the operator wrote, as files in this pod.

Here because a projected volume has its own rules: the kubelet swaps a link (`..data`) when anything changed, and the
ConfigMaps behind it may be of different ages. A model's document that does not have the digest the plan names is
therefore not an error but a reason to wait.

A changed plan may be tried by some pods first (nereus.api.stages); this pod knows by its name which one is its own.

Reads and checks only; who acts on it is the keeper.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from nereus.api import protocol, stages
from nereus.api.protocol import ModelPlan, Plan
from nereus.api.stages import NextPlan


class PlanPendingError(Exception):
    """There is no complete plan yet; the message says what is missing. The next update of the volume may bring it."""


@dataclass(frozen=True, kw_only=True)
class AcceptedPlan:
    """A plan of which every document is there. `refused` maps a model to what is wrong with its document; `tried` says
    that other pods go on with a former plan until this one has shown that it works."""

    revision: str
    models: tuple[ModelPlan, ...]
    refused: tuple[tuple[str, str], ...] = ()
    tried: bool = False


def stamp(directory: Path) -> tuple[object, ...]:
    """Changes when the volume was updated; costs three system calls."""
    try:
        link: object = (directory / "..data").readlink()
    except OSError:
        link = None
    seen: list[object] = [link]
    for key in (protocol.PLAN_KEY, stages.NEXT_KEY):
        try:
            status = (directory / key).stat()
        except OSError:
            seen.append(None)
        else:
            seen.append((status.st_mtime_ns, status.st_ino))
    return tuple(seen)


def read(directory: Path, *, pod: str = "", but_not: str = "") -> AcceptedPlan:
    """The plan in `directory` for the pod of this name; `but_not` is a revision that it does not try (again). Raises
    PlanPendingError while it is missing, half updated or unreadable."""
    path = directory / protocol.PLAN_KEY
    try:
        plan = protocol.Plan.from_json(path.read_text())
    except FileNotFoundError:
        raise PlanPendingError(f"no plan yet: {path} does not exist; its ConfigMap is missing or empty") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PlanPendingError(f"the plan cannot be read: {path}: {error}") from None
    following = _following(directory)
    if following is None or not following.runs_in(pod) or following.plan.revision == but_not:
        return _accepted(directory, plan, tried=False)
    return _accepted(directory, following.plan, tried=following.plan.revision != plan.revision)


def _following(directory: Path) -> NextPlan | None:
    path = directory / stages.NEXT_KEY
    try:
        return NextPlan.from_json(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PlanPendingError(f"the plan that is tried cannot be read: {path}: {error}") from None


def _accepted(directory: Path, plan: Plan, *, tried: bool) -> AcceptedPlan:
    models, refused = [], []
    for name, expected in plan.models.items():
        document = _document(directory, name, expected, tried=tried)
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
    return AcceptedPlan(revision=plan.revision, models=tuple(models), refused=tuple(refused), tried=tried)


def _document(directory: Path, name: str, expected: str, *, tried: bool) -> str:
    if "/" in name or "\0" in name:
        return json.dumps({"name": name, "source": ""})
    if tried:
        path = directory / stages.next_model_key(name)
        if path.exists():
            try:
                own = path.read_text()
            except (OSError, ValueError) as error:
                raise PlanPendingError(f"{path.name} cannot be read: {error}") from None
            if protocol.digest(own) == expected:
                return own
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
    if model.name == name == protocol.REPOSITORY and model.repository:
        return ""
    if model.name != name:
        return f"its document is for model {model.name!r}: the plan is inconsistent"
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")
    if not name or name.startswith(".") or len(name) > 200 or not set(name) <= allowed:
        return f"the name {name!r} can be no directory and no address in Triton; use letters, digits and - . _"
    return ""
