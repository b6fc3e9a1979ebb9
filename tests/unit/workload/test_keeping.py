"""Plans that were run are kept, numbered, bounded by the controller, and found again."""

from __future__ import annotations

import pytest

from nereus.api import names
from nereus.api.problems import InvalidSpecError
from nereus.api.service import ModelService, read
from nereus.workload import keeping
from tests.harness.resources import service
from tests.unit.workload.test_stages import NEW, NEWER, OLD, plan


def asking(revision: str) -> ModelService:
    resource = service()
    resource["metadata"]["annotations"] = {names.ANNOTATION_ROLLBACK: revision}
    return read(resource)


def test_a_kept_plan_is_found_again_by_its_revision() -> None:
    first = keeping.kept(asking(""), OLD, [])
    assert first is not None
    second = keeping.kept(asking(""), NEW, [first])
    assert second is not None
    assert (first["revision"], second["revision"]) == (1, 2)
    assert keeping.revisions([first, second]) == (NEW.revision, OLD.revision)
    assert keeping.asked_for(asking(OLD.revision), (), [first, second]) == OLD
    assert keeping.asked_for(asking(NEWER.revision), (NEWER, None), [first]) == NEWER, "one that runs needs no copy"
    assert keeping.is_plan(first)
    assert not keeping.is_plan({"metadata": {"labels": {}}})


def test_the_same_plan_keeps_its_number_while_it_is_the_newest() -> None:
    first = keeping.kept(asking(""), OLD, [])
    assert first is not None
    assert keeping.kept(asking(""), OLD, [first]) == first
    second = keeping.kept(asking(""), NEW, [first])
    assert second is not None
    again = keeping.kept(asking(""), OLD, [first, second])
    assert again is not None
    assert (again["revision"], again["data"]) == (3, first["data"])


def test_a_plan_that_is_not_kept_is_refused_with_those_that_are() -> None:
    first = keeping.kept(asking(""), OLD, [])
    assert first is not None
    with pytest.raises(InvalidSpecError) as refused:
        keeping.asked_for(asking("nonsense"), (NEW,), [first])
    [problem] = refused.value.problems
    assert names.ANNOTATION_ROLLBACK in problem.path
    assert OLD.revision in problem.message


def test_a_spoiled_copy_is_no_plan() -> None:
    first = keeping.kept(asking(""), OLD, [])
    assert first is not None
    first["data"]["documents"]["m"] = "{}"
    assert keeping.revisions([first]) == ()


def test_a_plan_that_no_object_can_hold_is_not_kept() -> None:
    assert keeping.kept(asking(""), plan(size=950_000), []) is None
