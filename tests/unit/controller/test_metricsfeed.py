"""What is handed to the process that answers the External Metrics API: everything once, then what is new."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nereus.api import names
from nereus.api.decision import ScalingDecision
from nereus.controller.certificate import Certificate
from nereus.controller.metricsapi import Callers
from nereus.controller.metricsfeed import SERVICES_AT_ONCE, Feed
from nereus.controller.store import Key

A, B = Key("ns", "a"), Key("ns", "b")


def decided(replicas: int, *, known: bool = True) -> ScalingDecision:
    return ScalingDecision(id="1", at=0.0, replicas=replicas, known=known, least=1, most=9, message="")


def autoscaler(floor: int, metric: str = names.EXTERNAL_METRIC) -> dict[str, Any]:
    return {"spec": {"minReplicas": floor, "metrics": [{"type": "External", "external": {"metric": {"name": metric}}}]}}


def deployment(replicas: int) -> dict[str, Any]:
    return {"spec": {"replicas": replicas}, "status": {"readyReplicas": 1}}


def news(feed: Feed) -> dict[str, Any]:
    """What is new of services."""
    return {name: known for message in feed.messages() for name, known in message.get("services", {}).items()}


def test_facts_are_gathered_from_the_objects_and_the_decision() -> None:
    feed = Feed()
    feed.autoscaler(A, autoscaler(3))
    feed.deployment(A, deployment(5))
    feed.decided({A: decided(4, known=False), B: decided(2)})
    assert news(feed) == {"ns/a": (4, False, 3, 5), "ns/b": (2, True, None, None)}


def test_only_what_changed_is_handed_over_and_only_then_is_there_news() -> None:
    feed = Feed()
    feed.decided({A: decided(4), B: decided(2)})
    assert feed.news.is_set()
    news(feed)
    feed.news.clear()
    feed.decided({A: decided(4), B: decided(2)})
    feed.autoscaler(A, autoscaler(3, "somebody-elses"))
    assert not feed.news.is_set()
    assert news(feed) == {}
    feed.decided({A: decided(4), B: decided(3)})
    assert feed.news.is_set()
    assert news(feed) == {"ns/b": (3, True, None, None)}


def test_a_service_without_a_decision_keeps_its_floor_and_one_of_which_nothing_is_left_is_forgotten() -> None:
    feed = Feed()
    feed.autoscaler(A, autoscaler(3))
    feed.decided({A: decided(4), B: decided(2)})
    news(feed)
    feed.decided({})
    assert news(feed) == {"ns/a": (None, False, 3, None), "ns/b": None}
    feed.autoscaler(A, None)
    assert news(feed) == {"ns/a": None}
    feed.everything_anew()
    assert news(feed) == {}


def test_a_new_process_is_told_everything_in_small_pieces() -> None:
    feed = Feed()
    count = 2 * SERVICES_AT_ONCE + 1
    feed.decided({Key("ns", f"s{number}"): decided(number) for number in range(count)})
    feed.admit(Callers(authority="PEM", allowed=("api",)))
    feed.present(Certificate("", Path("/c"), Path("/k"), 0.0, 0.0))
    first = list(feed.messages())
    assert list(feed.messages()) == []
    feed.everything_anew()
    again = list(feed.messages())
    assert again == first
    assert [len(message.get("services", {})) for message in again] == [SERVICES_AT_ONCE, SERVICES_AT_ONCE, 1, 0]
    assert again[-1] == {"callers": {"authority": "PEM", "allowed": ("api",)}, "certificate": ["/c", "/k"]}


def test_it_takes_callers_and_a_certificate_to_serve() -> None:
    feeds = Feed(), Feed(), Feed()
    for feed in feeds[1:]:
        feed.admit(Callers(authority="PEM"))
    feeds[2].present(Certificate("", Path("/c"), Path("/k"), 0.0, 0.0))
    assert [feed.complete for feed in feeds] == [False, False, True]


def test_a_renewed_certificate_and_other_callers_are_handed_over_each_by_itself() -> None:
    feed = Feed()
    feed.admit(Callers(authority="PEM"))
    feed.present(Certificate("", Path("/c"), Path("/k"), 0.0, 0.0))
    list(feed.messages())
    feed.admit(Callers(authority="PEM"))
    assert list(feed.messages()) == []
    feed.present(Certificate("", Path("/c2"), Path("/k2"), 1.0, 1.0))
    assert list(feed.messages()) == [{"certificate": ["/c2", "/k2"]}]
    feed.admit(Callers(authority="OTHER"))
    assert list(feed.messages()) == [{"callers": {"authority": "OTHER", "allowed": ()}}]
