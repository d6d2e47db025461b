"""Reads repeatedly what other processes have written."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from domain.background import run_in_background
from domain.errors import Overloaded

log = logging.getLogger(__name__)


@asynccontextmanager
async def refreshing(
    refresh: Callable[[], Awaitable[None]], *, every_seconds: float, name: str
) -> AsyncIterator[None]:
    """Refresh before the block begins, and then periodically with jitter until it ends.

    While the database cannot be reached, the known values stay.
    """

    async def try_to_refresh() -> None:
        try:
            await refresh()
        except Overloaded:
            pass  # The next refresh will read it.
        except Exception:
            log.exception("refresh failed", extra={"what": name})

    async def refresh_forever() -> None:
        while True:
            await asyncio.sleep(every_seconds * random.uniform(0.75, 1.25))
            await try_to_refresh()

    await try_to_refresh()
    async with run_in_background(refresh_forever(), name=name):
        yield
