"""Writes that must not be given up because the database is away for a while."""

from collections.abc import Awaitable, Callable
from typing import Final

from domain.errors import Overloaded
from domain.retries import RetryPolicy, retry

_WHILE_AWAY: Final = RetryPolicy(
    first_pause_seconds=0.1, longest_pause_seconds=2.0, max_seconds=120
)


async def persist(write: Callable[[], Awaitable[bool]]) -> bool:
    """Repeat a write while the database is away. Deterministic ids make a repeated one harmless."""
    return await retry(write, on=Overloaded, policy=_WHILE_AWAY)
