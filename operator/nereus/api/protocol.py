"""The contract between the operator and the sidecar in every pod, versioned.

The operator writes a *plan* into ConfigMaps that are mounted in the pod; the sidecar carries it out and answers
with its *state* over HTTP (`GET /v1/state`). Both sides import these types, so a field cannot drift. Standard
library only: this is part of the small sidecar image.

An older sidecar serves a newer operator: readers ignore fields they do not know, and no field changes its meaning.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

PROTOCOL = 1
PLAN_KEY = "plan.json"
SCHEME_ENSEMBLE = "ensemble"
"""Of the `source` of a model that has no files: everything about it is in the texts of its plan."""

SCHEME_MEMBER = "repository"
"""Of the `source` of a model that lies in a repository that was fetched as a whole."""
REPOSITORY = ".repository"
"""Name of the entry of a plan that is not a model but a whole repository of them. No model can be called so."""

PATH_STATE = "/v1/state"
PATH_STARTED = "/started"
PATH_READY = "/ready"
PATH_LIVE = "/live"
PATH_DRAIN = "/drain"
PATH_METRICS = "/metrics"


def model_key(name: str) -> str:
    """The ConfigMap key (and file name in the pod) of one model's plan."""
    return f"model.{name}.json"


def digest(text: str) -> str:
    """A short, stable name for a text: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class ModelPlan:
    """What one pod shall serve under one name.

    `source` is the URI as declared, `ensemble://` for a model without files; `directory` is where a volume-backed
    source is mounted (with the URI's path appended), empty for a source that is downloaded. `defaults_text`,
    `config_text` and `fields_text` are ModelConfig protobuf texts: what a stated default asks for, what the user
    wrote, and what the fields of the resource say. Precedence: defaults_text < config.pbtxt in the source <
    config_text < fields_text. `removes` are paths such as `dynamic_batching` that are cleared below fields_text: how
    "Off" is said, which no text can say. `revision` and `checksum` pin a downloaded source; `credentials` is the
    directory where its Secret is mounted. `repository` says that the source holds many models,
    each under its own name. Models with a smaller `load_order` are loaded first; a load may take `load_seconds` (0: no
    limit); without an `optional` model a pod may take requests. These are written only where they are given, so that a
    plan without them is the same text in every release.
    """

    name: str
    source: str
    directory: str = ""
    defaults_text: str = ""
    config_text: str = ""
    fields_text: str = ""
    removes: tuple[str, ...] = ()
    versions: tuple[int, ...] = ()
    revision: str = ""
    checksum: str = ""
    credentials: str = ""
    repository: bool = False
    load_order: int = 0
    load_seconds: float = 0.0
    optional: bool = False

    def to_json(self) -> str:
        later = ("revision", "checksum", "credentials", "repository", "load_order", "load_seconds", "optional")
        data = {name: value for name, value in asdict(self).items() if value or name not in later}
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> ModelPlan:
        data = json.loads(text)
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        lists = {name: tuple(known.get(name, ())) for name in ("removes", "versions")}
        return cls(**{**known, **lists})


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything a pod shall serve. `models` maps a model's name to the digest of its own document, so that a
    sidecar that sees a half-updated volume knows to wait."""

    models: Mapping[str, str]
    protocol: int = PROTOCOL

    @property
    def revision(self) -> str:
        """Changes exactly when something in the plan changes."""
        return digest(json.dumps(dict(self.models), sort_keys=True))

    def to_json(self) -> str:
        return json.dumps(
            {"protocol": self.protocol, "revision": self.revision, "models": dict(self.models)},
            sort_keys=True,
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> Plan:
        data = json.loads(text)
        return cls(models=dict(data["models"]), protocol=int(data.get("protocol", PROTOCOL)))


class ModelState(StrEnum):
    """Where one model stands in one pod, in the order in which it happens."""

    PENDING = "Pending"
    FETCHING = "Fetching"
    FETCH_FAILED = "FetchFailed"
    CONFIG_INVALID = "ConfigInvalid"
    FETCHED = "Fetched"
    LOADING = "Loading"
    LOAD_FAILED = "LoadFailed"
    READY = "Ready"
    UNLOADING = "Unloading"


@dataclass(frozen=True, kw_only=True)
class ModelReport:
    """One model in one pod. `message` is empty unless the state is a failure: then the last lines of the fetch, or
    Triton's own words. `serving` is true while any version answers, also after a later change failed.
    `conflicts` names configuration fields on which the source and the resource disagree (the resource wins).
    `version_bytes` is the size of the files of its newest version: loaded, it takes at least that much memory.
    `drift` says what somebody had changed in Triton, for a while after it was put right.
    `kinds` are the instance kinds that Triton settled on (KIND_CPU, KIND_GPU, KIND_MODEL), empty while not known."""

    name: str
    state: ModelState
    message: str = ""
    serving: bool = False
    versions: tuple[str, ...] = ()
    fetch_seconds: float | None = None
    fetched_bytes: int | None = None
    total_bytes: int | None = None
    load_seconds: float | None = None
    conflicts: tuple[str, ...] = ()
    version_bytes: int | None = None
    drift: str = ""
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PodReport:
    """What a sidecar says of its pod. Times are Unix seconds of the node's clock, None until they happened. `stages`
    says that this sidecar understands a plan that is tried by some pods first (`nereus.api.stages`). `rejected` is the
    revision of a tried plan that this pod took back, and `rejected_why` the reason; both empty when there is none."""

    revision: str = ""
    models: tuple[ModelReport, ...] = ()
    ready: bool = False
    draining: bool = False
    server_live: bool = False
    started_at: float | None = None
    fetched_at: float | None = None
    server_live_at: float | None = None
    ready_at: float | None = None
    protocol: int = PROTOCOL
    version: str = ""
    problems: tuple[str, ...] = field(default=())
    stages: bool = False
    rejected: str = ""
    rejected_why: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> PodReport:
        """Raises ValueError when the text is not a report; unknown fields are ignored."""
        known = _known(json.loads(text), _POD_FIELDS, required=("protocol",), what="a sidecar report")
        known["models"] = tuple(_model_report(item) for item in known.get("models", ()))
        known["problems"] = tuple(known.get("problems", ()))
        return cls(**known)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_amount(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


_POD_FIELDS: Mapping[str, Callable[[Any], bool]] = {
    "revision": _is_text,
    "models": _is_list,
    "ready": _is_flag,
    "draining": _is_flag,
    "server_live": _is_flag,
    "started_at": _is_amount,
    "fetched_at": _is_amount,
    "server_live_at": _is_amount,
    "ready_at": _is_amount,
    "protocol": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "version": _is_text,
    "problems": _are_texts,
    "stages": _is_flag,
    "rejected": _is_text,
    "rejected_why": _is_text,
}
_MODEL_FIELDS: Mapping[str, Callable[[Any], bool]] = {
    "name": _is_text,
    "state": lambda value: isinstance(value, str) and value in set(ModelState),
    "message": _is_text,
    "serving": _is_flag,
    "versions": _are_texts,
    "fetch_seconds": _is_amount,
    "fetched_bytes": _is_amount,
    "total_bytes": _is_amount,
    "load_seconds": _is_amount,
    "conflicts": _are_texts,
    "version_bytes": _is_amount,
    "drift": _is_text,
    "kinds": _are_texts,
}


def _model_report(data: Any) -> ModelReport:
    known = _known(data, _MODEL_FIELDS, required=("name", "state"), what="the report of a model")
    known["state"] = ModelState(known["state"])
    for name in ("versions", "conflicts", "kinds"):
        known[name] = tuple(known.get(name, ()))
    return ModelReport(**known)


def _known(
    data: Any, fields: Mapping[str, Callable[[Any], bool]], *, required: tuple[str, ...], what: str
) -> dict[str, Any]:
    """The fields that we know, each of the agreed type: a pod is not trusted to say what it should."""
    if not isinstance(data, dict):
        raise ValueError(f"not {what}: an object was expected, not {type(data).__name__}")
    known = {name: data[name] for name in fields if name in data}
    wrong = [name for name in required if name not in known]
    wrong += [name for name, value in known.items() if not fields[name](value)]
    if wrong:
        raise ValueError(f"not {what}: {', '.join(wrong)} missing or of another type")
    return known
