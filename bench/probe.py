"""`python -m bench.probe FILE`: the real server, which also notes how long its loop stands still.

SIGUSR1 writes what was seen since the last one, as JSON.
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

_TICK: Final = 0.005


class Probe:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._reset()
        self._collecting = 0.0

    def _reset(self) -> None:
        self.seen: dict[str, Any] = {"longest_block_ms": 0.0, "longest_collection_ms": 0.0}

    async def watch(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self.write)
        gc.callbacks.append(self._collect)
        while True:
            began = time.perf_counter()
            await asyncio.sleep(_TICK)
            self._keep("longest_block_ms", time.perf_counter() - began - _TICK)

    def write(self) -> None:
        self._path.write_text(json.dumps(self.seen))
        self._reset()

    def _collect(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = time.perf_counter()
        else:
            self._keep("longest_collection_ms", time.perf_counter() - self._collecting)

    def _keep(self, name: str, seconds: float) -> None:
        self.seen[name] = max(self.seen[name], 1000 * seconds)


def main(path: str) -> int:
    probe, original = Probe(Path(path)), serve._serve

    async def probed(settings: Settings) -> int:
        watching = asyncio.create_task(probe.watch())
        try:
            return await original(settings)
        finally:
            watching.cancel()

    serve._serve = probed
    return serve.main()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
