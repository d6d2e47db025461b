"""How much is tested, and what other clients experienced meanwhile.

`make test` tries little; `make resilience INPUTS=5000` tries that many inputs, four times as many
operations of others, and twenty times as many subscriptions, and prints its figures.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Final

from tests.edge.hostile import memory_of
from tests.http import open_http
from tests.resilience.processes import Api
from tests.resilience.scale import SEED, load_factor

INPUTS: Final = int(os.environ.get("DARKROOM_TEST_INPUTS", "0"))
"""0: the small count of each test."""
ASK_EVERY: Final = 0.02
LISTENING: Final = "0A"
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
    assert figures.p99 < MAX_P99_SECONDS * load_factor()


async def _ask(api: Api, figures: Figures) -> None:
    async with open_http(base_url=api.url) as http:
        while True:
            began = monotonic()
            assert (await http.get("/healthz")).status_code == 200
            figures.waits.append(monotonic() - began)
            figures.most_memory = max(figures.most_memory, memory_of(api))
            await asyncio.sleep(ASK_EVERY)


def open_files_of(api: Api) -> int:
    """Its open files and its clients' connections.

    Its own connections to the database and others do not count: a pool keeps them for later, and
    opens more of them the more is asked at once.
    """
    files = _targets_of(api)
    sockets = [(port, state, f"socket:[{inode}]") for port, state, inode in _tcp_sockets()]
    served = {port for port, state, socket in sockets if state == LISTENING and socket in files}
    outgoing = {socket for port, _, socket in sockets if port not in served}
    return sum(file not in outgoing for file in files)


def _targets_of(api: Api) -> list[str]:
    files: list[str] = []
    for file in Path(f"/proc/{api.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # Closed since it was listed.
            files.append(str(file.readlink()))
    return files


def _tcp_sockets() -> Iterator[tuple[str, str, str]]:
    """This machine's: local port, state and inode, as Linux writes them."""
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
            yield local.rpartition(":")[2], state, inode
