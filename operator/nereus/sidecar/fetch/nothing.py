"""The source of a model that has no files: an ensemble, which the resource describes completely."""

from __future__ import annotations

from pathlib import Path

from nereus.api.protocol import ModelPlan
from nereus.sidecar.fetch.base import FetchContext, Progress
from nereus.sidecar.layout import CONFIG


class NoSource:
    """An empty configuration, to which the plan adds all that is said."""

    changes = False
    resumes = False

    def __init__(self, model: ModelPlan, context: FetchContext) -> None:
        pass

    def fingerprint(self) -> str:
        return ""

    async def fetch(self, tree: Path, progress: Progress) -> Path:
        (tree / CONFIG).touch()
        progress.step = "nothing to fetch"
        return tree
