"""The time of a run."""

import asyncio
from datetime import datetime, timedelta

from domain.claims import Claim


class Clock:
    """The database's time: images of all workers are ordered by it."""

    def __init__(self, claim: Claim) -> None:
        self._claimed_at = claim.claimed_at
        self._seconds_left = claim.seconds_left
        self._started = asyncio.get_running_loop().time()

    def now(self) -> datetime:
        return self._claimed_at + timedelta(milliseconds=round(self._elapsed_seconds * 1000))

    @property
    def seconds_left(self) -> float:
        """Until the output's deadline."""
        return self._seconds_left - self._elapsed_seconds

    @property
    def _elapsed_seconds(self) -> float:
        return asyncio.get_running_loop().time() - self._started
