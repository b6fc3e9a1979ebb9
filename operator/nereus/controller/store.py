"""What the watches have seen, in memory: objects by kind and name, found from the ModelService that owns them.

Objects are kept as compressed text without what nobody reads (managed fields), which takes a fraction of the memory
of dictionaries and lets nobody change one by accident; a reader gets a fresh copy. `put` and `remove` say whether
anything changed that a reconcile could act upon, so that echoes and noise end here. No I/O.
"""

from __future__ import annotations

import json
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from nereus.api import names
from nereus.api.manifests import Manifest, digest
from nereus.controller.kinds import MODEL_SERVICE, Kind, kind_of

_TOMBSTONES = 10_000
"""Removed objects remembered, against a write's answer that arrives after the deletion."""


class Key(NamedTuple):
    """A ModelService."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


Follower = Callable[[Key, Manifest | None], None]


class Change(Enum):
    """What an event means: nothing, only figures that are shown, or something to act upon."""

    NONE = 0
    FIGURES = 1
    RELEVANT = 2


@dataclass(frozen=True, slots=True)
class _Entry:
    uid: str
    resource_version: str
    text: bytes
    owner: Key | None
    meaning: _Meaning | None
    """None for the first state of an object: found out when a second one comes, which for most of a fleet is never."""


class _Meaning(NamedTuple):
    """Digests of what a reconcile acts upon, and of what is only shown."""

    relevant: str
    figures: str


class Store:
    """Objects of the watched kinds."""

    def __init__(self) -> None:
        self._objects: dict[Kind, dict[Key, _Entry]] = defaultdict(dict)
        self._children: dict[Key, set[tuple[Kind, Key]]] = defaultdict(set)
        self._gone: OrderedDict[str, str] = OrderedDict()
        self._followers: dict[Kind, Follower] = {}

    def follow(self, kind: Kind, told: Follower) -> None:
        """Tells every state of the objects of a kind from now on, at once, and None for one that is gone."""
        self._followers[kind] = told

    def put(self, manifest: Manifest) -> Change:
        """Remember an object as it is now; an older state than the known one is ignored."""
        kind, where = kind_of(manifest["kind"]), _key(manifest)
        metadata = manifest["metadata"]
        uid, version = metadata.get("uid", ""), metadata.get("resourceVersion", "")
        known = self._objects[kind].get(where)
        before = known if known is not None and known.uid == uid else None
        last_seen = before.resource_version if before else self._gone.get(uid)
        if last_seen is not None and not newer(version, last_seen):
            return Change.NONE
        slim = _slim(manifest)
        entry = _Entry(
            uid=uid,
            resource_version=version,
            text=zlib.compress(json.dumps(slim, separators=(",", ":")).encode(), 1),
            owner=owner_of(manifest),
            meaning=_meaning(kind, slim) if before else None,
        )
        if known is not None and known.owner != entry.owner:
            self._unlink(kind, where, known)
        self._objects[kind][where] = entry
        if entry.owner is not None and kind is not MODEL_SERVICE:
            self._children[entry.owner].add((kind, where))
        if kind in self._followers:
            self._followers[kind](where, slim)
        if before is None or entry.meaning is None:
            return Change.RELEVANT
        meant = before.meaning or _meaning(kind, _parsed(before))
        if meant.relevant != entry.meaning.relevant:
            return Change.RELEVANT
        return Change.NONE if meant.figures == entry.meaning.figures else Change.FIGURES

    def remove(self, kind: Kind, key: Key, *, uid: str, resource_version: str) -> bool:
        """Forget an object that the watch shows no longer; False when it was not known or has a successor.

        It may exist still, when its labels were removed: it comes back with a newer resource version.
        """
        self._gone[uid] = resource_version
        while len(self._gone) > _TOMBSTONES:
            self._gone.popitem(last=False)
        known = self._objects[kind].get(key)
        if known is None or known.uid != uid:
            return False
        del self._objects[kind][key]
        self._unlink(kind, key, known)
        if kind in self._followers:
            self._followers[kind](key, None)
        return True

    def ended_at(self, uid: str) -> str:
        """The resource version at which the watch showed the end of an object; empty when it did not, or long ago."""
        return self._gone.get(uid, "")

    def get(self, kind: Kind, key: Key) -> Manifest | None:
        entry = self._objects[kind].get(key)
        return _parsed(entry) if entry else None

    def version(self, kind: Kind, key: Key) -> str:
        """The resource version of a known object; empty when it is not known."""
        entry = self._objects[kind].get(key)
        return entry.resource_version if entry else ""

    def children(self, owner: Key, kind: Kind) -> list[Manifest]:
        """The objects of one kind that belong to a ModelService, by name."""
        found = sorted(key for of, key in self._children.get(owner, ()) if of is kind)
        return [_parsed(self._objects[kind][key]) for key in found]

    def services(self) -> list[Key]:
        return list(self._objects[MODEL_SERVICE])

    def owner(self, kind: Kind, key: Key) -> Key | None:
        """The ModelService that a known object belongs to."""
        entry = self._objects[kind].get(key)
        return entry.owner if entry else None

    def known(self, kind: Kind) -> Iterator[tuple[Key, str, str]]:
        """Every object of a kind: name, uid and resource version."""
        for key, entry in list(self._objects[kind].items()):
            yield key, entry.uid, entry.resource_version

    def counts(self) -> dict[str, int]:
        return {kind.kind: len(objects) for kind, objects in self._objects.items()}

    def _unlink(self, kind: Kind, where: Key, entry: _Entry) -> None:
        if entry.owner is not None and kind is not MODEL_SERVICE:
            self._children[entry.owner].discard((kind, where))
            if not self._children[entry.owner]:
                del self._children[entry.owner]


def owner_of(manifest: Mapping[str, Any]) -> Key | None:
    """The ModelService that an object belongs to: by its owner reference, otherwise (pods) by its label."""
    namespace = manifest["metadata"].get("namespace", "")
    if manifest.get("kind") == names.KIND:
        return _key(manifest)
    owner = service_owner(manifest)
    if owner is not None:
        return Key(namespace, str(owner.get("name", "")))
    label = (manifest["metadata"].get("labels") or {}).get(names.LABEL_SERVICE)
    return Key(namespace, label) if label else None


def service_owner(manifest: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The owner reference to a ModelService, if any."""
    references: list[Mapping[str, Any]] = manifest["metadata"].get("ownerReferences") or []
    for reference in references:
        if reference.get("kind") == names.KIND and str(reference.get("apiVersion", "")).startswith(names.GROUP + "/"):
            return reference
    return None


