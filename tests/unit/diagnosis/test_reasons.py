"""What a person reads: for every observed world the REASON column, the words of the message and the health."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from nereus.api.protocol import ModelState
from nereus.api.reasons import Reason
from nereus.diagnosis import look_again, status
from nereus.diagnosis.reasons import PATIENCE
from tests.harness.status_checker import check_status, kstatus
from tests.unit.diagnosis.scenarios import NO_MEMORY, SCENARIOS
from tests.unit.diagnosis.worlds import (
    NOW,
    Scenario,
    deployment,
    model,
    pod,
    report,
    running,
    service,
    serving_pod,
    terminated,
    unscheduled,
    waiting,
    world,
)

Json = dict[str, Any]


def diagnosed(scenario_world: Any, previous: Json | None = None, *, later: float = 0) -> Json:
    return status(scenario_world, previous=previous or {}, now=NOW + timedelta(seconds=later))


def condition(of: Json, kind: str) -> Json:
    return next((item for item in of["conditions"] if item["type"] == kind), {})


def resource(of: Json) -> Json:
    return {"metadata": {"generation": 3}, "status": of}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_the_first_reason_is_the_one_a_person_needs(scenario: Scenario) -> None:
    made = diagnosed(scenario.world)
    ready = condition(made, "Ready")
    assert (ready["status"], ready["reason"]) == (str(scenario.ready), scenario.reason.value), made
    assert [words for words in scenario.says if words not in ready["message"]] == [], ready["message"]
    reasons = [entry["reason"] for entry in made.get("reasons", [])]
    assert [reason for reason in scenario.also if reason.value not in reasons] == [], reasons
    assert scenario.ready or reasons[0] == scenario.reason.value


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_every_status_keeps_the_promises_of_a_status(scenario: Scenario) -> None:
    made = diagnosed(scenario.world)
    assert check_status(resource(made)) == []
    assert kstatus(resource(made)) == scenario.health, made["conditions"]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_nothing_changes_while_the_world_does_not(scenario: Scenario) -> None:
    made = diagnosed(scenario.world)
    assert diagnosed(scenario.world, made) == made
    # Also with time, up to the moment that is announced.
    announced = look_again(scenario.world, previous=made, now=NOW)
    assert diagnosed(scenario.world, made, later=3600 if announced is None else announced - 1.5) == made


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_a_service_that_serves_and_is_then_observed_in_trouble_says_the_same(scenario: Scenario) -> None:
    before = diagnosed(SCENARIOS[0].world, later=-1000)
    made = diagnosed(scenario.world, before)
    assert condition(made, "Ready")["reason"] == scenario.reason.value
    assert check_status(resource(made)) == []


def test_the_two_moments_of_a_pull_that_fails_read_the_same() -> None:
    tries, waits = (
        next(scenario for scenario in SCENARIOS if scenario.name.endswith(f"while the kubelet {what}"))
        for what in ("tries", "waits")
    )
    messages = [condition(diagnosed(scenario.world), "Ready")["message"] for scenario in (tries, waits)]
    assert messages[0] == messages[1]


def test_the_two_moments_of_a_crash_loop_read_the_same() -> None:
    pause, again = (scenario for scenario in SCENARIOS if scenario.name.startswith("a server that crashes"))
    assert diagnosed(pause.world) == diagnosed(again.world)


def test_all_pods_are_counted_and_one_is_named() -> None:
    pods = [unscheduled(NO_MEMORY, name=f"resnet-{index}") for index in range(3)]
    made = diagnosed(world(pods, of=service(scaling={"minReplicas": 3})))
    assert made["reasons"] == [
        {
            "reason": "Unschedulable",
            "count": 3,
            "message": "3 pods, e.g. resnet-0: 0/3 nodes are available: 1 node(s) had untolerated taint"
            " {node-role.kubernetes.io/control-plane: }, 2 Insufficient memory",
        }
    ]


def test_different_troubles_of_different_pods_are_all_told_in_the_order_of_a_pods_life() -> None:
    pods = [
        serving_pod("resnet-a"),
        pod(
            "resnet-b", sidecar=running(), server=waiting("CrashLoopBackOff"), server_more={"lastState": terminated(1)}
        ),
        unscheduled(NO_MEMORY, name="resnet-c"),
        pod("resnet-d", created=-5),
    ]
    reports = [report(), report(model(ModelState.FETCHED), server_live=False), None, None]
    made = diagnosed(world(pods, reports, of=service(scaling={"minReplicas": 4})))
    assert [(entry["reason"], entry["count"]) for entry in made["reasons"]] == [
        ("Unschedulable", 1),
        ("Crashing", 1),
        ("ContainersStarting", 1),
    ]
    assert condition(made, "Ready")["message"].startswith("1/4 pods serve; pod resnet-c: ")


def test_two_hundred_models_of_one_broken_source_are_one_entry() -> None:
    many = service(models=200)
    failing = [model(ModelState.FETCH_FAILED, "connection refused", name=item.name) for item in many.models]
    made = diagnosed(world([pod(sidecar=running())], [report(*failing)], of=many))
    assert len(made["reasons"]) == 1
    assert "resnet-1, resnet-2, resnet-3 and 196 more" in made["reasons"][0]["message"]
    assert len(made["models"]) == 200
    assert check_status(resource(made)) == []


def test_a_former_crash_is_forgotten_when_the_pod_was_ready_since() -> None:
    crashed_long_ago = pod(
        sidecar=running(-9000),
        server=running(-5000),
        server_more={"restartCount": 1, "lastState": terminated(1, finished=-5001)},
        conditions=[
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-21T00:00:00Z"},
            {"type": "Ready", "status": "False", "lastTransitionTime": "2026-11-21T11:59:50Z"},
        ],
    )
    made = diagnosed(world([crashed_long_ago], [report(model(ModelState.LOADING))]))
    assert condition(made, "Ready")["reason"] == "LoadingModels"


def test_a_pod_that_nobody_could_ask_does_not_count_as_serving() -> None:
    made = diagnosed(world([serving_pod(sidecar=running(-20))]))
    assert condition(made, "Ready")["status"] == "False"
    assert condition(made, "ModelsLoaded")["status"] == "Unknown"
    assert made["replicas"] == "1/1"


def test_scaling_down_a_ready_service_does_not_make_it_unready() -> None:
    scaled = service(scaling={"minReplicas": 1, "maxReplicas": 5})
    pods, reports = [serving_pod("a"), serving_pod("b")], [report(), report()]
    before = diagnosed(world(pods, reports, of=scaled))
    assert condition(before, "Ready")["status"] == "True"
    # The Deployment was told 1 and has not answered yet.
    told = deployment(1, total=2, updated=2, generation=3, observed=2)
    assert condition(diagnosed(world(pods, reports, of=scaled, told=told), before), "Ready")["status"] == "True"


def test_a_changed_template_is_not_ready_before_the_deployment_answered() -> None:
    told = deployment(1, generation=3, observed=2)
    before = diagnosed(world([serving_pod()], [report()]))
    changed = world([serving_pod()], [report()], told=told)
    changed = replace(changed, template=replace(changed.template, hash="another", revision="resnet-another"))
    ready = condition(diagnosed(changed, before), "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "RollingOut")


def test_a_person_is_asked_for_only_after_patience() -> None:
    observed = world([unscheduled(NO_MEMORY, since=0)])
    limit = PATIENCE[Reason.UNSCHEDULABLE].total_seconds()
    previous: Json = {}
    for later, health in ((1, "InProgress"), (limit - 1, "InProgress"), (limit + 1, "Failed")):
        previous = diagnosed(observed, previous, later=later)
        assert kstatus(resource(previous)) == health, later
    stalled = condition(previous, "Stalled")
    assert Reason.UNSCHEDULABLE.remedy in stalled["message"]
    assert condition(previous, "Ready")["lastTransitionTime"] == "2026-11-21T12:00:01Z"


def test_stalled_goes_away_when_the_trouble_does() -> None:
    stuck = diagnosed(world([unscheduled(NO_MEMORY, since=-900)]))
    assert condition(stuck, "Stalled")
    for healed in (world([pod(created=-5)]), world([serving_pod()], [report()])):
        assert condition(diagnosed(healed, stuck), "Stalled") == {}


def test_a_failing_change_of_a_serving_pod_asks_for_a_person_after_a_minute_not_at_once() -> None:
    serving = diagnosed(world([serving_pod()], [report()]), later=-100)
    failing = world([serving_pod()], [report(model(ModelState.FETCH_FAILED, "404", serving=True))])
    first = diagnosed(failing, serving)
    assert kstatus(resource(first)) == "InProgress"
    assert kstatus(resource(diagnosed(failing, first, later=61))) == "Failed"


def test_former_pods_that_fail_are_told_last_and_never_ask_for_a_person() -> None:
    repairing = next(scenario for scenario in SCENARIOS if scenario.name == "a rollout that repairs a broken image")
    made = diagnosed(repairing.world)
    assert [entry["reason"] for entry in made["reasons"]] == ["ContainersStarting", "RollingOut", "ImagePullFailed"]
    assert made["reasons"][-1]["message"].endswith("(former template)")
    assert condition(made, "Stalled") == {}


def test_words_of_a_sidecar_that_waits_for_triton_are_no_trouble_while_triton_starts() -> None:
    said = ("the repository API of Triton: connection refused",)
    starting = report(model(ModelState.FETCHED), server_live=False, problems=said)
    for age, reason in ((-20, "LoadingModels"), (-200, "Unhealthy")):
        pods = [pod(created=-250, sidecar=running(-240), server=running(age))]
        ready = condition(diagnosed(world(pods, [starting])), "Ready")
        assert ready["reason"] == reason
        assert ("connection refused" in ready["message"]) == (reason == "Unhealthy")


def test_what_the_scheduler_said_before_is_history_once_the_pod_is_placed() -> None:
    observed = world([pod("a", created=-15, sandbox=False)], warnings={"a": NO_MEMORY})
    assert condition(diagnosed(observed), "Ready")["reason"] == "ContainersStarting"


def test_a_container_killed_by_its_probe_says_that_it_was_killed() -> None:
    killed = pod(sidecar=running(), server=waiting("CrashLoopBackOff"), server_more={"lastState": terminated(137)})
    ready = condition(diagnosed(world([killed], [report(model(ModelState.FETCHED), server_live=False)])), "Ready")
    assert ready["reason"] == "Crashing"
    assert "137 (killed from outside" in ready["message"]
