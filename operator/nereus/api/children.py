"""The envelope of every object that a ModelService becomes: identity, labels, and whose it is.

Here because rooms that must not know each other (workload, scaling) make objects that must look the same to garbage
collection, selectors and the controller. Says nothing about what is inside an object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nereus.api import names
from nereus.api.manifests import Manifest
from nereus.api.service import ModelService


def child(
    service: ModelService,
    *,
    api_version: str,
    kind: str,
    name: str | None = None,
    annotations: Mapping[str, str] | None = None,
    **body: Any,
) -> Manifest:
    """One object of the service, named like it unless `name` says otherwise.

    Without a uid (`nereus render`) there is nothing that could own it, and the owner reference is left out.
    """
    metadata: dict[str, Any] = {
        "name": name or service.name,
        "namespace": service.namespace,
        "labels": names.child_labels(service.name),
    }
    if annotations:
        metadata["annotations"] = dict(annotations)
    if service.uid:
        metadata["ownerReferences"] = [service.owner_reference]
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}
