"""Other writers of the objects of a ModelService: replicas are never reset, and healing never becomes a write war.

The sequences of applies are those that are known to drop a Deployment to one pod.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from nereus.controller.disputes import FREE_WRITES
from tests.harness.apiserver import Json, eventually
from tests.harness.operator import Operator
from tests.harness.services import Services

SCALED = {"minReplicas": 2, "maxReplicas": 6}
NEIGHBOUR = "neighbour"


def replicas(services: Services) -> int:
    found: int = services.child("Deployment")["spec"]["replicas"]
    return found


def lowest_replicas_while(services: Services, act: Callable[[], None]) -> int:
    """The smallest number of pods that the Deployment asked for while something was done, looked at all the time."""
    seen = [replicas(services)]
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            seen.append(replicas(services))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        act()
    finally:
        ended.set()
        watcher.join()
    return min(seen)


def applied_by(services: Services, manager: str, kind: str, spec: Json) -> None:
    versions = {"Deployment": "apps/v1", "HorizontalPodAutoscaler": "autoscaling/v2"}
    body = {"apiVersion": versions[kind], "kind": kind, "metadata": {"name": "svc"}, "spec": spec}
    answer = services.api.apply(services.path(kind), body, manager=manager)
    assert answer.accepted, answer.message


def annotated(services: Services, value: str, **scaling: object) -> None:
    """Applies the service with another pod template, and waits until it is ready with it."""
    services.apply(scaling=scaling, runtime={"podAnnotations": {"example.com/a": value}})
    services.until_true(
        "new template",
        lambda: (
            services.child("Deployment")["spec"]["template"]["metadata"].get("annotations", {}).get("example.com/a")
            == value
        ),
    )
    services.until_ready()


# --- sequences that reset replicas elsewhere


@pytest.mark.usefixtures("operator")
def test_from_manual_to_metrics_no_pod_is_lost_when_scale_wrote_the_same_number_before(services: Services) -> None:
    services.apply(scaling={"strategy": "Manual", "replicas": 4})
    services.until_ready()
    services.patch("Deployment", {"spec": {"replicas": 4}}, subresource="scale")

    def change() -> None:
        services.apply(scaling=SCALED)
        services.until_true("autoscaler", lambda: services.get("HorizontalPodAutoscaler"))
        annotated(services, "1", **SCALED)

    assert lowest_replicas_while(services, change) == 4


@pytest.mark.usefixtures("operator")
def test_from_manual_to_metrics_no_pod_is_lost_before_the_autoscaler_has_written(services: Services) -> None:
    services.apply(scaling={"strategy": "Manual", "replicas": 3})
    services.until_ready()

    def change() -> None:
        annotated(services, "1", minReplicas=1, maxReplicas=6)
        annotated(services, "2", minReplicas=1, maxReplicas=6)

    assert lowest_replicas_while(services, change) == 3


@pytest.mark.usefixtures("operator")
def test_an_apply_after_a_raise_of_the_autoscaler_keeps_it(services: Services) -> None:
    services.apply(scaling=SCALED)
    services.until_ready()
    services.patch("Deployment", {"spec": {"replicas": 5}}, subresource="scale")
    assert lowest_replicas_while(services, lambda: annotated(services, "1", **SCALED)) == 5


@pytest.mark.usefixtures("operator")
def test_a_second_manager_of_the_floor_who_leaves_it_out_again_does_not_lower_it(services: Services) -> None:
    services.apply(scaling={"minReplicas": 3, "maxReplicas": 6})
    services.until_ready()
    applied_by(services, NEIGHBOUR, "HorizontalPodAutoscaler", {"minReplicas": 4})
    applied_by(services, NEIGHBOUR, "HorizontalPodAutoscaler", {})
    services.until_true("floor", lambda: services.child("HorizontalPodAutoscaler")["spec"]["minReplicas"] == 3)
    assert replicas(services) >= 3


# --- wars


@contextmanager
def undoing(services: Services, kind: str, patch: Json) -> Iterator[list[int]]:
    """A neighbour who puts his own value back as soon as it is changed; counts how often he had to."""
    undone = [0]
    ended = threading.Event()

    def insist() -> None:
        (field, value), *_ = patch["spec"].items()
        while not ended.wait(0.05):
            if services.child(kind)["spec"].get(field) != value:
                path = f"{services.path(kind)}?fieldManager={NEIGHBOUR}"
                assert services.api.request("PATCH", path, patch).accepted
                undone[0] += 1

    neighbour = threading.Thread(target=insist)
    neighbour.start()
    try:
        yield undone
    finally:
        ended.set()
        neighbour.join()


WARS: dict[str, tuple[str, Json]] = {
    "disruption budget": ("PodDisruptionBudget", {"spec": {"maxUnavailable": "100%"}}),
    "bounds of the autoscaler": ("HorizontalPodAutoscaler", {"spec": {"maxReplicas": 50}}),
    # Not through /scale: the API server does not record who wrote a merge patch there.
    "replicas below the floor": ("Deployment", {"spec": {"replicas": 1}}),
}


@pytest.mark.parametrize("what", WARS)
def test_a_neighbour_who_insists_is_named_once_and_fought_less_and_less(
    services: Services, operator: Operator, what: str
) -> None:
    kind, patch = WARS[what]
    services.apply(scaling=SCALED)
    services.until_ready()
    (field, _), *_ = patch["spec"].items()
    wished = services.child(kind)["spec"][field]
    with undoing(services, kind, patch) as undone:
        services.until("ApplyFailed", seconds=60)
        message = services.condition()["message"]
        assert NEIGHBOUR in message
        assert field in message
        # He is told of once, and from then on there is peace for the length of a pause.
        began = undone[0]
        seen = operator.looked
        services.patch("Service", {"metadata": {"annotations": {"example.com/look": "again"}}})
        eventually(lambda: None if operator.looked > seen or undone[0] > began else "no look")
        assert undone[0] <= 2 * FREE_WRITES
    eventually(
        lambda: None if (now := services.child(kind)["spec"][field]) == wished else f"{field} is {now}", seconds=150
    )
    services.until_ready(seconds=60)
    told = [message for _, reason, message in services.events() if reason == "ApplyFailed"]
    assert len(told) == 1
