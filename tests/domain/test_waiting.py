"""Waiting for semaphores: in order, within a limit, and separately for each key."""

import asyncio
import gc
from collections import Counter
from collections.abc import Sequence

import pytest

from domain.errors import Overloaded
from domain.waiting import LimitedRounds, SemaphoresByKey, holding


async def test_waiters_with_one_key_wait_for_one_another_and_others_do_not() -> None:
    by_key = SemaphoresByKey(1)

    async with holding(by_key.get("ana"), max_seconds=1):
        with pytest.raises(Overloaded):
            async with holding(by_key.get("ana"), max_seconds=0.01):
                pass
        async with holding(by_key.get("bob"), max_seconds=0.01):
            pass
    async with holding(by_key.get("ana"), max_seconds=0.01):
        pass


async def test_the_limit_applies_to_all_keys_and_nothing_stays_held() -> None:
    free, taken = asyncio.Semaphore(1), asyncio.Semaphore(0)

    with pytest.raises(Overloaded):
        async with holding(free, taken, max_seconds=0.01):
            pass

    assert not free.locked()


async def test_a_key_is_removed_once_nobody_holds_it_or_waits_for_it() -> None:
    by_key = SemaphoresByKey(1)

    async with holding(by_key.get("ana"), max_seconds=1):
        waiting = asyncio.create_task(_hold(by_key))
        await asyncio.sleep(0)
        gc.collect()
        assert by_key.get("ana").locked()
    await waiting
    del waiting
    gc.collect()

    assert not by_key._semaphores


async def _hold(by_key: SemaphoresByKey) -> None:
    async with holding(by_key.get("ana"), max_seconds=1):
        pass


async def test_tasks_with_much_to_do_continue_in_different_rounds_of_the_loop() -> None:
    reached = await _wait_together([100] * 10)

    assert len(set(reached)) == 10
    assert reached == sorted(reached)


async def test_tasks_with_little_to_do_share_a_round() -> None:
    """With long rounds, one task in each would keep the last ones waiting for their whole time."""
    reached = await _wait_together([1] * 250)

    assert sorted(Counter(reached).values()) == [50, 100, 100]


async def test_more_to_do_than_a_round_has_room_for_has_one_of_its_own() -> None:
    assert sorted(Counter(await _wait_together([1, 500, 1])).values()) == [1, 1, 1]


async def test_who_no_longer_waits_for_a_round_holds_up_nobody() -> None:
    rounds = LimitedRounds(most=1)
    tasks = [asyncio.create_task(rounds.wait(1)) for _ in range(6)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()

    await asyncio.wait(tasks, timeout=10)

    assert [task.cancelled() for task in tasks] == [True, False] * 3


async def _wait_together(counts: Sequence[int]) -> Sequence[int]:
    """The rounds in which tasks continue that have this much to do, in the order of the tasks."""
    rounds, reached, current = LimitedRounds(most=100), list[int](), 0

    async def work(count: int) -> None:
        await rounds.wait(count)
        reached.append(current)

    tasks = [asyncio.create_task(work(count)) for count in counts]
    while not all(task.done() for task in tasks):
        current += 1
        await asyncio.sleep(0)
    return reached
