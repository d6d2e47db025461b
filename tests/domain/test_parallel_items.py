"""Items in parallel: so many at a time, and none is left over after an error."""

import asyncio
from contextlib import aclosing

import pytest

from domain.batches import finish_in_parallel


async def test_no_more_items_are_in_work_than_allowed() -> None:
    running, most = 0, 0

    async def work(item: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(1 + item % 4):
            await asyncio.sleep(0)
        running -= 1
        return item

    results = [result async for result in finish_in_parallel(work, range(20), at_once=3)]

    assert sorted(results) == list(range(20))
    assert most == 3


async def test_an_error_cancels_the_other_items() -> None:
    cancelled: list[int] = []

    async def work(item: int) -> None:
        if item == 1:
            raise ValueError("It cannot be done.")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(item)
            raise

    async with aclosing(finish_in_parallel(work, range(9), at_once=3)) as results:
        with pytest.raises(ValueError, match="cannot"):
            await anext(results)

    assert sorted(cancelled) == [0, 2]
