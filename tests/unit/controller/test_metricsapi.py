"""What the External Metrics API answers, and to whom."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nereus.controller.metricsapi import BASE, Answer, Callers, Known, Numbers, answer, served

API_SERVER = Callers(authority="PEM", allowed=("front-proxy-client",))
SVC = f"{BASE}/namespaces/ns/nereus_replicas?labelSelector=serving.nereus.dev%2Fservice%3Dsvc"
FLOOR_3_OF_5 = Known(floor=3, there=5)


def numbers(known: Known = FLOOR_3_OF_5, *, leads_until: float = 10.0) -> Numbers:
    return Numbers({("ns", "svc"): known}, leads_until=leads_until, decided_until=300.0, heard_until=300.0)


def asked(target: str = SVC, *, method: str = "GET", caller: str = "front-proxy-client", now: float = 0.0) -> Answer:
    known = numbers(Known(decided=2, load_known=True, floor=3, there=5))
    return answer(method, target, caller=caller, callers=API_SERVER, numbers=known, now=now)


@pytest.mark.parametrize(
    ("decided", "load_known", "leads", "expected"),
    [
        (2, True, True, 2),  # also below the floor that was written last
        (6, False, True, 6),
        (2, True, False, 3),
        # Five pods are there, two more than the floor: somebody had a reason, and nobody knows yet if it is over.
        (7, False, False, 5),
        (None, False, False, 5),
        (None, False, True, 5),
    ],
)
def test_an_autoscaler_reads_the_decision_and_before_there_is_one_the_pods_that_are_there(
    decided: int | None, load_known: bool, leads: bool, expected: int
) -> None:
    known = Known(decided=decided, load_known=load_known, floor=3, there=5)
    assert served(known, leads=leads) == expected
    assert served(Known(floor=3, there=1), leads=leads) == 3, "never less than the floor"
    assert served(Known(floor=3), leads=leads) == 3


@pytest.mark.parametrize("leads", [False, True])
def test_an_autoscaler_that_reads_no_decision_is_served_none(leads: bool) -> None:
    assert served(Known(there=5), leads=leads) is None
    assert served(Known(), leads=leads) is None


def test_the_lease_the_decisions_and_then_everything_run_out_while_the_operator_says_nothing() -> None:
    known = Known(decided=2, load_known=True, floor=3, there=5)
    hangs = Numbers({("ns", "svc"): known}, leads_until=10.0, decided_until=200.0, heard_until=300.0)
    read = {now: hangs.replicas("ns", "svc", now=now) for now in (0.0, 9.9, 10.0, 199.9, 200.0, 299.9, 300.0)}
    assert read == {0.0: 2, 9.9: 2, 10.0: 3, 199.9: 3, 200.0: 5, 299.9: 5, 300.0: None}


def test_the_metric_is_a_list_of_one_value() -> None:
    found = asked()
    assert found.status == 200
    assert found.body["kind"] == "ExternalMetricValueList"
    [item] = found.body["items"]
    assert (item["metricName"], item["value"]) == ("nereus_replicas", "2")
    assert item["metricLabels"] == {"serving.nereus.dev/service": "svc"}


def test_the_metric_is_found_by_discovery_and_the_specification_is_there() -> None:
    assert [each["name"] for each in asked(BASE).body["resources"]] == ["nereus_replicas"]
    assert asked("/openapi/v2").body["swagger"] == "2.0"


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (SVC.replace("/ns/", "/other/"), "nothing is decided for the ModelService other/svc"),
        (SVC.replace("3Dsvc", "3Dother"), "nothing is decided for the ModelService ns/other"),
        (SVC.replace("nereus_replicas", "queue_length"), "queue_length: the only metric here"),
        (SVC.partition("?")[0], "the only metric here"),
        (SVC + "%2Ca%3Db", "the only metric here"),
        (SVC.replace("%2Fservice", "%2Fother"), "the only metric here"),
        ("/metrics", "/metrics is not served here"),
        (f"{BASE}/", "not served here"),
        (f"{BASE}/namespaces/ns", "not served here"),
        ("namespaces/ns/nereus_replicas", "not served here"),
    ],
)
def test_what_is_not_known_is_not_found_and_the_answer_says_why(target: str, says: str) -> None:
    found = asked(target)
    assert (found.status, found.body["reason"]) == (404, "NotFound")
    assert says in found.body["message"]


@pytest.mark.parametrize("target", [SVC, BASE, "/openapi/v2", "/"])
@pytest.mark.parametrize("caller", ["", "somebody"])
def test_nobody_but_the_api_server_is_told_anything(target: str, caller: str) -> None:
    found = asked(target, caller=caller)
    assert (found.status, found.body["reason"]) == (403, "Forbidden")
    assert (caller or "a caller without a name") in found.body["message"]


def test_where_the_api_server_names_no_callers_its_authority_is_enough() -> None:
    anybody = Callers(authority="PEM")
    assert answer("GET", SVC, caller="x", callers=anybody, numbers=numbers(), now=0.0).status == 200


def test_a_metric_can_only_be_read() -> None:
    assert asked(method="DELETE").status == 405


@given(method=st.text(), target=st.text() | st.text().map(lambda end: SVC + end), caller=st.text())
def test_whatever_is_asked_the_answer_is_one_that_can_be_written(method: str, target: str, caller: str) -> None:
    found = asked(target, method=method, caller=caller)
    assert json.loads(json.dumps(found.body))
    assert found.status in (200, 403, 404, 405)
