"""`python -m bench.probe FILE`: the real server, which also notes how long its loop stands still.

SIGUSR1 begins to watch; the next one writes what was seen, as JSON, and ends it. Otherwise the
server is as it always is.
"""

import asyncio
import gc
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

import serve
from settings import Settings

_TICK: Final = 0.01


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
        self._seen = {"longest_block_ms": 0.0, "longest_collection_ms": 0.0}
        gc.callbacks.append(self._collect)
        self._watching = asyncio.create_task(self._watch())
        self._path.write_text("{}")

    async def _watch(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(_TICK)
            self._keep("longest_block_ms", time.perf_counter() - began - _TICK)

    def _collect(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._collection_began = time.perf_counter()
        else:
            self._keep("longest_collection_ms", time.perf_counter() - self._collection_began)

    def _keep(self, name: str, seconds: float) -> None:
        self._seen[name] = max(self._seen[name], 1000 * seconds)


def main(path: str) -> int:
    probe, original = Probe(Path(path)), serve._serve

    async def probed(settings: Settings) -> int:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, probe.toggle)
        return await original(settings)

    serve._serve = probed
    return serve.main()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
