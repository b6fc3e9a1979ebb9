"""What the demo says of a load that is not known: why, and until when, in words for somebody who sees it first."""

from __future__ import annotations

from typing import Any

import pytest

from demo.story import LEARNING, load_known, load_line

FRESH = {"status": "True", "reason": "Fresh", "message": "Every ready pod's load was read a moment ago."}


@pytest.mark.parametrize(
    ("scaling", "metrics", "words"),
    [
        ({"floor": 2, "load": 1.44, "forecast": 2.1}, FRESH, "load 1.44, next 2.1 (in pods); floor 2"),
        ({"floor": 1}, FRESH, f"{LEARNING}; floor 1"),
        ({"floor": 1}, {}, f"{LEARNING}; floor 1"),
        (
            {"floor": 1},
            {"status": "False", "reason": "Recovering", "message": "rates need 20 s"},
            f"{LEARNING}; floor 1",
        ),
        (
            {"floor": 1},
            {"status": "False", "reason": "Unreachable", "message": "no way to it"},
            "no way to it; floor 1",
        ),
        ({"metrics": ["cpu 71 % of 60 %"]}, {}, "cpu 71 % of 60 %"),
        ({}, {}, "no metric yet"),
    ],
    ids=["known", "learning", "no condition yet", "recovering", "a fault", "no Prometheus", "nothing yet"],
)
def test_a_load_that_is_not_known_is_explained(scaling: dict[str, Any], metrics: dict[str, Any], words: str) -> None:
    assert load_line(scaling, metrics) == words


def test_the_demo_waits_for_the_load_only_where_it_will_be_known() -> None:
    assert not load_known({"status": {"scaling": {"floor": 1}}})
    assert load_known({"status": {"scaling": {"floor": 1, "load": 0.0}}})
    assert load_known({"status": {"scaling": {"metrics": ["cpu"]}}})
    assert load_known({})
