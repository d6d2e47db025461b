"""Writes that must not be given up because the database is away for a while."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from domain.errors import Overloaded

_SECONDS: Final = 120
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 2.0


async def persist(write: Callable[[], Awaitable[bool]]) -> bool:
    """Repeat a write while the database is away. Deterministic ids make a repeated one harmless."""
    give_up_at = asyncio.get_running_loop().time() + _SECONDS
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return await write()
        except Overloaded:
            if asyncio.get_running_loop().time() > give_up_at:
                raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
