"""Tasks that run in the background of a block, and end with it."""

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine
from contextlib import asynccontextmanager
from typing import Any


async def cancel_all(
    tasks: Collection[asyncio.Task[Any]], *, max_seconds: float | None = None
) -> None:
    """Cancel these tasks, and wait until they have ended, or for this time."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=max_seconds)


@asynccontextmanager
async def run_in_background(work: Coroutine[Any, Any, None], *, name: str) -> AsyncIterator[None]:
    """Run it until the block ends."""
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        await cancel_all([task])
