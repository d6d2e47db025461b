"""Long lists in parts, so that no request and no transaction becomes too large; and several of
their items at a time.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """The items in their order, `size` at a time; the last batch may be smaller."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


async def finish_in_parallel(
    work: Callable[[Item], Awaitable[Result]], items: Iterable[Item], *, at_once: int
) -> AsyncGenerator[Result, None]:
    """The results in the order in which they come, of `at_once` items at a time. After an error, or
    when it is closed, the work on the others is cancelled.
    """
    running: set[asyncio.Future[Result]] = set()

    async def next_result() -> Result:
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        task = done.pop()
        running.remove(task)
        return task.result()

    try:
        for item in items:
            running.add(asyncio.ensure_future(work(item)))
            if len(running) == at_once:
                yield await next_result()
        while running:
            yield await next_result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
