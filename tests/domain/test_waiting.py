"""Waiting for semaphores: in order, within a limit, and separately for each key."""

import asyncio
import gc

import pytest

from domain.errors import Overloaded
from domain.waiting import OneEachRound, SemaphoresByKey, holding


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


async def test_tasks_that_are_ready_together_continue_in_different_rounds_of_the_loop() -> None:
    rounds, reached = OneEachRound(), list[int]()
    current = 0

    async def work() -> None:
        await rounds.wait()
        reached.append(current)

    tasks = [asyncio.create_task(work()) for _ in range(10)]
    while not all(task.done() for task in tasks):
        current += 1
        await asyncio.sleep(0)

    assert len(set(reached)) == len(tasks)
    assert reached == sorted(reached)
