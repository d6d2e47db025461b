"""How often a provider is asked about a job, and how long its troubles are waited out."""

import asyncio
import random
from dataclasses import dataclass

from domain.errors import GenerationErrorCode, GenerationFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """All in seconds, but for `growth`."""

    first: float = 0.5
    longest: float = 3.0
    growth: float = 1.4
    submit: float = 60.0
    """For a submission to be answered; what was not is lost, so this is generous."""
    call: float = 30.0
    cancel: float = 5.0
    spare: float = 1.0
    """So long before the deadline a job is given up that cannot be asked about."""


class PollingPolicy:
    """The pauses of one run, until its deadline."""

    def __init__(self, pace: Pace, seconds_left: float) -> None:
        self._pace = pace
        self._clock = asyncio.get_running_loop().time
        self._deadline = self._clock() + seconds_left
        self._pause = pace.first
        self._troubles = 0
        self._doubts = 0

    @property
    def seconds_left(self) -> float:
        return self._deadline - self._clock()

    @property
    def is_over(self) -> bool:
        """Whether a call that has just ended was ended by the deadline."""
        return self.seconds_left <= 2 * self._pace.spare

    def within(self, seconds: float) -> float:
        """So many seconds for a call, or as many as there are, less some to act on its answer."""
        return min(seconds, max(self._pace.spare, self.seconds_left - self._pace.spare))

    def check(self) -> None:
        """Raise TIMED_OUT once the deadline is over."""
        if self.seconds_left <= 0:
            raise _timed_out()

    async def until_next(self) -> None:
        """Pause where all is well, unless the deadline is over."""
        self.check()
        await self._sleep(self._next_pause())

    def went_well(self) -> None:
        """An answer was as expected: what comes next is not in a row with what was before."""
        self._troubles = self._doubts = 0

    async def wait_out(
        self, trouble: GenerationFailed, *, wish: float | None = None, tries: int | None = None
    ) -> None:
        """Pause after trouble, for as long as was wished for, but not beyond the deadline.

        Where there is no time left, raise the trouble itself if it has lasted, else TIMED_OUT: the
        last call may have been cut short only by the deadline. With `tries`, it may be more than
        trouble: raise it also where it is the last of so many in a row.
        """
        self._troubles += 1
        if tries is not None:
            self._doubts += 1
            if self._doubts >= tries:
                raise trouble
        left = self.seconds_left - self._pace.spare
        if left <= 0:
            raise trouble if self._troubles > 1 else _timed_out()
        await self._sleep(min(max(self._next_pause(), wish or 0.0), left))

    def _next_pause(self) -> float:
        pause, self._pause = self._pause, min(self._pause * self._pace.growth, self._pace.longest)
        return pause * random.uniform(0.8, 1.2)

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, max(0.0, self.seconds_left)))


def _timed_out() -> GenerationFailed:
    return GenerationFailed(
        GenerationErrorCode.TIMED_OUT, retryable=True, detail="the deadline is over"
    )
