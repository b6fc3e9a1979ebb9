"""Writes the golden files, or names those that are stale."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack import quick_yaml
from nereus.api.service import ModelService, read
from nereus.cli import to_yaml
from nereus.gpu.nodes import NodeGpus
from nereus.gpu.nodes import read as read_node
from nereus.rendering import Rendered, render
from nereus.workload.settings import Settings

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CASES = HERE / "cases"
EXPECTED = HERE / "expected"
UID = "00000000-0000-4000-8000-000000000001"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One ModelService and the settings of the installation that renders it."""

    name: str
    settings: Settings
    service: ModelService
    nodes: tuple[NodeGpus, ...] | None = None

    def rendered(self) -> Rendered:
        return render(self.service, settings=self.settings, nodes=self.nodes)

    def text(self) -> str:
        return "".join(f"---\n{to_yaml(manifest)}" for manifest in self.rendered().objects)


def cases() -> list[Case]:
    """Every case, by name."""
    return [_case(path) for path in sorted(CASES.glob("*.yaml"))]


def write(*, check: bool = False) -> list[Path]:
    """The stale golden files, from the root of the repository; they are written (or removed) unless `check`."""
    wanted = {EXPECTED / f"{case.name}.yaml": case.text() for case in cases()}
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    orphans = sorted(set(EXPECTED.glob("*.yaml")) - set(wanted))
    if not check:
        EXPECTED.mkdir(exist_ok=True)
        for path in stale:
            path.write_text(wanted[path], encoding="utf-8")
        for path in orphans:
            path.unlink()
    return [path.relative_to(ROOT) for path in (*stale, *orphans)]


def _case(path: Path) -> Case:
    settings: dict[str, Any] = {"sidecar_image": "nereus/sidecar:golden", "triton_image": "nereus/triton:golden"}
    resource: dict[str, Any] = {}
    nodes: tuple[NodeGpus, ...] | None = None
    for document in quick_yaml.load_all(path.read_text(encoding="utf-8")):
        if "settings" in document:
            settings |= document["settings"]
        elif "nodes" in document:
            nodes = tuple(filter(None, map(read_node, document["nodes"])))
        else:
            resource = document
    resource["metadata"] = {"uid": UID, **resource["metadata"]}
    return Case(name=path.stem, settings=Settings(**settings), service=read(resource), nodes=nodes)
