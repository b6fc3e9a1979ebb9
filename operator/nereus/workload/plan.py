"""The plan: what every pod of a service shall serve, spread over a few ConfigMaps.

Here because a plan is mounted in the pod like any other object. A ConfigMap holds at most 1 MiB, so a plan is packed
into shards, in the order in which the models are declared; the same service gives the same shards.

Does not carry a plan out: the sidecar does, with the same types (nereus.api.protocol).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nereus.api import names
from nereus.api.children import child
from nereus.api.manifests import Manifest
from nereus.api.problems import InvalidSpecError, Problem
from nereus.api.protocol import PLAN_KEY, REPOSITORY, SCHEME_ENSEMBLE, ModelPlan, Plan, digest, model_key
from nereus.api.service import ModelService
from nereus.api.spec.loading import Load
from nereus.api.spec.model import Model, Source
from nereus.api.values import SourceUri
from nereus.triton import config


def plan(service: ModelService, *, arena_bytes: int | None = None) -> tuple[Plan, tuple[dict[str, str], ...]]:
    """The plan, and the data of its ConfigMaps (at least one, at most PLAN_SHARDS). `arena_bytes`: the GPU memory that
    one ONNX model may take at most, None for any.

    Raises InvalidSpecError when it does not fit into them.
    """
    documents = {model.name: model_plan(model, arena_bytes).to_json() for model in service.models}
    if service.spec.repository is not None:
        documents[REPOSITORY] = repository_plan(service.spec.repository).to_json()
    whole = Plan(models={name: digest(text) for name, text in documents.items()})
    return whole, packed(whole, documents)


def packed(whole: Plan, documents: Mapping[str, str]) -> tuple[dict[str, str], ...]:
    """The data of the ConfigMaps of a plan. Raises InvalidSpecError when it does not fit into them."""
    shards: list[dict[str, str]] = [{PLAN_KEY: whole.to_json()}]
    free = [names.PLAN_SHARD_BYTES - _size(shards[0].items())]
    for index, (name, text) in enumerate(documents.items()):
        needed = _size([(model_key(name), text)])
        if needed > names.PLAN_SHARD_BYTES:
            raise InvalidSpecError((_too_large(f"spec.models[{index}]", name, needed, names.PLAN_SHARD_BYTES),))
        shard = next((number for number, room in enumerate(free) if room >= needed), len(shards))
        if shard == len(shards):
            if shard == names.PLAN_SHARDS:
                total = sum(_size([(model_key(key), value)]) for key, value in documents.items())
                limit = names.PLAN_SHARDS * names.PLAN_SHARD_BYTES
                raise InvalidSpecError((_too_large("spec.models", f"{len(documents)} models", total, limit),))
            shards.append({})
            free.append(names.PLAN_SHARD_BYTES)
        shards[shard][model_key(name)] = text
        free[shard] -= needed
    return tuple(shards)


def config_maps(service: ModelService, shards: Iterable[dict[str, str]]) -> tuple[Manifest, ...]:
    """The ConfigMaps that carry the plan into the pods."""
    return tuple(
        child(
            service,
            api_version="v1",
            kind="ConfigMap",
            name=names.plan_config_map(service.name, number),
            data=dict(sorted(data.items())),
        )
        for number, data in enumerate(shards)
    )


def model_plan(model: Model, arena_bytes: int | None = None) -> ModelPlan:
    """What one pod shall do for one model."""
    specific = model.versions.specific if model.versions is not None else None
    return ModelPlan(
        name=model.name,
        source=str(model.uri) if model.uri else f"{SCHEME_ENSEMBLE}://",
        directory=_directory(model.uri) if model.uri else "",
        defaults_text=config.defaults_text(model, arena_bytes),
        config_text=model.config_text or "",
        fields_text=config.fields_text(model),
        removes=config.removed_paths(model),
        versions=tuple(sorted(specific or ())),
        **_pins(model.source),
        **_loading(model.load),
    )


def repository_plan(repository: Source) -> ModelPlan:
    """What one pod shall do for a whole repository."""
    uri = repository.uri
    return ModelPlan(name=REPOSITORY, source=str(uri), directory=_directory(uri), repository=True, **_pins(repository))


def _pins(source: Source | None) -> Mapping[str, Any]:
    """What only a downloaded source has."""
    if source is None:
        return {}
    return {
        "revision": source.revision or "",
        "checksum": source.checksum or "",
        "credentials": names.credentials_mount(source.secret_name) if source.secret_name else "",
    }


def _loading(load: Load | None) -> Mapping[str, Any]:
    if load is None:
        return {}
    return {
        "load_order": load.order or 0,
        "load_seconds": load.timeout.seconds if load.timeout else 0.0,
        "optional": bool(load.optional),
    }


def _directory(uri: SourceUri) -> str:
    if not uri.is_volume:
        return ""
    mount = names.source_mount(uri.scheme, uri.name)
    # The rest of a configmap:// URI selects keys; it is no directory.
    return f"{mount}/{uri.path}" if uri.scheme == "pvc" and uri.path else mount


def _size(entries: Iterable[tuple[str, str]]) -> int:
    return sum(len(key.encode()) + len(value.encode()) for key, value in entries)


def _too_large(path: str, what: str, needed: int, limit: int) -> Problem:
    return Problem(
        path,
        f"{what}: the plan takes {needed:,} bytes and {limit:,} fit: shorten configText and parameters"
        " (or put them into config.pbtxt in the source), or divide the models over several ModelServices",
    )
