"""Fetching as the sidecar does it: the process that downloads runs with the packages of the sidecar's image."""

from __future__ import annotations

import functools
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nereus.api.protocol import ModelPlan
from nereus.sidecar.fetch import FetchContext, Limits, Progress, source_of
from tests.tiers import ROOT


@functools.cache
def image_python() -> str:
    """The interpreter of the environment that has what the sidecar's image has; installed once per lock file."""
    for target in ("fetch-venv", "print-fetch-venv"):
        done = subprocess.run(
            ["make", "--silent", "--no-print-directory", target], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"make {target}: {done.stdout}{done.stderr}"
    return f"{done.stdout.strip()}/bin/python"


@dataclass
class Fetching:
    """One source and the directory it is fetched into; `again` in the same directory is the next attempt."""

    work: Path
    plan: ModelPlan
    limits: Limits = field(default_factory=lambda: Limits(silence_seconds=5.0, connect_seconds=5.0, retry_seconds=0.05))
    progress: Progress = field(default_factory=Progress)

    async def again(self) -> dict[str, bytes]:
        """Fetches; what lies in the tree then, by relative path. Raises FetchError."""
        root = await self.start()
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}

    async def start(self) -> Path:
        """Fetches; where the tree is. Raises FetchError."""
        self.progress = Progress()
        tree = self.work / "tree"
        tree.mkdir(parents=True, exist_ok=True)
        context = FetchContext(limits=self.limits, python=image_python())
        return await source_of(self.plan, context).fetch(tree, self.progress)


async def fetch(work: Path, source: str, **plan: Any) -> dict[str, bytes]:
    """The files of a source, fetched once into a fresh directory."""
    return await Fetching(work, ModelPlan(name="m", source=source, **plan)).again()
