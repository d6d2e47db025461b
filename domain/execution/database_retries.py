"""Writes that are repeated while the database cannot be reached."""

from collections.abc import Awaitable, Callable
from typing import Final

from domain.errors import Overloaded
from domain.retries import RetryPolicy, retry

_WHILE_AWAY: Final = RetryPolicy(
    first_pause_seconds=0.1, longest_pause_seconds=2.0, max_seconds=120
)


async def persist(write: Callable[[], Awaitable[bool]]) -> bool:
    """Repeat a write while the database cannot be reached. Deterministic ids make a repetition
    harmless.
    """
    return await retry(write, on=Overloaded, policy=_WHILE_AWAY)