def _key(manifest: Mapping[str, Any]) -> Key:
    metadata = manifest["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])


def newer(version: str, known: str) -> bool:
    """Resource versions are numbers that grow; one that is not a number is taken as news when it differs."""
    if version.isdigit() and known.isdigit():
        return int(version) > int(known)
    return version != known


def _parsed(entry: _Entry) -> Manifest:
    manifest: Manifest = json.loads(zlib.decompress(entry.text))
    return manifest


def _slim(manifest: Manifest) -> Manifest:
    """Without managed fields, and without the copy of the object that client-side apply leaves in an annotation."""
    metadata = {name: value for name, value in manifest["metadata"].items() if name != "managedFields"}
    annotations = metadata.get("annotations")
    if annotations:
        metadata["annotations"] = {name: value for name, value in annotations.items() if name != _LAST_APPLIED}
    return {**manifest, "metadata": metadata}


_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_TIMES = frozenset({"lastUpdateTime", "lastProbeTime", "lastHeartbeatTime", "lastTransitionTime", "lastScaleTime"})
_FIGURES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "HorizontalPodAutoscaler": (("status", "currentMetrics"), ("status", "observedGeneration")),
    "Deployment": (("metadata", "annotations", "deployment.kubernetes.io/revision"),),
}
"""Fields that change by themselves and only are shown: they refresh the status within a minute, not at once."""


def _meaning(kind: Kind, slim: Manifest) -> _Meaning:
    metadata = {name: value for name, value in slim["metadata"].items() if name != "resourceVersion"}
    relevant: Any = _without({**slim, "metadata": metadata}, _TIMES)
    figures = [_taken(relevant, path) for path in _FIGURES.get(kind.kind, ())]
    return _Meaning(digest(relevant), digest(figures))


def _without(value: Any, fields: Iterable[str]) -> Any:
    """A deep copy without fields of these names."""
    if isinstance(value, dict):
        return {name: _without(item, fields) for name, item in value.items() if name not in fields}
    if isinstance(value, list):
        return [_without(item, fields) for item in value]
    return value


def _taken(value: Any, path: tuple[str, ...]) -> Any:
    """Takes the value at a path out of nested mappings."""
    for step in path[:-1]:
        value = value.get(step) if isinstance(value, dict) else None
    return value.pop(path[-1], None) if isinstance(value, dict) else None
