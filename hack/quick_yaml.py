"""Reading YAML with libyaml where PyYAML was built with it: the chart's definition alone takes Python half a second."""

from __future__ import annotations

from typing import Any

import yaml

LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(text: str) -> Any:
    """The one document of a text, of plain types only."""
    return yaml.load(text, Loader=LOADER)  # noqa: S506 - a safe loader


def load_all(text: str) -> list[Any]:
    """Every document of a text, without empty ones."""
    return [document for document in yaml.load_all(text, Loader=LOADER) if document]
