"""A tried plan that Triton did not survive: noted here, so that this pod goes back to what served before.

A plan that a pod tries first may hold a model that takes the whole server down. Its Triton would come back, load the
same model and die again. So a pod that served, tries a plan, and loses Triton during or after a load of it, does not
try that plan again in its life; a corrected plan has another revision. The note outlives a restart of this container.

Decides and remembers only; the plan is chosen in main, and the loader tells when Triton is gone.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path

from nereus.sidecar.state import Board, Record


def of_crash(board: Board) -> tuple[str, str] | None:
    """The revision that Triton did not survive, and why; None when nothing speaks against the plan.

    A pod that never took requests has nothing to go back to, and one that is about to stop needs nothing.
    """
    if not board.tried or board.moments.ready_at is None or board.draining:
        return None
    suspects = [record for record in board.planned if _suspect(record, since=board.tried_since)]
    if not suspects:
        return None
    return board.revision, f"Triton ended {_when(suspects)}"


def _suspect(record: Record, *, since: float) -> bool:
    return record.loading or max(record.loaded_at, record.interrupted_at) >= since


def _when(suspects: Iterable[Record]) -> str:
    loading = [record.name for record in suspects if record.loading or record.interrupted_at > record.loaded_at]
    if loading:
        return f"while it loaded {', '.join(loading)}"
    return f"after it had loaded {', '.join(record.name for record in suspects)}"


def recall(path: Path) -> tuple[str, str]:
    """What an earlier life of this container noted."""
    try:
        known = json.loads(path.read_text())
        return str(known["revision"]), str(known["why"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", ""


def remember(path: Path, rejected: tuple[str, str]) -> None:
    """Keeps it for the next life; a note that cannot be written costs one more crash."""
    with contextlib.suppress(OSError):
        path.write_text(json.dumps({"revision": rejected[0], "why": rejected[1]}))
