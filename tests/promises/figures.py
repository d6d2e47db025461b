"""How much is tested, and what other clients experienced meanwhile.

`make test` tries little; `make resilience INPUTS=5000` tries that many inputs, four times as many
operations of others, and twenty times as many subscriptions, and prints its figures.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Final

import httpx2

from tests.edge.hostile import memory_of
from tests.resilience.processes import Api
from tests.resilience.scale import SEED

INPUTS: Final = int(os.environ.get("DARKROOM_TEST_INPUTS", "0"))
"""0: the small count of each test."""
ASK_EVERY: Final = 0.02
MAX_P99_SECONDS: Final = 1.0
"""On a machine that has nothing else to do it is 0.01; what this is about has been seconds. It may
be longer by as much as more processes want to run than there are processors.
"""


def count(small: int, *, each: float = 1) -> int:
    """A test's count: `each` for an input, or the small one."""
    return round(INPUTS * each) if INPUTS else small


@dataclass(slots=True)
class Figures:
    memory_before: int
    waits: list[float] = field(default_factory=list)
    most_memory: int = 0

    @property
    def p99(self) -> float:
        return sorted(self.waits)[int(0.99 * (len(self.waits) - 1))]

    @property
    def grown(self) -> int:
        """Bytes."""
        return self.most_memory - self.memory_before


@asynccontextmanager
async def noticed(api: Api, what: str) -> AsyncIterator[Figures]:
    """Meanwhile, send small requests as another client all the time. Print how long they took."""
    figures = Figures(memory_of(api))
    neighbour = asyncio.create_task(_ask(api, figures), name="neighbour")
    began = monotonic()
    try:
        yield figures
    finally:
        neighbour.cancel()
        with suppress(asyncio.CancelledError):
            await neighbour
    figures.most_memory = max(figures.most_memory, memory_of(api))
    sys.stderr.write(
        f"\n{what}: {monotonic() - began:.0f} s, seed {SEED}, "
        f"longest block {max(figures.waits) * 1000:.0f} ms, "
        f"neighbours' p99 {figures.p99 * 1000:.0f} ms, most memory +{figures.grown / 1e6:.1f} MB, "
        f"load {os.getloadavg()[0]:.1f}\n"
    )
    crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert figures.p99 < MAX_P99_SECONDS * crowd


async def _ask(api: Api, figures: Figures) -> None:
    async with httpx2.AsyncClient(base_url=api.url, verify=False, timeout=30) as http:
        while True:
            began = monotonic()
            assert (await http.get("/healthz")).status_code == 200
            figures.waits.append(monotonic() - began)
            figures.most_memory = max(figures.most_memory, memory_of(api))
            await asyncio.sleep(ASK_EVERY)


def open_files_of(api: Api) -> int:
    return len(list(Path(f"/proc/{api.pid}/fd").iterdir()))
