"""The golden files on a real API server: accepted as they are, stored as they are written, and pods that it admits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from nereus.api.manifests import Manifest
from tests.golden.write import Case, cases
from tests.harness.apiserver import Api

CASES = cases()


@pytest.fixture
def restricted(api: Api, namespace: str) -> str:
    """A namespace that refuses every pod that does not keep to the restricted standard."""
    labelled = api.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    assert labelled.returncode == 0, labelled.stderr
    return namespace


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_server_stores_every_object_as_it_is_written(api: Api, namespace: str, case: Case) -> None:
    """A difference would be taken for drift, and written again for ever."""
    for manifest in case.rendered().objects:
        if manifest["kind"] == "PodMonitor":  # its definition is not installed here
            continue
        stored = _dry_run(api, manifest, namespace)
        assert list(_differences(manifest, stored, manifest["kind"])) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_pods_are_admitted_where_only_restricted_ones_are(api: Api, restricted: str, case: Case) -> None:
    template = case.rendered().template.body
    spec = {
        key: value for key, value in template["spec"].items() if key not in ("priorityClassName", "serviceAccountName")
    }
    metadata = {**template["metadata"], "name": "pod"}
    _dry_run(api, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, restricted)


def _dry_run(api: Api, manifest: Manifest, namespace: str) -> Manifest:
    """What the server would store; fails with its words when it refuses or warns."""
    moved = {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}
    done = api.kubectl(
        *(
            "apply",
            "--server-side",
            "--dry-run=server",
            "--validate=strict",
            "--warnings-as-errors",
            "-o",
            "json",
            "-f",
            "-",
        ),
        stdin=json.dumps(moved),
    )
    assert done.returncode == 0, f"{manifest['kind']} {manifest['metadata']['name']}: {done.stderr}"
    stored: Manifest = json.loads(done.stdout)
    stored["metadata"]["namespace"] = manifest["metadata"].get("namespace")
    return stored


def _differences(written: Any, stored: Any, path: str) -> Iterator[str]:
    """Where what is stored is not what was written; what the server added by itself is none."""
    if isinstance(written, dict) and isinstance(stored, dict):
        for key, value in written.items():
            yield from _differences(value, stored.get(key), f"{path}.{key}")
    elif isinstance(written, list) and isinstance(stored, list) and len(written) == len(stored):
        for index, (one, other) in enumerate(zip(written, stored, strict=True)):
            yield from _differences(one, other, f"{path}[{index}]")
    elif written != stored:
        yield f"{path}: written {written!r}, stored {stored!r}"
