"""Where a live object differs from the wished one: pure comparison, so that an unchanged object is not written.

The wished object names fewer fields than the live one (the API server fills in the rest), so the question is
whether everything wished is there. Lists whose items have a name are compared by it, as the API server merges them;
other lists must have the same length and order. Fields that were wished formerly and are no longer wished cannot be
seen this way: the digest of what was applied last is kept in an annotation and compared first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nereus.api import names
from nereus.api.manifests import Manifest, digest
from nereus.api.values import decimal_of

_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
    "ownerReferences": ("uid",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
"""List fields that the API server merges by key (x-kubernetes-list-map-keys of its schema). `ports` is missing on
purpose: its key is port and protocol, but a port of the same name stands in the way, so it is compared whole."""

_QUANTITIES = frozenset({"requests", "limits"})
_QUANTITY = ("sizeLimit", "averageValue", "target.value")


def stamped(manifest: Manifest) -> Manifest:
    """The manifest with the digest of itself, as it is applied."""
    metadata = manifest["metadata"]
    annotations = {**(metadata.get("annotations") or {}), names.ANNOTATION_APPLIED: digest(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def differences(desired: Mapping[str, Any], live: Mapping[str, Any]) -> tuple[str, ...]:
    """Every wished value that the live object does not have: `path: live -> desired`. Empty when nothing is to do."""
    return tuple(_mapping(desired, live, ""))


def _compare(desired: Any, live: Any, path: str) -> Iterator[str]:
    if isinstance(desired, dict | list) and desired == live and repr(desired) == repr(live):
        return  # what most of it comes to, for a fraction of the time; in Python, 1 equals True
    keys = _KEYS.get(path.rpartition(".")[2])
    if isinstance(desired, dict) and (live is None or isinstance(live, dict)):
        yield from _mapping(desired, live or {}, path)
    elif isinstance(desired, list | tuple) and isinstance(live, list | None):
        if keys and all(isinstance(item, dict) for item in (*desired, *(live or ()))):
            yield from _keyed(desired, live or [], path, keys)
        else:
            yield from _listed(desired, live or [], path)
    elif not _same(desired, live, quantity=path.endswith(_QUANTITY)):
        yield f"{path}: {_short(live)} -> {_short(desired)}"


def _mapping(desired: Mapping[str, Any], live: Mapping[str, Any], path: str) -> Iterator[str]:
    quantities = path.rpartition(".")[2] in _QUANTITIES
    for name, value in desired.items():
        where = f"{path}.{name}" if path else name
        if quantities:
            if not _same(value, live.get(name), quantity=True):
                yield f"{where}: {_short(live.get(name))} -> {_short(value)}"
        else:
            yield from _compare(value, live.get(name), where)


def _keyed(
    desired: Sequence[Mapping[str, Any]], live: Sequence[Mapping[str, Any]], path: str, keys: tuple[str, ...]
) -> Iterator[str]:
    present = {_key(item, keys): item for item in live}
    for item in desired:
        key = _key(item, keys)
        where = f"{path}[{key}]"
        if key in present:
            yield from _mapping(item, present[key], where)
        else:
            yield f"{where}: absent"


def _listed(desired: Sequence[Any], live: Sequence[Any], path: str) -> Iterator[str]:
    if len(desired) != len(live):
        yield f"{path}: {len(live)} items -> {len(desired)}"
        return
    for index, (wished, there) in enumerate(zip(desired, live, strict=True)):
        yield from _compare(wished, there, f"{path}[{index}]")


def _key(item: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    return ",".join(str(item.get(key)) for key in keys)


def _same(desired: Any, live: Any, *, quantity: bool) -> bool:
    if desired == live and isinstance(desired, bool) == isinstance(live, bool):
        return True
    if live is None and desired in ("", None):
        return True  # the API server leaves empty values out
    if quantity and isinstance(desired, str | int) and isinstance(live, str | int):
        amount = decimal_of(desired)
        return amount is not None and amount == decimal_of(live)
    return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
