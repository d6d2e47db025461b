"""Retries: how often or for how long, with pauses that grow and have jitter."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

Result = TypeVar("Result")

_MOST_DOUBLINGS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The first pause, doubled each time up to the longest one. None: no such limit."""

    first_pause_seconds: float
    longest_pause_seconds: float
    max_tries: int | None = None
    max_seconds: float | None = None
    """The limit since the start of the first try. No pause begins or ends after it."""

    def begin(self) -> "Retries":
        return Retries(self)

    def pause_seconds(self, tries: int) -> float:
        """The pause after this many tries. Jitter spreads those that failed at the same time."""
        doubled = self.first_pause_seconds * 2.0 ** min(tries - 1, _MOST_DOUBLINGS)
        return min(doubled, self.longest_pause_seconds) * random.uniform(0.5, 1.5)


class Retries:
    """The tries of one piece of work. The first one begins when this is made."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._began_at = asyncio.get_running_loop().time()
        self._tries = 1

    async def pause(self) -> bool:
        """Wait for the next try. Return False at once if there is none."""
        policy = self._policy
        if policy.max_tries is not None and self._tries >= policy.max_tries:
            return False
        seconds = asyncio.get_running_loop().time() - self._began_at
        if policy.max_seconds is not None and seconds >= policy.max_seconds:
            return False
        await asyncio.sleep(policy.pause_seconds(self._tries))
        self._tries += 1
        return True


async def retry(
    work: Callable[[], Awaitable[Result]], *, on: type[Exception], policy: RetryPolicy
) -> Result:
    """Repeat the work while it raises this error. Raise the last one."""
    retries = policy.begin()
    while True:
        try:
            return await work()
        except on:
            if not await retries.pause():
                raise
