"""When a pod takes a tried plan back, and when it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from nereus.api.protocol import PLAN_KEY, Plan
from nereus.api.stages import NEXT_KEY, NextPlan
from nereus.sidecar import plan as plans
from nereus.sidecar import rejection
from nereus.sidecar.state import Board, Record


def board(*records: Record, tried: bool = True, ready_at: float | None = 1.0, draining: bool = False) -> Board:
    made = Board(records={each.name: each for each in records}, revision="new", tried=tried, draining=draining)
    made.tried_since, made.moments.ready_at = 100.0, ready_at
    return made


LOADING, INTERRUPTED = Record("m", loading=True), Record("m", interrupted_at=101.0)
LOADED, UNTOUCHED = Record("m", loaded_at=101.0), Record("m", loaded_at=99.0)


@pytest.mark.parametrize(
    ("suspect", "words"),
    [
        (LOADING, "while it loaded m"),
        (INTERRUPTED, "while it loaded m"),
        (LOADED, "after it had loaded m"),
    ],
)
def test_a_plan_that_triton_did_not_survive_is_taken_back_with_the_model_to_blame(suspect: Record, words: str) -> None:
    assert rejection.of_crash(board(suspect, Record("other", loaded_at=5.0))) == ("new", f"Triton ended {words}")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(board(UNTOUCHED), id="nothing of it was loaded yet"),
        pytest.param(board(LOADING, tried=False), id="every pod runs it: there is nothing to go back to"),
        pytest.param(board(LOADING, ready_at=None), id="the pod never took requests"),
        pytest.param(board(LOADING, draining=True), id="the pod is about to stop"),
    ],
)
def test_an_end_of_triton_for_other_causes_takes_nothing_back(case: Board) -> None:
    assert rejection.of_crash(case) is None


def test_what_was_taken_back_is_known_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "rejected.json"
    assert rejection.recall(path) == ("", "")
    rejection.remember(path, ("new", "Triton ended"))
    assert rejection.recall(path) == ("new", "Triton ended")
    path.write_text("{torn")
    assert rejection.recall(path) == ("", "")


def test_a_plan_that_was_taken_back_is_not_read_again_and_a_corrected_one_is(tmp_path: Path) -> None:
    everybody, tried = Plan(models={}), Plan(models={"m": "0" * 16})
    (tmp_path / PLAN_KEY).write_text(everybody.to_json())
    (tmp_path / NEXT_KEY).write_text(NextPlan(plan=tried, pods=("a",)).to_json())
    assert plans.read(tmp_path, pod="a", but_not=tried.revision).revision == everybody.revision
    with pytest.raises(plans.PlanPendingError):  # it is read, and its document is not there yet
        plans.read(tmp_path, pod="a", but_not="another")
