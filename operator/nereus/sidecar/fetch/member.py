"""The source of a model that came with a whole repository: its directory is there already."""

from __future__ import annotations

from pathlib import Path

from nereus.api.protocol import ModelPlan
from nereus.sidecar.fetch.base import FetchContext, Progress


class MemberSource:
    """A directory of a fetched repository. It never changes: another fetch is another directory."""

    changes = False
    resumes = False

    def __init__(self, model: ModelPlan, context: FetchContext) -> None:  # noqa: ARG002 (the shape of every source)
        self._directory = Path(model.directory)

    def fingerprint(self) -> str:
        return ""

    async def fetch(self, tree: Path, progress: Progress) -> Path:  # noqa: ARG002
        return self._directory
