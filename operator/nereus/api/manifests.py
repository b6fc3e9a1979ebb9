"""The type of a Kubernetes object at the border, and the few readings of one that every room needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

Manifest = dict[str, Any]


def identity(manifest: Mapping[str, Any]) -> tuple[str, str, str]:
    """(kind, namespace, name) of an object."""
    metadata = manifest.get("metadata") or {}
    return str(manifest.get("kind", "")), str(metadata.get("namespace", "")), str(metadata.get("name", ""))


def canonical(value: object) -> str:
    """One text for one value: sorted keys, no white space. Two equal values have the same text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def digest(value: object) -> str:
    """A short name for a value, fit for an object name: the first 10 hex digits of the SHA-256 of its text."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:10]
