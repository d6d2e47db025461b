"""How tests wait: for something that happens, and never for a fixed time."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

PATIENCE_SECONDS: Final = 60.0
"""How long a test waits for an event that comes at once, unless the machine has much else to do: a
process has taken more than 30 s to start.
"""
START_SECONDS: Final = 120.0
"""How long a test waits for the first words of a process that it has started."""


async def eventually(
    holds: Callable[[], bool | Awaitable[bool]],
    *,
    within: float = PATIENCE_SECONDS,
    what: str,
    every: float = 0.05,
) -> float:
    """Ask repeatedly until it holds. Return how many seconds that took."""
    started = monotonic()
    while not await _ask(holds):
        assert monotonic() - started < within, f"not within {within} s: {what}"
        await asyncio.sleep(every)
    return monotonic() - started


async def _ask(holds: Callable[[], bool | Awaitable[bool]]) -> bool:
    answer = holds()
    return await answer if inspect.isawaitable(answer) else answer
