"""The operator as processes: restarted, killed, doubled, halted, and what its services notice of it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nereus.api import names
from tests.harness.apiserver import MODEL_SERVICES, Api, Json, eventually
from tests.harness.operator import Operator
from tests.harness.services import OWNED, Services, our_writes

pytestmark = pytest.mark.usefixtures("sidecars")

SCALED = {"minReplicas": 2}
LEASE_SECONDS = 15.0
GRACE_SECONDS = 25.0
"""A kubelet kills it after 30 (terminationGracePeriodSeconds of the chart)."""
Start = Callable[..., Operator]


@pytest.fixture
def start(api: Api, namespace: str, tmp_path: Path) -> Iterator[Start]:
    """Starts operators that watch this test's namespace alone and share one Lease; all are ended after the test."""
    numbers = itertools.count(1)
    started: list[Operator] = []

    def one_more(*, identity: str = "", **options: Any) -> Operator:
        identity = identity or f"op-{next(numbers)}"
        operator = Operator(
            api.kubeconfig,
            lease_namespace=namespace,
            identity=identity,
            log=tmp_path / f"{identity}.log",
            watch=(namespace,),
            forked=True,
            **options,
        )
        started.append(operator)
        operator.until_ready()
        return operator

    yield one_more
    for operator in started:
        operator.kill()
        print(f"--- {operator.identity}\n{operator.log()[-3000:]}")


def until_leads(operator: Operator, *, seconds: float = 10.0) -> None:
    eventually(lambda: None if operator.leads else f"{operator.identity} does not lead", seconds=seconds)


def all_objects(services: Services, *names_of_services: str) -> dict[str, object]:
    """What the operator wrote on every ModelService, on all that they own, and on their pods."""
    objects: dict[str, Json] = {}
    for name in names_of_services:
        objects[f"ModelService {name}"] = services.service(name)
        objects |= services.owned(name)
        objects |= {f"Pod {pod['metadata']['name']}": pod for pod in services.all_of("Pod", name)}
    return our_writes(objects)


def test_a_restart_writes_nothing_when_nothing_changed(services: Services, start: Start) -> None:
    first = start()
    for name in ("a", "b", "c"):
        services.apply(name, scaling=SCALED)
    for name in ("a", "b", "c"):
        services.until_ready(name)
    first.terminate()
    before = all_objects(services, "a", "b", "c")
    events = len(services.all_of("Event"))
    second = start()
    until_leads(second)
    eventually(lambda: None if second.looked >= 3 else f"{second.looked} services looked at")
    assert second.writes() == {}
    assert all_objects(services, "a", "b", "c") == before
    assert len([event for event in services.all_of("Event") if event["source"].get("component") == "nereus"]) <= events


def test_exactly_what_drifted_while_the_operator_was_away_is_written(services: Services, start: Start) -> None:
    first = start()
    for name in ("a", "b", "c"):
        services.apply(name, scaling=SCALED)
    for name in ("a", "b", "c"):
        services.until_ready(name)
    first.kill()
    services.patch("PodDisruptionBudget", {"spec": {"maxUnavailable": "100%"}}, "a")
    services.delete("Service", "b")
    before = all_objects(services, "a", "b", "c")
    second = start(identity=first.identity)  # the container of the same pod again: its lease is still its own
    until_leads(second)
    services.until_true("Service b", lambda: services.get("Service", "b"))
    services.until_true("budget a", lambda: services.child("PodDisruptionBudget", "a")["spec"]["maxUnavailable"] == 1)
    eventually(lambda: None if second.looked >= 3 else f"{second.looked} services looked at")
    applied = {name: count for name, count in second.writes().items() if 'verb="status"' not in name}
    assert applied == {'kind="PodDisruptionBudget",verb="apply"': 1.0, 'kind="Service",verb="apply"': 1.0}
    after = all_objects(services, "a", "b", "c")
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert {name for name in changed if not name.startswith("ModelService")} == {"PodDisruptionBudget a", "Service b"}


def test_a_service_deleted_while_the_operator_is_away_leaves_nothing(services: Services, start: Start) -> None:
    operator = start()
    services.apply()
    services.until_ready()
    operator.kill()
    answer = services.api.request("DELETE", f"{MODEL_SERVICES.format(namespace=services.namespace)}/svc")
    assert answer.accepted

    def lack() -> str | None:
        left = {kind: [item["metadata"]["name"] for item in services.all_of(kind, "svc")] for kind in (*OWNED, "Pod")}
        return str(left) if any(left.values()) else None

    eventually(lack)


