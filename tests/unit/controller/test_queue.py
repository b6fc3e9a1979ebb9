"""The work queue: what is worked on, when, and by how many."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from nereus.controller.queue import FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS, Priority, Queue


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def taken(queue: Queue[str]) -> str | None:
    async with asyncio.timeout(1):
        return await queue.take()


async def nothing(queue: Queue[str]) -> bool:
    try:
        async with asyncio.timeout(0.02):
            await queue.take()
    except TimeoutError:
        return True
    return False


async def test_a_key_waits_at_most_once() -> None:
    queue: Queue[str] = Queue()
    for _ in range(5):
        queue.add("a")
    assert await taken(queue) == "a"
    assert await nothing(queue)


async def test_what_a_user_did_goes_before_what_comes_round_again() -> None:
    queue: Queue[str] = Queue()
    queue.add("routine", Priority.ROUTINE)
    queue.add("progress", Priority.PROGRESS)
    queue.add("change", Priority.CHANGE)
    assert [await taken(queue) for _ in range(3)] == ["change", "progress", "routine"]


async def test_a_waiting_key_moves_up_when_it_becomes_urgent() -> None:
    queue: Queue[str] = Queue()
    queue.add("a", Priority.ROUTINE)
    queue.add("b", Priority.PROGRESS)
    queue.add("a", Priority.CHANGE)
    assert [await taken(queue), await taken(queue)] == ["a", "b"]
    assert await nothing(queue)


async def test_a_key_is_never_worked_on_twice_at_the_same_time() -> None:
    queue: Queue[str] = Queue()
    queue.add("a")
    assert await taken(queue) == "a"
    queue.add("a")
    assert await nothing(queue)
    queue.done("a")
    assert await taken(queue) == "a", "what happened meanwhile was lost"


async def test_a_failure_comes_back_later_each_time_and_a_success_starts_afresh() -> None:
    clock = Clock()
    queue: Queue[str] = Queue(clock)
    queue.add("a")
    for count in range(12):
        assert await taken(queue) == "a"
        queue.done("a", failed=True)
        pause = min(FIRST_RETRY_SECONDS * 2**count, LONGEST_RETRY_SECONDS)
        clock.now += pause * 0.74
        assert await nothing(queue), f"too early after failure {count + 1}"
        clock.now += pause * 0.53
    assert await taken(queue) == "a"
    queue.done("a")
    assert queue.failures("a") == 0


async def test_the_earlier_of_two_wishes_stands() -> None:
    clock = Clock()
    queue: Queue[str] = Queue(clock)
    queue.add("a", after=10)
    queue.add("a", after=2)
    queue.add("a", after=5)
    clock.now += 2.1
    assert await taken(queue) == "a"
    queue.done("a")
    clock.now += 20
    assert await nothing(queue)


async def test_a_delayed_key_wakes_a_waiting_worker() -> None:
    queue: Queue[str] = Queue()
    worker = asyncio.create_task(taken(queue))
    await asyncio.sleep(0)
    queue.add("a", after=0.05)
    assert await worker == "a"


async def test_a_forgotten_key_comes_back_neither_by_retry_nor_by_timer_and_what_is_asked_now_stands() -> None:
    clock = Clock()
    queue: Queue[str] = Queue(clock)
    queue.add("a")
    assert await taken(queue) == "a"
    queue.done("a", failed=True)
    queue.add("a", after=1)
    queue.forget("a")
    clock.now += 200
    assert await nothing(queue)
    queue.add("a")  # made again under its name
    queue.forget("a")
    assert await taken(queue) == "a"


async def test_a_closed_queue_sends_every_worker_home() -> None:
    queue: Queue[str] = Queue()
    workers = [asyncio.create_task(taken(queue)) for _ in range(4)]
    await asyncio.sleep(0.01)
    queue.close()
    assert await asyncio.gather(*workers) == [None] * 4


async def test_many_workers_lose_nothing_and_double_nothing() -> None:
    queue: Queue[int] = Queue()
    busy: set[int] = set()
    seen: Counter[int] = Counter()

    async def worker() -> None:
        while (key := await queue.take()) is not None:
            assert key not in busy
            busy.add(key)
            await asyncio.sleep(0)
            busy.discard(key)
            seen[key] += 1
            queue.done(key)
            if len(seen) == 200 and queue.depth == 0 and not busy:
                queue.close()

    async def producer() -> None:
        for number in range(1000):
            queue.add(number % 200, Priority(number % 3))
            if number % 7 == 0:
                await asyncio.sleep(0)

    async with asyncio.timeout(10):
        await asyncio.gather(producer(), *(worker() for _ in range(8)))
    assert set(seen) == set(range(200))


async def test_keys_without_end_leave_the_event_loop_time_for_everything_else() -> None:
    queue: Queue[int] = Queue()
    stop = asyncio.Event()

    async def worker() -> None:
        while not stop.is_set() and (key := await queue.take()) is not None:
            queue.done(key)
            queue.add(key)

    for number in range(3):
        queue.add(number)
    workers = [asyncio.create_task(worker()) for _ in range(2)]
    async with asyncio.timeout(5):
        await asyncio.sleep(0.05)
        stop.set()
        await asyncio.gather(*workers)


async def test_the_gauges_tell_depth_and_ages() -> None:
    clock = Clock()
    queue: Queue[str] = Queue(clock)
    assert (queue.depth, queue.oldest_waiting_seconds(), queue.longest_working_seconds()) == (0, 0, 0)
    queue.add("a")
    clock.now += 3
    queue.add("b")
    assert queue.depth == 2
    assert queue.oldest_waiting_seconds() == pytest.approx(3)
    await taken(queue)
    clock.now += 4
    assert queue.longest_working_seconds() == pytest.approx(4)
