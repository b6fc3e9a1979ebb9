"""A plan is taken only when all of it is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nereus.api.protocol import PLAN_KEY, ModelPlan, Plan, digest, model_key
from nereus.api.stages import NEXT_KEY, NextPlan, next_model_key
from nereus.sidecar import plan as plans
from nereus.sidecar.plan import PlanPendingError


def write(folder: Path, *models: ModelPlan) -> None:
    documents = {model.name: model.to_json() for model in models}
    for name, document in documents.items():
        (folder / model_key(name)).write_text(document)
    (folder / PLAN_KEY).write_text(Plan(models={name: digest(text) for name, text in documents.items()}).to_json())


A = ModelPlan(name="a", source="configmap://a", directory="/x/a", config_text="max_batch_size: 1", versions=(1, 2))
B = ModelPlan(name="b", source="https://host/b.tgz")


def test_a_whole_plan_is_read(tmp_path: Path) -> None:
    write(tmp_path, A, B)
    read = plans.read(tmp_path)
    assert read.models == (A, B)
    assert read.revision == Plan.from_json((tmp_path / PLAN_KEY).read_text()).revision


def test_a_missing_plan_is_something_to_wait_for(tmp_path: Path) -> None:
    with pytest.raises(PlanPendingError, match=r"plan.json does not exist"):
        plans.read(tmp_path)


def test_a_model_that_has_not_arrived_is_waited_for(tmp_path: Path) -> None:
    write(tmp_path, A, B)
    (tmp_path / model_key("b")).unlink()
    with pytest.raises(PlanPendingError, match="'b'"):
        plans.read(tmp_path)


def test_a_model_of_another_age_than_the_plan_is_waited_for(tmp_path: Path) -> None:
    write(tmp_path, A, B)
    (tmp_path / model_key("a")).write_text(ModelPlan(name="a", source="configmap://newer").to_json())
    with pytest.raises(PlanPendingError, match="another age"):
        plans.read(tmp_path)


def test_a_plan_cut_off_in_the_middle_is_waited_for(tmp_path: Path) -> None:
    write(tmp_path, A)
    text = (tmp_path / PLAN_KEY).read_text()
    for end in range(len(text)):
        (tmp_path / PLAN_KEY).write_text(text[:end])
        with pytest.raises(PlanPendingError):
            plans.read(tmp_path)


@pytest.mark.parametrize("name", ["..", ".", ".nereus", "a b", "modèle", "a%20b", "x" * 201])
def test_a_name_that_can_be_no_directory_is_refused_and_the_others_are_served(tmp_path: Path, name: str) -> None:
    write(tmp_path, A, ModelPlan(name=name, source="configmap://x"))
    read = plans.read(tmp_path)
    assert read.models == (A,)
    assert [refused for refused, _ in read.refused] == [name]


def test_a_name_with_a_slash_is_refused_without_looking_for_its_file(tmp_path: Path) -> None:
    (tmp_path / PLAN_KEY).write_text(Plan(models={"../../etc/x": "0"}).to_json())
    assert [name for name, _ in plans.read(tmp_path).refused] == ["../../etc/x"]


@pytest.mark.parametrize("name", ["My.model_v1-2", "1", "a..b", "model.tar.gz"])
def test_unusual_names_that_triton_knows_are_fine(tmp_path: Path, name: str) -> None:
    model = ModelPlan(name=name, source="configmap://x")
    write(tmp_path, model)
    assert plans.read(tmp_path).models == (model,)


def test_a_newer_operators_plan_is_understood(tmp_path: Path) -> None:
    document = A.to_json()[:-1] + ',"of_the_future":true}'
    (tmp_path / model_key("a")).write_text(document)
    newer = Plan(models={"a": digest(document)}, protocol=99)
    (tmp_path / PLAN_KEY).write_text(newer.to_json()[:-1] + ',"more":[1]}')
    assert plans.read(tmp_path).models == (A,)


def test_the_stamp_changes_when_the_kubelet_swaps_the_volume(tmp_path: Path) -> None:
    for age in ("one", "two"):
        (tmp_path / age).mkdir()
        write(tmp_path / age, A)
    link = tmp_path / "..data"
    link.symlink_to("one")
    (tmp_path / PLAN_KEY).symlink_to(f"..data/{PLAN_KEY}")
    before = plans.stamp(tmp_path)
    assert plans.stamp(tmp_path) == before
    link.unlink()
    link.symlink_to("two")
    assert plans.stamp(tmp_path) != before


def stage(folder: Path, *models: ModelPlan, pods: tuple[str, ...] = (), former: tuple[str, ...] | None = None) -> None:
    """Writes a plan that is tried beside the one that is there; only documents that differ."""
    documents = {model.name: model.to_json() for model in models}
    plan = Plan(models={name: digest(text) for name, text in documents.items()})
    for name, text in documents.items():
        shared = folder / model_key(name)
        if not shared.exists() or shared.read_text() != text:
            (folder / next_model_key(name)).write_text(text)
    (folder / NEXT_KEY).write_text(NextPlan(plan=plan, pods=pods, former=former).to_json())


C = replace(A, config_text="max_batch_size: 2")


def test_a_plan_that_is_tried_is_read_by_the_pods_that_are_named(tmp_path: Path) -> None:
    write(tmp_path, A, B)
    before = plans.stamp(tmp_path)
    stage(tmp_path, C, B, pods=("svc-1",))
    assert plans.stamp(tmp_path) != before
    mine, others = plans.read(tmp_path, pod="svc-1"), plans.read(tmp_path, pod="svc-2")
    assert (mine.models, mine.tried) == ((C, B), True)
    assert (others.models, others.tried) == ((A, B), False)
    assert plans.read(tmp_path).models == (A, B), "a sidecar that does not know its pod's name"


def test_the_pods_of_a_new_template_are_all_that_are_not_of_a_former_one(tmp_path: Path) -> None:
    write(tmp_path, A)
    stage(tmp_path, C, former=("svc-old-",))
    assert plans.read(tmp_path, pod="svc-old-x").models == (A,)
    assert plans.read(tmp_path, pod="svc-new-x").models == (C,)


def test_a_plan_that_is_tried_and_half_there_is_waited_for_by_its_pods_only(tmp_path: Path) -> None:
    write(tmp_path, A)
    stage(tmp_path, C, pods=("svc-1",))
    (tmp_path / next_model_key("a")).unlink()
    with pytest.raises(PlanPendingError, match="another age"):
        plans.read(tmp_path, pod="svc-1")
    assert plans.read(tmp_path, pod="svc-2").models == (A,)
    (tmp_path / NEXT_KEY).write_text("{")
    with pytest.raises(PlanPendingError, match="the plan that is tried cannot be read"):
        plans.read(tmp_path, pod="svc-2")


def test_a_plan_that_became_that_of_all_is_the_same_one(tmp_path: Path) -> None:
    write(tmp_path, A)
    stage(tmp_path, C, pods=("svc-1",))
    tried = plans.read(tmp_path, pod="svc-1")
    write(tmp_path, C)
    taken = plans.read(tmp_path, pod="svc-1")
    assert (taken.revision, taken.models, taken.tried) == (tried.revision, (C,), False)
