"""What the store remembers, and which events mean anything."""

from __future__ import annotations

import copy
from typing import Any

from nereus.api import names
from nereus.controller.kinds import AUTOSCALER, CONFIG_MAP, DEPLOYMENT, MODEL_SERVICE, POD, Kind
from nereus.controller.store import Change, Key, Store
from nereus.controller.watch import deliver

KEY = Key("ns", "svc")


def deployment(version: int = 1, *, uid: str = "d1", **fields: Any) -> dict[str, Any]:
    owner = {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": "svc", "uid": "s1", "controller": True}
    metadata = {
        "name": "svc",
        "namespace": "ns",
        "uid": uid,
        "resourceVersion": str(version),
        "labels": names.child_labels("svc"),
        "ownerReferences": [owner],
        "managedFields": [{"manager": "x" * 1000}],
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, **fields}


def pod(version: int = 1, name: str = "p", **status: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": str(version)}
    labels = {names.LABEL_SERVICE: "svc", names.LABEL_MANAGED_BY: names.MANAGED_BY}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, "labels": labels}, "status": status}


def test_children_are_found_by_their_owner_and_pods_by_their_label() -> None:
    store = Store()
    store.put(deployment())
    store.put(pod(name="b"))
    store.put(pod(name="a"))
    assert [item["metadata"]["name"] for item in store.children(KEY, POD)] == ["a", "b"]
    assert len(store.children(KEY, DEPLOYMENT)) == 1
    assert store.children(Key("ns", "other"), POD) == []
    assert store.children(Key("elsewhere", "svc"), POD) == []


def test_nobody_can_change_what_is_stored() -> None:
    store = Store()
    given = deployment(spec={"replicas": 1})
    store.put(given)
    given["spec"]["replicas"] = 5
    read = store.get(DEPLOYMENT, KEY)
    assert read is not None
    assert read["spec"] == {"replicas": 1}
    read["spec"]["replicas"] = 7
    again = store.get(DEPLOYMENT, KEY)
    assert again is not None
    assert again["spec"] == {"replicas": 1}
    assert "managedFields" not in again["metadata"]


def test_an_older_state_does_not_replace_a_newer_one() -> None:
    store = Store()
    store.put(deployment(10, spec={"replicas": 2}))
    assert store.put(deployment(9, spec={"replicas": 1})) is Change.NONE
    found = store.get(DEPLOYMENT, KEY)
    assert found is not None
    assert found["spec"] == {"replicas": 2}


def test_the_echo_of_our_own_write_means_nothing() -> None:
    store = Store()
    answer = deployment(5, spec={"replicas": 2})
    assert store.put(answer) is Change.RELEVANT
    assert store.put(copy.deepcopy(answer)) is Change.NONE


def test_times_and_managed_fields_alone_mean_nothing() -> None:
    store = Store()
    first = {"type": "Available", "status": "True", "lastUpdateTime": "1", "lastTransitionTime": "1"}
    store.put(deployment(1, status={"conditions": [first]}))
    second = {**first, "lastUpdateTime": "2"}
    assert store.put(deployment(2, status={"conditions": [second]})) is Change.NONE
    third = {**first, "status": "False"}
    assert store.put(deployment(3, status={"conditions": [third]})) is Change.RELEVANT


def test_metric_readings_of_an_autoscaler_are_figures_and_its_decisions_are_news() -> None:
    store = Store()

    def autoscaler(version: int, current: int, desired: int) -> dict[str, Any]:
        status = {"currentMetrics": [{"value": current}], "desiredReplicas": desired}
        return {**deployment(version), "kind": AUTOSCALER.kind, "apiVersion": AUTOSCALER.api_version, "status": status}

    store.put(autoscaler(1, 10, 2))
    assert store.put(autoscaler(2, 11, 2)) is Change.FIGURES
    assert store.put(autoscaler(3, 11, 3)) is Change.RELEVANT


def test_a_late_answer_does_not_bring_a_deleted_object_back() -> None:
    store = Store()
    store.put(deployment(5))
    assert store.remove(DEPLOYMENT, KEY, uid="d1", resource_version="8")
    assert store.put(deployment(7)) is Change.NONE
    assert store.get(DEPLOYMENT, KEY) is None
    assert store.put(deployment(9, uid="d2")) is Change.RELEVANT


def test_an_object_whose_labels_come_back_is_known_again() -> None:
    store = Store()
    store.put(deployment(5))
    store.remove(DEPLOYMENT, KEY, uid="d1", resource_version="6")  # the watch shows a lost label as a deletion
    assert store.put(deployment(7)) is Change.RELEVANT


def test_the_deletion_of_a_predecessor_does_not_remove_its_successor() -> None:
    store = Store()
    store.put(deployment(5, uid="d2"))
    assert not store.remove(DEPLOYMENT, KEY, uid="d1", resource_version="6")
    assert store.get(DEPLOYMENT, KEY) is not None


def test_a_child_that_changes_its_owner_wakes_both() -> None:
    store = Store()
    woken: list[str] = []

    def wake(service: Key, kind: Kind, change: Change) -> None:
        assert (kind, change) == (DEPLOYMENT, Change.RELEVANT)
        woken.append(service.name)

    deliver(store, DEPLOYMENT, "ADDED", deployment(1), wake)
    other = deployment(2)
    other["metadata"]["ownerReferences"][0]["name"] = "other"
    deliver(store, DEPLOYMENT, "MODIFIED", other, wake)
    assert woken[0] == "svc"
    assert sorted(woken[1:]) == ["other", "svc"]
    assert store.children(KEY, DEPLOYMENT) == []
    deliver(store, DEPLOYMENT, "DELETED", other, wake)
    assert woken[3:] == ["other"]


def test_a_label_of_somebody_else_does_not_outrank_the_owner() -> None:
    store = Store()
    stolen = deployment(1)
    stolen["metadata"]["labels"][names.LABEL_SERVICE] = "thief"
    store.put(stolen)
    assert len(store.children(KEY, DEPLOYMENT)) == 1
    assert store.children(Key("ns", "thief"), DEPLOYMENT) == []


def test_a_service_is_itself_and_no_child() -> None:
    store = Store()
    metadata = {"name": "svc", "namespace": "ns", "uid": "s1", "resourceVersion": "1", "annotations": {"a": "b"}}
    last = "kubectl.kubernetes.io/last-applied-configuration"
    metadata = {**metadata, "annotations": {"a": "b", last: "x" * 10_000}}
    store.put({"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": metadata, "spec": {}})
    assert store.services() == [KEY]
    assert store.children(KEY, CONFIG_MAP) == []
    found = store.get(MODEL_SERVICE, KEY)
    assert found is not None
    assert found["metadata"]["annotations"] == {"a": "b"}


def test_a_follower_is_told_each_new_state_of_a_kind_and_its_end_once() -> None:
    store = Store()
    told: list[tuple[Key, int | None]] = []

    def note(key: Key, found: dict[str, Any] | None) -> None:
        told.append((key, found["spec"]["replicas"] if found else None))

    store.follow(DEPLOYMENT, note)
    store.put(pod())
    store.put(deployment(2, spec={"replicas": 1}))
    store.put(deployment(3, spec={"replicas": 2}))
    store.put(deployment(2, spec={"replicas": 1}))
    store.remove(DEPLOYMENT, KEY, uid="d1", resource_version="4")
    store.remove(DEPLOYMENT, KEY, uid="d1", resource_version="4")
    assert told == [(KEY, 1), (KEY, 2), (KEY, None)]
