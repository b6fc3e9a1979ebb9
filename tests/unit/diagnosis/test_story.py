"""What `kubectl describe` tells, and which changes cannot wait."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from nereus.api.problems import Problem
from nereus.api.protocol import ModelState
from nereus.diagnosis import events, invalid, significant, status
from tests.harness.status_checker import check_status, kstatus
from tests.unit.diagnosis.scenarios import BLIND, NO_MEMORY, SCALED
from tests.unit.diagnosis.worlds import (
    NOW,
    autoscaler,
    deployment,
    model,
    pod,
    report,
    running,
    service,
    serving_pod,
    unscheduled,
    world,
)

Json = dict[str, Any]
PROBLEMS = (Problem("spec.models[0].configText", "no field named 'max_batch'"),)


def diagnosed(observed: Any, previous: Json | None = None, *, later: float = 0) -> Json:
    return status(observed, previous=previous or {}, now=NOW + timedelta(seconds=later))


def told(previous: Json, new: Json) -> list[tuple[str, str]]:
    return [(event.type.value, f"{event.reason}: {event.message}") for event in events(previous, new)]


def test_the_first_start_reads_as_a_story() -> None:
    stages = [
        world(told=deployment(1, total=0)),
        world([pod(created=-5)]),
        world([pod(created=-20, sidecar=running(-15))], [report(model(ModelState.FETCHING), server_live=False)]),
        world([pod(created=-40, sidecar=running(-30), server=running(-20))], [report(model(ModelState.LOADING))]),
        world([serving_pod(created=-60)], [report()]),
    ]
    story: list[tuple[str, str]] = []
    previous: Json = {}
    for stage in stages:
        new = diagnosed(stage, previous)
        story += told(previous, new)
        previous = new
    assert story == [
        ("Normal", "ModelLoaded: Model resnet loaded in 1/1 pods"),
        ("Normal", "Ready: 1/1 pod serves 1 model"),
    ]


def test_trouble_is_told_once_with_its_words() -> None:
    stuck = diagnosed(world([unscheduled(NO_MEMORY)]))
    assert told({}, stuck) == [
        (
            "Warning",
            "Unschedulable: Not ready: pod resnet-6d5f9c7b8d-x2k4p: 0/3 nodes are available: 1 node(s) had untolerated"
            " taint {node-role.kubernetes.io/control-plane: }, 2 Insufficient memory",
        )
    ]
    assert told(stuck, diagnosed(world([unscheduled(NO_MEMORY)]), stuck, later=400)) == []


def test_a_scale_up_is_one_decision_and_no_list_of_pods() -> None:
    one = diagnosed(world([serving_pod("a")], [report()], of=SCALED, hpa=autoscaler()))
    grown = world([serving_pod("a")], [report()], of=SCALED, told=deployment(2, total=1), hpa=autoscaler(desired=2))
    two = diagnosed(grown, one)
    starting = diagnosed(world([serving_pod("a"), pod("b")], [report(), None], of=SCALED, hpa=autoscaler()), two)
    done = diagnosed(
        world([serving_pod("a"), serving_pod("b")], [report(), report()], of=SCALED, hpa=autoscaler()), starting
    )
    assert told(one, two) == [
        (
            "Normal",
            "Scaled: Scaled 1 -> 2: HorizontalPodAutoscaler: recommended size matches current size;"
            " minReplicas 1, maxReplicas 5",
        )
    ]
    assert told(two, starting) == []
    assert told(starting, done) == [("Normal", "Ready: 2/2 pods serve 1 model")]


def test_a_model_that_recovers_is_told() -> None:
    failed = diagnosed(world([serving_pod()], [report(model(ModelState.LOAD_FAILED, "bad", serving=True))]))
    healed = diagnosed(world([serving_pod()], [report()]), failed)
    assert ("Normal", "ModelLoaded: Model resnet loaded in 1/1 pods") in told(failed, healed)


def test_many_models_are_one_event() -> None:
    many = service(models=40)
    ready = [model(ModelState.READY, name=item.name, serving=True) for item in many.models]
    made = diagnosed(world([serving_pod()], [report(*ready)], of=many))
    assert told({}, made)[0] == ("Normal", "ModelLoaded: 40 models loaded: resnet, resnet-1, resnet-2 and 37 more")


def test_a_blind_autoscaler_of_a_ready_service_is_a_warning_that_does_not_say_not_ready() -> None:
    before = diagnosed(world([serving_pod()], [report()], of=SCALED, hpa=autoscaler()))
    blind = diagnosed(world([serving_pod()], [report()], of=SCALED, hpa=autoscaler(cpu=None, conditions=BLIND)), before)
    [(kind, sentence)] = told(before, blind)
    assert kind == "Warning"
    assert sentence.startswith("MetricsUnavailable: the HPA was unable to compute the replica count")


def test_suspending_and_resuming_are_told() -> None:
    serving = diagnosed(world([serving_pod()], [report()]))
    suspended = diagnosed(world([serving_pod()], [report()], of=service(suspend=True)), serving)
    resumed = diagnosed(world([serving_pod()], [report()]), suspended)
    assert [sentence.split(":")[0] for _, sentence in told(serving, suspended)] == ["Suspended"]
    assert [sentence.split(":")[0] for _, sentence in told(suspended, resumed)] == ["Resumed", "Ready"]


def test_a_new_template_is_told() -> None:
    before = diagnosed(world([serving_pod()], [report()]))
    after = {**before, "template": {"revision": "resnet-new", "hash": "new"}}
    assert told(before, after) == [
        ("Normal", "RollingOut: Rolling out pod template resnet-new, which replaces resnet-1f6c2a9be0")
    ]


def test_an_invalid_spec_keeps_what_was_known_and_names_every_problem() -> None:
    before = diagnosed(world([serving_pod()], [report()], of=SCALED, hpa=autoscaler()))
    broken = {"metadata": {"name": "resnet", "namespace": "demo", "generation": 4}, "spec": {}}
    problems = (*PROBLEMS, Problem("spec.runtime.args[0]", "'--http-port' belongs to Nereus"))
    made = invalid(broken, problems, previous=before, now=NOW)
    assert {key: made[key] for key in ("url", "replicas", "models", "scaling")} == {
        key: before[key] for key in ("url", "replicas", "models", "scaling")
    }
    by_type = {item["type"]: item for item in made["conditions"]}
    assert (by_type["Ready"]["status"], by_type["Ready"]["reason"]) == ("False", "InvalidSpec")
    assert "spec.models[0].configText: no field named 'max_batch'" in by_type["Ready"]["message"]
    assert "spec.runtime.args[0]" in by_type["Ready"]["message"]
    assert by_type["ScalingActive"]["observedGeneration"] == 3
    assert check_status({**broken, "status": made}) == []
    assert kstatus({**broken, "status": made}) == "Failed"
    assert invalid(broken, problems, previous=made, now=NOW + timedelta(hours=1)) == made
    assert [kind for kind, _ in told(before, made)] == ["Warning"]


def test_another_mistake_is_another_event() -> None:
    broken = {"metadata": {"generation": 4}}
    first = invalid(broken, PROBLEMS, previous={}, now=NOW)
    second = invalid({"metadata": {"generation": 5}}, (Problem("spec.models", "is empty"),), previous=first, now=NOW)
    assert len(told(first, second)) == 1
    assert told(second, second) == []


def test_a_repaired_spec_is_no_longer_stalled() -> None:
    broken = invalid({"metadata": {"generation": 2}}, PROBLEMS, previous={}, now=NOW)
    made = diagnosed(world([serving_pod()], [report()]), broken)
    assert kstatus({"metadata": {"generation": 3}, "status": made}) == "Current"
    assert "InvalidSpec" not in str(made)


def test_figures_may_wait_and_facts_may_not() -> None:
    def scaled(cpu: int, desired: int = 1) -> Json:
        told_deployment = deployment(desired, total=1)
        return diagnosed(
            world(
                [serving_pod()], [report()], of=SCALED, told=told_deployment, hpa=autoscaler(cpu=cpu, desired=desired)
            )
        )

    assert not significant(scaled(43), scaled(57))
    assert significant(scaled(43), scaled(43, desired=2))
    assert significant({}, scaled(43))
    serving = diagnosed(world([serving_pod()], [report()]))
    assert not significant(serving, {**serving, "coldStart": {"samples": 9}})
    failing = diagnosed(world([serving_pod()], [report(model(ModelState.LOAD_FAILED, "bad", serving=True))]))
    assert significant(serving, failing)
    # Better words for the same trouble are what somebody waits for.
    worded = diagnosed(world([serving_pod()], [report(model(ModelState.LOAD_FAILED, "worse", serving=True))]))
    assert significant(failing, worded)
