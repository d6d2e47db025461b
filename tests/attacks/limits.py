"""How much an attack does, and for how long."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic


@dataclass(slots=True)
class Limit:
    """So many, and none is begun after these seconds."""

    count: int
    seconds: float
    done: int = 0
    _began: float = field(default_factory=monotonic)

    def take(self) -> bool:
        """Whether there is another one to be done."""
        if self.done >= self.count or self.seconds_taken >= self.seconds:
            return False
        self.done += 1
        return True

    @property
    def seconds_taken(self) -> float:
        return monotonic() - self._began

    async def work(self, workers: int, step: Callable[[int], Awaitable[None]]) -> None:
        """Do them all, several at a time. `step` is given the number of its worker."""

        async def go_on(number: int) -> None:
            while self.take():
                await step(number)

        async with asyncio.TaskGroup() as group:
            for number in range(min(workers, self.count)):
                group.create_task(go_on(number))
