"""Healing at once, and yet no write war with a controller that wants something else."""

from __future__ import annotations

from itertools import pairwise

from nereus.controller.disputes import (
    FIRST_PAUSE_SECONDS,
    FREE_WRITES,
    LONGEST_PAUSE_SECONDS,
    Disputes,
    other_manager,
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def fought(disputes: Disputes, clock: Clock, seconds: float) -> int:
    """Writes within these seconds when a neighbour undoes each one at once."""
    end, writes = clock.now + seconds, 0
    while clock.now < end:
        if not disputes.undone("service", "wish"):
            disputes.wrote("service", "wish")
            writes += 1
        clock.now += 0.1
    return writes


def test_a_few_changes_are_healed_at_once() -> None:
    clock = Clock()
    disputes = Disputes(clock)
    for _ in range(FREE_WRITES):
        assert disputes.undone("service", "wish") == 0
        disputes.wrote("service", "wish")
        clock.now += 1
    assert disputes.undone("service", "wish") == FIRST_PAUSE_SECONDS


def test_a_war_of_an_hour_costs_a_handful_of_writes() -> None:
    clock = Clock()
    disputes = Disputes(clock)
    assert fought(disputes, clock, 60) <= FREE_WRITES + 3
    assert fought(disputes, clock, 3600) <= 3600 / LONGEST_PAUSE_SECONDS + 5


def test_while_a_pause_lasts_the_value_of_the_other_stands() -> None:
    """What is said of a dispute must not flicker: it begins when the other has written, not when we have."""
    clock = Clock()
    disputes = Disputes(clock)
    fought(disputes, clock, 5)
    waits = []
    for _ in range(50):
        waits.append(disputes.undone("service", "wish"))
        clock.now += 0.1
    assert all(later < sooner for sooner, later in pairwise(waits))
    assert waits[-1] > 0


def test_after_a_pause_one_write_is_tried_and_the_next_pause_is_twice_as_long() -> None:
    clock = Clock()
    disputes = Disputes(clock)
    fought(disputes, clock, 1)
    pauses = []
    for _ in range(8):
        clock.now += disputes.undone("service", "wish")
        assert disputes.undone("service", "wish") == 0
        disputes.wrote("service", "wish")
        clock.now += 0.1
        pauses.append(disputes.undone("service", "wish"))
    assert pauses[:4] == [2 * FIRST_PAUSE_SECONDS * 2**n for n in range(4)]
    assert max(pauses) == LONGEST_PAUSE_SECONDS


def test_a_new_wish_is_written_at_once() -> None:
    clock = Clock()
    disputes = Disputes(clock)
    fought(disputes, clock, 30)
    assert disputes.undone("service", "wish") > 0
    assert disputes.undone("service", "another wish") == 0


def test_a_write_that_held_for_long_ends_the_matter() -> None:
    clock = Clock()
    disputes = Disputes(clock)
    fought(disputes, clock, 5)
    clock.now += disputes.undone("service", "wish")
    disputes.wrote("service", "wish")
    clock.now += LONGEST_PAUSE_SECONDS
    for _ in range(FREE_WRITES):
        assert disputes.undone("service", "wish") == 0
        disputes.wrote("service", "wish")
    assert disputes.undone("service", "wish") == FIRST_PAUSE_SECONDS


def test_with_whom_it_is_is_asked_once() -> None:
    disputes = Disputes(Clock())
    assert disputes.manager("service") is None
    disputes.undone("service", "wish")
    assert disputes.manager("service") is None
    disputes.name("service", "")
    assert disputes.manager("service") == ""


def test_the_other_is_whoever_wrote_last_beside_us_and_status_writers() -> None:
    entries = [
        {"manager": "nereus", "time": "2026-01-01T00:00:09Z"},
        {"manager": "old", "time": "2026-01-01T00:00:01Z"},
        {"manager": "neighbour", "time": "2026-01-01T00:00:05Z"},
        {"manager": "kube-controller-manager", "time": "2026-01-01T00:00:08Z", "subresource": "status"},
    ]
    assert other_manager({"metadata": {"managedFields": entries}}) == "neighbour"
    assert other_manager({"metadata": {}}) == ""
