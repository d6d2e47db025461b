"""What an attack costs others: blocks of the event loop, memory, and neighbours' waits."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from tests.attacks.site import Site
from tests.edge.hostile import memory_of
from tests.edge.serve_with_probe import Longest, take_longest

EVERY_SECONDS: Final = 0.05
GOOD: Final = 200
NONE: Final = Longest(0.0, 0.0)


@dataclass(slots=True)
class Figures:
    memory_before: int
    most_memory: int = 0
    left_memory: int = 0
    longest: Longest = NONE
    waits: list[float] = field(default_factory=list)
    refused: int = 0
    """Neighbours' operations that had another status than 200, or none."""
    load: float = 0.0

    @property
    def p99(self) -> float:
        """Seconds, of all of a neighbour's operations."""
        return sorted(self.waits)[int(0.99 * (len(self.waits) - 1))] if self.waits else 0.0

    def cells(self) -> list[str]:
        return [
            f"{self.longest.processor_seconds * 1000:.0f} ms",
            f"{self.longest.seconds * 1000:.0f} ms",
            f"+{(self.most_memory - self.memory_before) / 1e6:.1f} MB",
            f"{(self.left_memory - self.memory_before) / 1e6:+.1f} MB",
            f"{self.p99 * 1000:.0f} ms",
            f"{self.refused} of {len(self.waits)}",
            f"{self.load:.1f}",
        ]


COLUMNS: Final = (
    *("block: processor", "block: wall", "most memory", "left"),
    *("neighbours' p99", "neighbours refused", "load"),
)


@asynccontextmanager
async def watching(site: Site, experienced: asyncio.StreamReader) -> AsyncIterator[Figures]:
    """Measure until the block ends."""
    figures = Figures(memory_of(site.api))
    take_longest(site.rounds)
    tasks = [
        asyncio.create_task(_read(experienced, figures), name="neighbours"),
        asyncio.create_task(_weigh(site, figures), name="memory"),
    ]
    try:
        yield figures
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        figures.longest = take_longest(site.rounds)
        figures.left_memory = memory_of(site.api)
        figures.load = os.getloadavg()[0]


async def _read(experienced: asyncio.StreamReader, figures: Figures) -> None:
    while line := await experienced.readline():
        seconds, status = line.split()
        figures.waits.append(float(seconds))
        figures.refused += int(status) != GOOD
    raise AssertionError("The neighbours have left.")


async def _weigh(site: Site, figures: Figures) -> None:
    while True:
        figures.most_memory = max(figures.most_memory, memory_of(site.api))
        await asyncio.sleep(EVERY_SECONDS)
