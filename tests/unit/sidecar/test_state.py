"""When Triton may start, when a pod takes requests, and what its report says."""

from __future__ import annotations

import pytest

from nereus.api.protocol import ModelPlan, ModelState, PodReport
from nereus.sidecar import metrics
from nereus.sidecar.state import Board, Publication, Record, shorten


def publication(digest: str = "d1") -> Publication:
    return Publication(digest=digest, config_text="", entries={})


def record(name: str, *, fetched: bool = True, **fields: object) -> Record:
    made = Record(name, plan=ModelPlan(name=name, source="configmap://x"), tried=True)
    if fetched:
        made.source_state, made.wanted = ModelState.FETCHED, publication()
    else:
        made.source_state, made.source_message = ModelState.FETCH_FAILED, "404 Not Found"
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def serving(name: str, digest: str = "d1") -> Record:
    return record(name, versions=("1",), loaded=digest, served=True)


def board(*records: Record, was_ready: bool = False) -> Board:
    made = Board(records={each.name: each for each in records}, revision="r", server_live=True)
    made.moments.started_at = 100.0
    made.moments.ready_at = 150.0 if was_ready else None
    return made


def ready_names(made: Board) -> frozenset[str]:
    return frozenset(each.name for each in made.planned if each.serving)


def test_triton_waits_for_a_plan() -> None:
    assert Board().unstarted() == ["there is no plan yet"]
    assert Board().unready(frozenset()) == ["there is no plan yet"]


def test_triton_waits_until_every_source_was_tried() -> None:
    fetching = record("b", fetched=False, tried=False, source_state=ModelState.FETCHING)
    assert board(record("a"), fetching).unstarted() == ["b: Fetching"]


def test_a_source_that_fails_for_good_does_not_keep_the_others_from_starting() -> None:
    assert board(record("a"), record("b", fetched=False)).unstarted() == []


def test_triton_does_not_start_without_any_model() -> None:
    assert board(record("a", fetched=False)).unstarted() == ["a: FetchFailed: 404 Not Found"]


def test_a_new_pod_is_ready_when_every_model_is() -> None:
    made = board(serving("a"), record("b"))
    assert made.unready(ready_names(made)) == ["b: Fetched"]
    made = board(serving("a"), serving("b"))
    assert made.unready(ready_names(made)) == []
    assert made.settle()
    assert made.moments.ready_at is not None


def test_a_new_pod_says_in_tritons_words_which_model_keeps_it_from_being_ready() -> None:
    made = board(record("a", failed="d1", load_message="version 1: Internal: no memory"))
    assert made.unready(frozenset()) == ["a: LoadFailed: version 1: Internal: no memory"]


def test_a_later_change_that_fails_takes_no_pod_out_of_service() -> None:
    changed = serving("a", digest="d0")
    changed.failed = "d1"
    made = board(changed, record("new", fetched=False), was_ready=True)
    assert made.unready(ready_names(made)) == []
    assert changed.report().state is ModelState.LOAD_FAILED
    assert changed.report().serving


def test_a_model_that_served_and_is_gone_takes_the_pod_out_of_service() -> None:
    gone = serving("a")
    assert board(gone, serving("b"), was_ready=True).unready(frozenset({"b"})) == ["a: gone from Triton"]


def test_a_pod_that_was_ready_before_a_restart_of_both_containers_is_not_ready_without_models() -> None:
    assert board(record("a"), was_ready=True).unready(frozenset())


@pytest.mark.parametrize("fails", [ModelState.FETCH_FAILED, ModelState.LOAD_FAILED])
def test_a_pod_takes_requests_without_a_model_that_is_optional(fails: ModelState) -> None:
    extra = record("extra", fetched=fails is ModelState.LOAD_FAILED, failed="d1")
    extra.plan = ModelPlan(name="extra", source="configmap://x", optional=True)
    assert extra.state is fails
    made = board(serving("a"), extra)
    assert made.unready(ready_names(made)) == []
    extra.failed, extra.source_state = "", ModelState.FETCHING
    assert made.unready(ready_names(made)), "as long as it may still come, it is waited for"


def test_a_pod_that_serves_nothing_takes_no_requests_whatever_is_optional() -> None:
    extra = record("extra", fetched=False)
    extra.plan = ModelPlan(name="extra", source="configmap://x", optional=True)
    made = board(extra)
    assert made.unready(frozenset()) == ["no model of the plan has ever served in this pod"]


def test_a_model_that_left_the_plan_is_not_waited_for() -> None:
    made = board(serving("a"), record("b", removing=True, served=True), was_ready=True)
    assert made.unready(ready_names(made)) == []


def test_a_draining_pod_is_not_ready() -> None:
    made = board(serving("a"), was_ready=True)
    made.draining = True
    assert made.unready(ready_names(made)) == ["draining: this pod is about to stop"]


def test_an_empty_plan_starts_and_is_ready() -> None:
    assert board().unstarted() == []
    assert board().unready(frozenset()) == []


def test_the_report_survives_the_way_to_the_operator() -> None:
    report = board(serving("a"), record("b", fetched=False)).report()
    assert PodReport.from_json(report.to_json()) == report
    assert [model.state for model in report.models] == [ModelState.READY, ModelState.FETCH_FAILED]
    assert report.models[1].message == "404 Not Found"


@pytest.mark.parametrize("text", ["short", "x" * 5000, "é" * 2000, "a" + "€" * 2000])
def test_a_message_is_at_most_1_kib_and_keeps_its_beginning_and_end(text: str) -> None:
    short = shorten(text)
    assert len(short.encode()) <= 1024
    assert short.startswith(text[:100])
    assert short.endswith(text[-50:])


def test_metrics_are_what_prometheus_reads() -> None:
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed")
    made = board(serving('odd"name\\'), record("b", load_failures=3, load_seconds=1.5))
    families = {family.name: family for family in parser.text_string_to_metric_families(metrics.render(made))}
    samples = {
        (sample.name, sample.labels.get("model")): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert samples["nereus_model_ready", 'odd"name\\'] == 1
    assert samples["nereus_model_ready", "b"] == 0
    assert samples["nereus_model_load_failures_total", "b"] == 3
    assert samples["nereus_model_load_seconds", "b"] == 1.5
    assert all(family.documentation and family.type in ("gauge", "counter") for family in families.values())
