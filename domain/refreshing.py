"""Keeping up with what other processes have written, periodically."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from domain.errors import Overloaded

log = logging.getLogger(__name__)


@asynccontextmanager
async def refreshing(
    refresh: Callable[[], Awaitable[None]], *, every_seconds: float, name: str
) -> AsyncIterator[None]:
    """Refresh at once and then again and again, with jitter, until the block ends.

    While the database is away, what is known stays.
    """

    async def refresh_forever() -> None:
        while True:
            try:
                await refresh()
            except Overloaded:
                pass  # the next time will tell
            except Exception:
                log.exception("not refreshed", extra={"what": name})
            await asyncio.sleep(every_seconds * random.uniform(0.75, 1.25))

    task = asyncio.create_task(refresh_forever(), name=name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
