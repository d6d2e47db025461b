"""How often a provider is asked about a job, and how long its faults are tolerated."""

import asyncio
import random
from dataclasses import dataclass

from domain.errors import GenerationFailed
from providers.failures import TIMED_OUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """All in seconds, except `growth`."""

    first: float = 0.5
    longest: float = 3.0
    growth: float = 1.4
    submit: float = 60.0
    """The limit of a submission. One without a response is lost, so this is generous."""
    call: float = 30.0
    cancel: float = 5.0
    last_words: float = 10.0
    """The limit for an image, or for more text, in an answer that has already said why it ends."""
    spare: float = 1.0
    """How long before the deadline a job is given up whose status cannot be read."""


class PollingPolicy:
    """The pauses of one run, until its deadline."""

    def __init__(self, pace: Pace, seconds_left: float) -> None:
        self._pace = pace
        self._clock = asyncio.get_running_loop().time
        self._deadline = self._clock() + seconds_left
        self._pause = pace.first
        self._fault: GenerationFailed | None = None
        """The latest fault, if the last response was one."""
        self._doubts = 0

    @property
    def seconds_left(self) -> float:
        return self._deadline - self._clock()

    @property
    def is_over(self) -> bool:
        """Whether the deadline ended a call that has just ended."""
        return self.seconds_left <= 2 * self._pace.spare

    def within(self, seconds: float) -> float:
        """The limit of a call: this many seconds, or what is left, less some time to use the
        response.
        """
        return min(seconds, max(self._pace.spare, self.seconds_left - self._pace.spare))

    def check(self) -> None:
        """Raise TIMED_OUT after the deadline."""
        if self.seconds_left <= 0:
            raise _timed_out()

    async def pause(self) -> None:
        """Pause after a good response; raise TIMED_OUT after the deadline."""
        self.check()
        await self._sleep(self._next_pause())

    def reset_faults(self) -> None:
        """Start counting again: a response was as expected, so the next fault is the first one."""
        self._fault, self._doubts = None, 0

    async def wait_out(
        self,
        fault: GenerationFailed,
        *,
        retry_after: float | None = None,
        tries: int | None = None,
    ) -> None:
        """Pause after a fault, at least for `retry_after`, but not beyond the deadline.

        If no time is left, raise the fault before this one, else TIMED_OUT: the last call may have
        been cut short only by the deadline. With `tries`, the fault may be final: raise it if it is
        the last of so many in a row.
        """
        earlier, self._fault = self._fault, fault
        if tries is not None:
            self._doubts += 1
            if self._doubts >= tries:
                raise fault
        left = self.seconds_left - self._pace.spare
        if left <= 0:
            raise earlier or _timed_out()
        await self._sleep(min(max(self._next_pause(), retry_after or 0.0), left))

    def _next_pause(self) -> float:
        pause, self._pause = self._pause, min(self._pause * self._pace.growth, self._pace.longest)
        return pause * random.uniform(0.8, 1.2)

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, max(0.0, self.seconds_left)))


def _timed_out() -> GenerationFailed:
    return TIMED_OUT.failure("the deadline has passed")
