"""What kube-score says is a problem unless it is excepted, and an exception that nothing needs is one too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hack import kube_score
from hack.kube_score import Accepted, Remark

WRITABLE = Remark("read-only", "Deployment d", "triton", "can be written")
ACCEPTED = Accepted("service", "read-only", "because", container="triton")


def told(*said: tuple[str, Remark], exceptions: tuple[Accepted, ...] = (ACCEPTED,)) -> list[str]:
    return list(kube_score.unexplained(said, exceptions))


def test_what_is_excepted_is_no_problem() -> None:
    assert told(("service", WRITABLE), ("service", WRITABLE)) == []


@pytest.mark.parametrize(
    ("of", "remark"),
    [
        ("chart", WRITABLE),
        ("service", Remark("read-only", "Deployment d", "triton-too", "can be written")),
        ("service", Remark("tags", "Deployment d", "triton", "latest")),
    ],
)
def test_an_exception_is_for_one_check_of_one_container_only(of: str, remark: Remark) -> None:
    assert told(("service", WRITABLE), (of, remark)) == [f"kube-score: {of}: {remark}"]


def test_an_exception_that_nothing_needs_is_a_problem() -> None:
    assert told() == ["kube-score: the exception of read-only (service) is not needed any more: take it out"]


def test_every_exception_has_a_reason_and_stands_once() -> None:
    assert all(len(each.reason) > 20 for each in kube_score.EXCEPTIONS)
    keys = [(each.of, each.check, each.about, each.container) for each in kube_score.EXCEPTIONS]
    assert len(keys) == len(set(keys))


def _program(folder: Path, says: str) -> Path:
    program = folder / "kube-score"
    program.write_text(f"#!/bin/sh\ncat > /dev/null\ncat <<'END'\n{says}\nEND\nexit 1\n")
    program.chmod(0o755)
    return program


def _object(*checks: Any) -> dict[str, Any]:
    return {"type_meta": {"kind": "Deployment"}, "object_meta": {"name": "d"}, "checks": checks}


def _check(grade: int, *comments: tuple[str, str], skipped: bool = False) -> dict[str, Any]:
    said = [{"path": path, "summary": summary} for path, summary in comments]
    return {"check": {"id": "c", "name": "C"}, "grade": grade, "skipped": skipped, "comments": said or None}


def test_everything_below_ok_is_read(tmp_path: Path) -> None:
    item = _object(_check(10), _check(5, ("a", "x"), ("b", "y")), _check(1), _check(1, ("a", "z"), skipped=True))
    found = kube_score.remarks(_program(tmp_path, json.dumps([item])), "")
    assert found == [
        Remark("c", "Deployment d", "a", "x"),
        Remark("c", "Deployment d", "b", "y"),
        Remark("c", "Deployment d", "", "C"),
    ]


def test_what_it_cannot_read_is_an_error_and_not_a_pass(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="Failed to parse"):
        kube_score.remarks(_program(tmp_path, "Failed to parse files"), "kind: [")
