"""The examples work as they stand, and one of them shows every field."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from pydantic import BaseModel

from hack import quick_yaml
from nereus.api.service import read
from nereus.api.spec import Spec
from nereus.rendering import render
from nereus.workload.settings import Settings

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.yaml"))
SETTINGS = Settings(sidecar_image="sidecar:1", triton_image="triton:1")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_becomes_objects_that_kubernetes_accepts(path: Path) -> None:
    documents = quick_yaml.load_all(path.read_text())
    [resource] = [document for document in documents if document["kind"] == "ModelService"]
    others = [document for document in documents if document["kind"] != "ModelService"]
    for manifest in (*others, *render(read(resource), settings=SETTINGS).objects):
        kubernetes_validate.validate(manifest, "1.35", strict=True)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_code_in_an_example_is_python(path: Path) -> None:
    for document in quick_yaml.load_all(path.read_text()):
        for key, code in (document.get("data") or {}).items():
            if key.endswith(".py"):
                compile(code, f"{path.name}:{key}", "exec")


def test_the_full_example_has_every_field() -> None:
    [path] = [path for path in EXAMPLES if path.stem == "full"]
    spec = read(quick_yaml.load(path.read_text())).spec
    # replicas belongs to strategy Manual, which excludes the other fields of scaling: examples/manual.yaml has it;
    # repository excludes models: examples/repository.yaml has it.
    assert set(_absent(spec, "spec")) == {"spec.scaling.replicas", "spec.repository"}


def _absent(*values: Any) -> Iterator[str]:
    """Fields that none of the given sections of one type has; the last value is their path."""
    *sections, path = values
    for field, info in type(sections[0]).model_fields.items():
        place = f"{path}.{info.alias or field}"
        found = [value for section in sections if (value := getattr(section, field)) is not None]
        inner = [item for value in found for item in (value if isinstance(value, tuple) else (value,))]
        if not found:
            yield place
        elif inner and isinstance(inner[0], BaseModel):
            yield from _absent(*inner, place)


def test_the_search_for_absent_fields_finds_them() -> None:
    minimal = Spec.model_validate({"models": [{"name": "m", "source": {"uri": "pvc://c"}}]})
    assert {"spec.runtime", "spec.models.backend"} <= set(_absent(minimal, "spec"))
