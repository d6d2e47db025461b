"""The database's time, as a run needs it."""

import asyncio
from datetime import datetime, timedelta

from domain.claims import Claim


class Clock:
    """The time by the database's clock, by which the images of all workers are ordered."""

    def __init__(self, claim: Claim) -> None:
        self._claimed_at = claim.claimed_at
        self._seconds_left = claim.seconds_left
        self._started = asyncio.get_running_loop().time()

    def now(self) -> datetime:
        return self._claimed_at + timedelta(milliseconds=round(self._elapsed_seconds * 1000))

    @property
    def seconds_left(self) -> float:
        """The time until the output's deadline."""
        return self._seconds_left - self._elapsed_seconds

    @property
    def _elapsed_seconds(self) -> float:
        return asyncio.get_running_loop().time() - self._started
