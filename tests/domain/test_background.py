"""Tasks in the background end with their block, and not later."""

import asyncio

import pytest

from domain.background import cancel_all, run_in_background


async def test_work_in_the_background_has_ended_after_its_block() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # An end takes its time, too.
            ended.set()

    async def fail_during_work() -> None:
        async with run_in_background(work(), name="work"):
            await begun.wait()
            raise ValueError("of the block")

    with pytest.raises(ValueError, match="of the block"):
        await fail_during_work()

    assert ended.is_set()


async def test_work_that_has_failed_does_not_fail_its_block() -> None:
    async def work() -> None:
        raise ValueError("of the work")

    async with run_in_background(work(), name="work"):
        await asyncio.sleep(0)


async def test_tasks_that_do_not_end_are_left_after_the_limit() -> None:
    may_end = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await may_end.wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)

    await cancel_all([task], max_seconds=0.01)
    await cancel_all([])

    assert not task.done()
    may_end.set()
    await asyncio.wait([task])
