"""A change on its way: the plan that some pods try before all others get it, beside the plan that everybody runs.

Part of the contract between operator and sidecar (see `protocol`). `plan.json` and `model.*.json` say what every pod
runs, also one that starts just now; `next.json` and `next.*.json` beside them say what the pods run that it names.
A sidecar that does not know them goes on with `plan.json`, and gets the change when it has become that. Standard
library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from nereus.api.protocol import PLAN_KEY, Plan, digest, model_key

NEXT_KEY = "next.json"
PREFIX_BYTES = 58
"""The API server cuts `generateName` here, so that a generated name has at most 63 bytes."""


def next_model_key(name: str) -> str:
    """The ConfigMap key of one model's document in the plan that is tried; only where it differs from the other."""
    return f"next.{name}.json"


@dataclass(frozen=True, kw_only=True)
class NextPlan:
    """The plan that is tried, and by whom: the pods in `pods`, and, where `former` is given, every pod whose name
    begins with none of these prefixes (those of a template that is being replaced)."""

    plan: Plan
    pods: tuple[str, ...] = ()
    former: tuple[str, ...] | None = None
    restart: str = ""
    """Why pods are replaced instead of changed while they run; empty when they are not."""

    def runs_in(self, pod: str) -> bool:
        """Whether the pod of this name shall run it."""
        if pod in self.pods:
            return True
        return self.former is not None and not any(pod.startswith(prefix[:PREFIX_BYTES]) for prefix in self.former)

    def to_json(self) -> str:
        body = {
            "models": dict(self.plan.models),
            "protocol": self.plan.protocol,
            "revision": self.plan.revision,
            "pods": list(self.pods),
            "former": None if self.former is None else list(self.former),
            "restart": self.restart,
        }
        return json.dumps(body, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> NextPlan:
        """Raises ValueError, KeyError or TypeError when the text is none."""
        data = json.loads(text)
        former = data.get("former")
        return cls(
            plan=Plan.from_json(text),
            pods=tuple(str(name) for name in data.get("pods") or ()),
            former=None if former is None else tuple(str(prefix) for prefix in former),
            restart=str(data.get("restart") or ""),
        )


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A plan with the documents of its models, complete."""

    plan: Plan
    documents: Mapping[str, str]

    @property
    def revision(self) -> str:
        return self.plan.revision


def bundle(data: Mapping[str, str]) -> Bundle | None:
    """What every pod runs, out of the data of all ConfigMaps of a plan; None when it is not whole: nobody who writes
    by our rules leaves it so."""
    try:
        text = data[PLAN_KEY]
        plan = Plan.from_json(text)
        if json.loads(text).get("revision") != plan.revision:
            return None
        return _complete(plan, {name: data[model_key(name)] for name in plan.models})
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def next_bundle(data: Mapping[str, str]) -> tuple[NextPlan, Bundle] | None:
    """What is tried, and by whom; None when nothing is, or when it is not whole."""
    try:
        following = NextPlan.from_json(data[NEXT_KEY])
        documents = {}
        for name, expected in following.plan.models.items():
            own, shared = data.get(next_model_key(name), ""), data.get(model_key(name), "")
            documents[name] = own if digest(own) == expected else shared
        found = _complete(following.plan, documents)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return (following, found) if found else None


def _complete(plan: Plan, documents: Mapping[str, str]) -> Bundle | None:
    whole = all(digest(documents[name]) == expected for name, expected in plan.models.items())
    return Bundle(plan=plan, documents=documents) if whole else None