def test_a_new_release_changes_no_pod_and_says_what_it_would_change(services: Services, start: Start) -> None:
    old = start()
    services.apply()
    services.until_ready()
    template = services.child("Deployment")["spec"]["template"]
    pods = {pod["metadata"]["uid"] for pod in services.all_of("Pod", "svc")}
    old.terminate()
    start(sidecar_image="nereus/sidecar:next")
    services.until_true("pending", lambda: services.service()["status"].get("template", {}).get("pending"), seconds=20)
    assert services.child("Deployment")["spec"]["template"] == template
    # Asked for, it is rolled out.
    path = f"{MODEL_SERVICES.format(namespace=services.namespace)}/svc"
    asked = services.api.request("PATCH", path, {"metadata": {"annotations": {names.ANNOTATION_ROLLOUT: "1"}}})
    assert asked.accepted
    services.until_true(
        "new sidecar",
        lambda: (
            "nereus/sidecar:next"
            in {item["image"] for item in services.child("Deployment")["spec"]["template"]["spec"]["initContainers"]}
        ),
    )

    def replaced() -> bool:
        live = [pod for pod in services.all_of("Pod", "svc") if not pod["metadata"].get("deletionTimestamp")]
        return bool(live) and not pods & {pod["metadata"]["uid"] for pod in live}

    services.until_true("pods replaced", replaced, seconds=30)
    services.until_ready()
    assert "pending" not in services.service()["status"]["template"]


# --- two replicas


def test_one_of_two_replicas_works_and_the_other_takes_over_at_once_when_it_ends(
    services: Services, start: Start
) -> None:
    first = start()
    until_leads(first)
    second = start()
    services.apply()
    services.until_ready()
    assert not second.leads
    assert second.writes() == {}
    assert first.terminate() < GRACE_SECONDS
    began = time.monotonic()
    services.delete("PodDisruptionBudget")
    services.until_true("healed by the other", lambda: services.get("PodDisruptionBudget"), seconds=5)
    assert time.monotonic() - began < 5
    assert second.leads


def test_the_other_replica_takes_over_when_the_first_is_killed(services: Services, start: Start) -> None:
    first = start()
    until_leads(first)
    services.apply()
    services.until_ready()
    second = start()
    told = services.events()
    first.kill()
    services.delete("PodDisruptionBudget")
    services.until_true("healed by the other", lambda: services.get("PodDisruptionBudget"), seconds=LEASE_SECONDS + 5)
    until_leads(second)
    services.until_ready()
    assert services.events() == told, "the same was told twice"


def test_a_replica_that_stood_still_writes_nothing_when_it_wakes_up_late(services: Services, start: Start) -> None:
    first = start()
    until_leads(first)
    services.apply()
    services.until_ready()
    second = start()
    first.pause()
    until_leads(second, seconds=LEASE_SECONDS + 10)
    services.apply(scaling={"minReplicas": 3})
    services.until_ready()
    before = all_objects(services, "svc")
    first.resume()
    assert first.exit_code(within=20) == 1
    assert all_objects(services, "svc") == before
    assert second.leads


def test_only_the_named_namespaces_are_watched(api: Api, services: Services, start: Start) -> None:
    operator = start()
    until_leads(operator)
    elsewhere = Services(api, "default")
    elsewhere.apply("elsewhere")
    try:
        services.apply()
        services.until_ready()
        assert "status" not in elsewhere.service("elsewhere")
    finally:
        api.request("DELETE", f"{MODEL_SERVICES.format(namespace='default')}/elsewhere")


def test_sigterm_while_services_are_being_made_ends_cleanly_and_the_next_one_finishes_the_work(
    services: Services, start: Start
) -> None:
    first = start()
    until_leads(first)
    for number in range(10):
        services.apply(f"s{number}")
    assert first.terminate() < GRACE_SECONDS
    start()
    for number in range(10):
        services.until_ready(f"s{number}")


# --- the API server in trouble


def test_an_api_server_that_dies_and_comes_back_costs_nothing_but_the_time(
    services: Services, start: Start, api_server: Callable[[str], None]
) -> None:
    operator = start()
    services.apply(scaling=SCALED)
    services.until_ready()
    before = all_objects(services, "svc")
    api_server("kill")
    eventually(lambda: "it still leads" if operator.leads else None, seconds=LEASE_SECONDS)
    assert operator.probe("healthz")[0] == 200, "a restart of the operator would not bring the API server back"
    api_server("start")
    until_leads(operator, seconds=30)
    services.delete("PodDisruptionBudget")
    # Each watch comes back by itself, with pauses that grew while the server was away (up to 21 s).
    services.until_true("healed", lambda: services.get("PodDisruptionBudget"), seconds=45)
    services.until_ready()
    after = all_objects(services, "svc")
    assert {name for name in before if after[name] != before[name]} <= {"PodDisruptionBudget svc", "ModelService svc"}
