"""The shared cache on a directory: turns, what is complete, what may go, and what a dead or a paused pod leaves."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from nereus.sidecar import cache as caches
from nereus.sidecar.cache import Cache, DamagedError, NoRoomError, Turn

KIB = 1024


def cache(root: Path, owner: str = "pod-a", *, limit: int = 100 * KIB, stale_seconds: float = 60.0) -> Cache:
    made = Cache(root, limit, owner, stale_seconds=stale_seconds)
    made.prepare()
    return made


def taken(of: Cache, source: str = "s3-1") -> Turn:
    turn = of.take(source)
    assert turn is not None
    return turn


def fill(turn: Turn, size: int = 10 * KIB) -> None:
    (turn.work / "tree" / "1").mkdir(parents=True)
    (turn.work / "tree" / "1" / "model.bin").write_bytes(b"x" * size)


def put(into: Cache, source: str = "s3-1", size: int = 10 * KIB) -> str:
    turn = taken(into, source)
    into.reserve(turn, size)
    fill(turn, size)
    entry = into.publish(turn, "pinned", "s3://b/m")
    into.give_back(turn)
    return entry


def long_ago(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (1_000_000_000, 1_000_000_000))


def test_what_one_pod_fetched_another_finds_whole(tmp_path: Path) -> None:
    entry = put(cache(tmp_path))
    other = cache(tmp_path, "pod-b")
    assert other.contents("s3-1") == ("pinned",)
    assert (other.open(entry) / "1" / "model.bin").read_bytes() == b"x" * 10 * KIB
    assert other.contents("s3-2") == ()


def test_one_pod_has_the_turn_and_the_next_gets_it_when_it_is_given_back(tmp_path: Path) -> None:
    first, second = cache(tmp_path), cache(tmp_path, "pod-b")
    turn = taken(first)
    assert second.take("s3-1") is None
    assert second.take("s3-2") is not None
    first.give_back(turn)
    assert second.take("s3-1") is not None


def test_of_many_that_ask_at_once_one_gets_the_turn(tmp_path: Path) -> None:
    pods = [cache(tmp_path, f"pod-{number}") for number in range(16)]
    together, got = threading.Barrier(len(pods)), list[Turn]()

    def ask(pod: Cache) -> None:
        together.wait()
        turn = pod.take("s3-1")
        if turn is not None:
            got.append(turn)

    threads = [threading.Thread(target=ask, args=(pod,)) for pod in pods]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1


def test_a_holder_that_does_not_move_is_dead_and_what_it_had_is_gone_on_with(tmp_path: Path) -> None:
    dead, other = cache(tmp_path), cache(tmp_path, "pod-b", stale_seconds=0.2)
    turn = taken(dead)
    (turn.work / "parts").mkdir()
    assert other.take("s3-1") is None
    for _ in range(3):
        time.sleep(0.1)
        assert dead.beat(turn)
        assert other.take("s3-1") is None, "it moves"
    time.sleep(0.3)
    new = taken(other)
    assert (new.work / "parts").is_dir()
    assert not dead.beat(turn), "it was only asleep, and learns that it lost the turn"
    dead.give_back(turn)
    assert other.beat(new), "which takes nothing from the new one"
    fill(new)
    fill_of_the_former = turn.work / "tree"
    assert not fill_of_the_former.exists()
    with pytest.raises(OSError, match="No such file"):
        dead.publish(turn, "pinned", "")
    assert other.open(other.publish(new, "pinned", "")).is_dir()


def test_a_container_that_was_killed_goes_on_at_once_in_its_next_life(tmp_path: Path) -> None:
    turn = taken(cache(tmp_path))
    (turn.work / "parts").mkdir()
    assert (taken(cache(tmp_path)).work / "parts").is_dir()


def test_two_that_both_thought_they_had_the_turn_leave_one_whole_entry(tmp_path: Path) -> None:
    first, second = cache(tmp_path), cache(tmp_path, "pod-b", stale_seconds=0.0)
    one = taken(first)
    fill(one)
    assert second.take("s3-1") is None
    time.sleep(0.01)
    two = taken(second)
    fill_again = two.work / "tree"
    assert fill_again.is_dir(), "taken over"
    one.work.mkdir()
    fill(one)
    entry = first.publish(one, "pinned", "")
    assert second.publish(two, "pinned", "") == entry
    assert second.open(entry).is_dir()
    assert list((tmp_path / caches.FORMAT / "partial").iterdir()) == []


@pytest.mark.parametrize("spoilt", ["other bytes", "truncated", "gone", "one more"])
def test_what_is_not_what_was_put_there_is_refused(tmp_path: Path, spoilt: str) -> None:
    of = cache(tmp_path)
    entry = put(of)
    file = of.path(entry) / "tree" / "1" / "model.bin"
    match spoilt:
        case "other bytes":
            file.write_bytes(b"y" * 10 * KIB)
        case "truncated":
            file.write_bytes(b"x")
        case "gone":
            file.unlink()
        case _:
            (file.parent / "more").touch()
    with pytest.raises(DamagedError):
        of.open(entry)
    of.discard(entry)
    assert of.contents("s3-1") == ()


def test_an_entry_without_its_list_of_files_is_none(tmp_path: Path) -> None:
    of = cache(tmp_path)
    entry = put(of)
    (of.path(entry) / "entry.json").write_text('{"bytes": 1')
    assert of.contents("s3-1") == ()
    with pytest.raises(FileNotFoundError):
        of.open(entry)


def test_the_least_recently_used_goes_first_and_never_what_a_pod_uses(tmp_path: Path) -> None:
    of = cache(tmp_path, limit=35 * KIB)
    old, older, used = (put(of, source) for source in ("s3-old", "s3-older", "s3-used"))
    of.release()
    other = cache(tmp_path, "pod-b", limit=35 * KIB)
    other.open(used)
    long_ago(of.path(used) / "entry.json", of.path(older) / "entry.json")
    put(of, "s3-new")
    assert [of.path(entry).exists() for entry in (old, older, used)] == [True, False, True]
    turn = taken(of, "s3-large")
    with pytest.raises(NoRoomError, match="in use"):
        of.reserve(turn, 30 * KIB)
    assert of.path(used).exists(), "pod-b serves from it"
    with pytest.raises(NoRoomError, match="may have"):
        of.reserve(turn, 36 * KIB)


def test_the_marks_of_a_pod_that_is_gone_hold_nothing(tmp_path: Path) -> None:
    of = cache(tmp_path, limit=15 * KIB)
    entry = put(of)
    other = cache(tmp_path, "pod-b", limit=15 * KIB)
    with pytest.raises(NoRoomError):
        other.reserve(taken(other, "s3-2"), 10 * KIB)
    long_ago(*(tmp_path / caches.FORMAT / "uses").iterdir())
    assert put(cache(tmp_path, "pod-c", limit=15 * KIB), "s3-3")
    assert not of.path(entry).exists()
    assert of.renew([entry]) == (entry,), "a pod that was only asleep is told"


def test_what_is_being_fetched_counts_and_what_a_dead_pod_left_goes(tmp_path: Path) -> None:
    of = cache(tmp_path, limit=15 * KIB)
    turn = taken(of)
    of.reserve(turn, 10 * KIB)
    other = cache(tmp_path, "pod-b", limit=15 * KIB)
    with pytest.raises(NoRoomError):
        other.reserve(taken(other, "s3-2"), 10 * KIB)
    long_ago(turn.work / "reserved")
    other.reserve(taken(other, "s3-3"), 10 * KIB)
    assert not turn.work.exists()


def test_links_in_a_tree_are_part_of_what_is_compared(tmp_path: Path) -> None:
    of = cache(tmp_path)
    turn = taken(of)
    fill(turn)
    (turn.work / "tree" / "2").symlink_to("1")
    entry = of.publish(turn, "pinned", "")
    assert of.open(entry).is_dir()
    link = of.path(entry) / "tree" / "2"
    link.unlink()
    link.symlink_to("/etc")
    with pytest.raises(DamagedError):
        of.open(entry)
