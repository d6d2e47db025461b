"""How long the event loop of a server stands still, noted by the server itself.

SIGUSR1 begins to watch; the next one writes what was seen, as JSON, and ends it. All measured
servers have this, so that they are alike.
"""

import asyncio
import gc
import json
import signal
import time
from pathlib import Path
from typing import Any, Final

_TICK: Final = 0.005


class Probe:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[str, Any] = {}
        self._watching: asyncio.Task[None] | None = None
        self._collection_began = 0.0

    def toggle(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
            gc.callbacks.remove(self._collect)
            self._path.write_text(json.dumps(self._seen))
            return
        self._seen = {"longest_block_ms": 0.0, "own_block_ms": 0.0, "longest_collection_ms": 0.0}
        gc.callbacks.append(self._collect)
        self._watching = asyncio.create_task(self._watch())
        self._path.write_text("{}")

    async def _watch(self) -> None:
        """A timer that comes too late was kept from coming, by the loop or by the machine. The loop
        has had no more to do with it than its thread has used of a processor meanwhile.
        """
        while True:
            began, used = time.perf_counter(), time.thread_time()
            await asyncio.sleep(_TICK)
            late = time.perf_counter() - began - _TICK
            self._keep("longest_block_ms", late)
            self._keep("own_block_ms", min(late, time.thread_time() - used))

    def _collect(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._collection_began = time.perf_counter()
        else:
            self._keep("longest_collection_ms", time.perf_counter() - self._collection_began)

    def _keep(self, name: str, seconds: float) -> None:
        self._seen[name] = max(self._seen[name], 1000 * seconds)


def probe_at_signal(path: Path) -> None:
    """Called within the loop that is to be watched."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, Probe(path).toggle)
