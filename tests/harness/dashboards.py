"""The dashboards of the chart as a test reads them: panels, their queries, and the variables filled in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]
FOLDER = Path(__file__).resolve().parents[2] / "charts" / "nereus" / "dashboards"


@dataclass(frozen=True)
class Panel:
    """One panel with its queries as they stand in the file."""

    board: str
    title: str
    description: str
    unit: str
    source: str
    queries: tuple[str, ...]
    optional: bool = False
    """In a closed row: only some services have it."""


def dashboards() -> dict[str, Json]:
    """Every dashboard by the name of its file."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}


def panels(board: Json) -> Iterator[Panel]:
    """The panels of a dashboard, rows left out."""
    for panel in board["panels"]:
        yield from (_read(board, inner, optional=True) for inner in panel.get("panels") or ())
        if panel["type"] != "row":
            yield _read(board, panel)


def _read(board: Json, panel: Json, *, optional: bool = False) -> Panel:
    return Panel(
        board=str(board["uid"]),
        title=panel.get("title", ""),
        description=panel.get("description", ""),
        unit=panel.get("fieldConfig", {}).get("defaults", {}).get("unit", ""),
        source=(panel.get("datasource") or {}).get("uid", ""),
        queries=tuple(target["expr"] for target in panel.get("targets", ())),
        optional=optional,
    )


def filled(query: str, *, namespace: str, service: str, interval: str = "1m") -> str:
    """A query as Grafana would send it."""
    values = {"$__rate_interval": interval, "$namespace": namespace, "$service": service}
    for name, value in values.items():
        query = query.replace(name, value)
    return query
