"""Who gets which plan now: one pod first, then the rest, and nobody loses what serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nereus.api import names
from nereus.api.protocol import PLAN_KEY, ModelPlan, ModelReport, ModelState, Plan, PodReport, digest
from nereus.api.stages import NEXT_KEY, Bundle, NextPlan, bundle, next_bundle
from nereus.workload import stages
from nereus.workload.plan import packed
from nereus.workload.stages import Phase, RunningPod, Situation, Stage

Shards = tuple[dict[str, str], ...]


def plan(*, batch: int = 8, models: Sequence[str] = ("m",), fields: str = "", size: int = 0) -> Bundle:
    documents = {
        name: ModelPlan(
            name=name,
            source="https://h/m.zip",
            fields_text=fields or f"max_batch_size: {batch}",
            config_text="#" * size,
        ).to_json()
        for name in models
    }
    return Bundle(plan=Plan(models={name: digest(text) for name, text in documents.items()}), documents=documents)


def shards(of: Bundle) -> Shards:
    return packed(of.plan, of.documents)


def report(of: Bundle, *, state: ModelState = ModelState.READY, size: int = 0, **more: Any) -> PodReport:
    models = tuple(ModelReport(name=name, state=state, serving=True, version_bytes=size) for name in of.documents)
    return PodReport(**{"revision": of.revision, "models": models, "ready": True, "stages": True, **more})


def pod(name: str, of: Bundle | None, *, prefix: str = "svc-a-", ready: bool = True, **more: Any) -> RunningPod:
    said = report(of, **more) if of else None
    return RunningPod(name=f"{prefix}{name}", prefix=prefix, created=name, ready=ready, report=said)


OLD, NEW, NEWER = plan(batch=8), plan(batch=16), plan(batch=32)
THREE = tuple(pod(str(number), OLD) for number in range(3))


def decide(wanted: Bundle, live: Sequence[Mapping[str, str]], *pods: RunningPod, **more: Any) -> Stage:
    return stages.decide(wanted, shards(wanted), live, Situation(pods=pods, **more))


def test_a_change_that_the_first_pod_took_back_stays_there_and_says_why() -> None:
    trying = decide(NEW, shards(OLD), *THREE)
    back = pod("0", OLD, rejected=NEW.revision, rejected_why="Triton ended while it loaded m")
    stage = decide(NEW, trying.data, back, *THREE[1:])
    assert stage.data == trying.data, "nothing is written, nobody else tries it"
    assert stage.message == (
        "pod svc-a-0 went back to the former models and settings: Triton ended while it loaded m;"
        " they are not tried again"
    )
    corrected = decide(NEWER, stage.data, back, *THREE[1:])
    assert corrected.first == ("svc-a-0",)
    assert "tries the changed" in corrected.message


def test_the_first_plan_is_for_every_pod() -> None:
    stage = decide(NEW, ())
    assert (stage.phase, stage.data, stage.kept) == (Phase.DONE, shards(NEW), None)


def test_an_unchanged_plan_changes_nothing() -> None:
    stage = decide(OLD, shards(OLD), *THREE)
    assert (stage.data, stage.following, stage.kept) == (shards(OLD), None, None)


def test_one_pod_tries_a_change_and_every_other_and_every_new_pod_stays() -> None:
    stage = decide(NEW, shards(OLD), *THREE)
    assert (stage.phase, stage.first) == (Phase.TRYING, ("svc-a-0",))
    assert [stage.revision_of(f"svc-a-{name}") for name in ("0", "1", "2", "new")] == [NEW.revision] + 3 * [
        OLD.revision
    ]
    whole = {key: text for shard in stage.data for key, text in shard.items()}
    stable, tried = bundle(whole), next_bundle(whole)
    assert stable == OLD
    assert tried is not None
    assert tried[1] == NEW
    assert stage.kept == OLD
    assert "pod svc-a-0 tries" in stage.message
    assert "2 others and new pods go on" in stage.message


def test_the_others_follow_when_the_first_pod_serves_it_and_not_before() -> None:
    trying = decide(NEW, shards(OLD), *THREE)
    half = replace(THREE[0], report=report(NEW, state=ModelState.LOADING))
    again = decide(NEW, trying.data, half, *THREE[1:])
    assert again.data == trying.data
    served = decide(NEW, trying.data, pod("0", NEW), *THREE[1:])
    assert (served.phase, served.data, served.kept) == (Phase.DONE, shards(NEW), OLD)


def test_a_change_that_fails_stays_with_the_first_pod() -> None:
    trying = decide(NEW, shards(OLD), *THREE)
    failed = decide(NEW, trying.data, pod("0", NEW, state=ModelState.LOAD_FAILED), *THREE[1:], pod("9", OLD))
    assert failed.data == trying.data
    assert failed.revision_of("svc-a-9") == OLD.revision


def test_what_is_not_ready_by_its_own_word_proves_nothing() -> None:
    trying = decide(NEW, shards(OLD), *THREE)
    assert decide(NEW, trying.data, pod("0", NEW), *THREE[1:]).following is None
    unready = replace(THREE[0], report=replace(report(NEW), ready=False))
    assert decide(NEW, trying.data, unready, *THREE[1:]).data == trying.data


def test_another_change_is_tried_by_the_same_pod() -> None:
    trying = decide(NEW, shards(OLD), *THREE[1:])
    assert trying.first == ("svc-a-1",)
    next_one = decide(NEWER, trying.data, *THREE)
    assert next_one.first == ("svc-a-1",)
    assert next_one.stable == OLD
    assert next_one.revision_of("svc-a-1") == NEWER.revision


def test_a_change_taken_back_leaves_nothing() -> None:
    trying = decide(NEW, shards(OLD), *THREE)
    back = decide(OLD, trying.data, *THREE)
    assert (back.data, back.following) == (shards(OLD), None)


def test_another_pod_tries_when_the_first_one_is_gone() -> None:
    trying = decide(NEW, shards(OLD), *THREE)
    assert decide(NEW, trying.data, *THREE[1:]).first == ("svc-a-1",)


def test_where_no_pod_serves_there_is_nothing_to_protect() -> None:
    broken = replace(THREE[0], ready=False)
    stage = decide(NEW, shards(OLD), broken)
    assert (stage.data, stage.kept) == (shards(NEW), OLD)
    assert "nothing to protect" in stage.message


def test_nothing_is_tried_while_no_pod_has_been_heard() -> None:
    silent = tuple(replace(each, report=None) for each in THREE)
    stage = decide(NEW, shards(OLD), *silent)
    assert (stage.phase, stage.first) == (Phase.WAITING, ())
    assert {stage.revision_of(each.name) for each in silent} == {OLD.revision}


def test_sidecars_that_know_no_stages_get_a_change_at_once() -> None:
    older = tuple(pod(str(number), OLD, stages=False) for number in range(2))
    stage = decide(NEW, shards(OLD), *older)
    assert stage.data == shards(NEW)
    assert "know no stages" in stage.message


def test_of_mixed_sidecars_one_that_knows_stages_is_first() -> None:
    stage = decide(NEW, shards(OLD), pod("0", OLD, stages=False), pod("1", OLD))
    assert stage.first == ("svc-a-1",)


def test_with_a_new_template_its_pods_try_the_change_and_the_former_ones_stay() -> None:
    stage = decide(NEW, shards(OLD), *THREE, template_changes=True)
    assert stage.phase is Phase.REPLACING
    assert stage.revision_of("svc-a-1") == OLD.revision
    assert stage.revision_of("svc-b-1") == NEW.revision
    newcomer = pod("5", NEW, prefix="svc-b-")
    going = decide(NEW, stage.data, *THREE, newcomer, rolling=True)
    assert going.data == stage.data
    unknown = decide(NEW, stage.data, *THREE, newcomer, rolling=None)
    assert unknown.data == stage.data, "the Deployment has not said yet"
    over = decide(NEW, stage.data, newcomer)
    assert (over.phase, over.data) == (Phase.DONE, shards(NEW))


def test_a_former_template_that_comes_back_is_no_dead_end() -> None:
    stage = decide(NEW, shards(OLD), *THREE, template_changes=True)
    back = decide(NEWER, stage.data, *THREE, template_changes=True)
    assert back.revision_of("svc-a-0") == OLD.revision
    over = decide(NEWER, back.data, *THREE)
    assert (over.phase, over.first) == (Phase.TRYING, ("svc-a-0",))


def test_a_deployment_that_was_only_scaled_does_not_move_the_change_to_other_pods() -> None:
    trying = decide(NEW, shards(OLD), *THREE)
    assert decide(NEW, trying.data, *THREE, rolling=None).data == trying.data


MIB = 2**20


def large(number: int) -> RunningPod:
    return pod(str(number), OLD, size=300 * MIB)


def test_pods_are_replaced_where_their_memory_cannot_hold_old_and_new() -> None:
    stage = decide(NEW, shards(OLD), large(0), large(1), memory_limit_bytes=512 * MIB)
    assert (stage.phase, stage.restart) == (Phase.REPLACING, NEW.revision)
    assert "the memory limit of 512 MiB cannot hold the models (300 MiB of files) and m (300 MiB)" in stage.message
    assert {stage.revision_of(f"svc-a-{number}") for number in range(2)} == {OLD.revision}, "none loads beside"
    waiting = decide(NEW, stage.data, large(0), large(1), memory_limit_bytes=512 * MIB)
    assert waiting.restart == NEW.revision, "asked for until the Deployment has it"
    newcomer = pod("7", NEW, prefix="svc-b-", size=300 * MIB)
    going = decide(
        NEW, stage.data, large(0), newcomer, memory_limit_bytes=512 * MIB, rolling=True, restarted=NEW.revision
    )
    assert going.data == stage.data
    done = decide(NEW, stage.data, newcomer, memory_limit_bytes=512 * MIB, restarted=NEW.revision)
    assert (done.phase, done.data) == (Phase.DONE, shards(NEW))


@pytest.mark.parametrize(
    ("wanted", "limit"),
    [
        pytest.param(NEW, None, id="no limit"),
        pytest.param(NEW, 700 * MIB, id="room for both"),
        pytest.param(
            plan(fields="max_batch_size: 8 instance_group [{ count: 3 }]"), 512 * MIB, id="instances change in place"
        ),
        pytest.param(plan(models=("m", "another")), 512 * MIB, id="nothing is loaded twice"),
    ],
)
def test_pods_stay_where_nothing_is_loaded_twice_or_both_fit(wanted: Bundle, limit: int | None) -> None:
    stage = decide(wanted, shards(OLD), large(0), memory_limit_bytes=limit)
    assert (stage.phase, stage.restart) == (Phase.TRYING, "")


@pytest.mark.parametrize("spoiled", ["{}", "not json", '{"models": {"m": "0"}, "revision": "x"}'])
def test_a_plan_that_somebody_spoiled_is_simply_written_again(spoiled: str) -> None:
    live = ({**shards(OLD)[0], PLAN_KEY: spoiled},)
    assert decide(NEW, live, *THREE).data == shards(NEW)


def test_a_tried_plan_that_somebody_spoiled_is_written_again() -> None:
    trying = decide(NEW, shards(OLD), *THREE)
    spoiled = ({**trying.data[0], NEXT_KEY: "nonsense"},)
    assert decide(NEW, spoiled, *THREE).data == trying.data


def test_plans_that_do_not_fit_together_go_to_all_pods_with_the_reason() -> None:
    two = ("a", "b", "c")
    old, new = (plan(batch=batch, models=two, size=800_000) for batch in (1, 2))
    stage = decide(new, shards(old), pod("0", old), pod("1", old))
    assert stage.data == shards(new)
    assert "do not fit" in stage.message


def test_a_config_map_that_is_left_over_is_emptied() -> None:
    old = plan(models=("a", "b"), size=500_000)
    assert len(shards(old)) == 2
    small = plan(models=("a",))
    stage = stages.decide(small, shards(small), shards(old), Situation())
    assert [bool(shard) for shard in stage.data] == [True, False]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.sampled_from([None, OLD, NEW, NEWER])), max_size=4),
    st.booleans(),
    st.sampled_from([True, False, None]),
    st.sampled_from([None, 512 * MIB]),
    st.lists(st.sampled_from([OLD, NEW, NEWER]), min_size=1, max_size=4),
)
def test_every_stage_is_whole_fits_and_is_repeated(
    pods: list[tuple[str, bool, Bundle | None]],
    template_changes: bool,
    rolling: bool | None,
    limit: int | None,
    wishes: list[Bundle],
) -> None:
    live = shards(OLD)
    running = tuple(
        pod(str(number), of, prefix=f"svc-{letter}-", ready=ready, **({"size": 300 * MIB} if of else {}))
        for number, (letter, ready, of) in enumerate(pods)
    )
    situation = Situation(pods=running, template_changes=template_changes, rolling=rolling, memory_limit_bytes=limit)
    for wanted in wishes:
        stage = stages.decide(wanted, shards(wanted), live, situation)
        whole = {key: text for shard in stage.data for key, text in shard.items()}
        assert bundle(whole) == stage.stable
        assert all(sum(map(len, shard.values())) <= names.PLAN_SHARD_BYTES for shard in stage.data)
        tried = next_bundle(whole)
        assert (tried is None) == (stage.following is None)
        if tried:
            assert tried[0] == stage.following
            assert tried[1] == wanted
        again = stages.decide(wanted, shards(wanted), stage.data, situation)
        assert again.data == stage.data
        live = stage.data


def test_who_tries_is_read_back_as_it_was_written() -> None:
    for made in (NextPlan(plan=NEW.plan, pods=("a",)), NextPlan(plan=NEW.plan, former=("a-",), restart="because")):
        assert NextPlan.from_json(made.to_json()) == made


def test_the_name_of_a_pod_of_a_long_service_is_cut_as_the_api_server_cuts_it() -> None:
    prefix = "s" * 63 + "-6d5f9c7b8d-"
    made = NextPlan(plan=NEW.plan, former=(prefix,))
    assert not made.runs_in(prefix[:58] + "x2k4p")
