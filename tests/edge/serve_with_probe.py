"""`python -m serve` that measures its event loop: `python -m` this.

The longest round is in the file that DARKROOM_TEST_ROUND names: seconds of the loop's own processor
time, without what the garbage collector takes. Nothing imports this.
"""

import asyncio
import gc
import os
import sys
from mmap import mmap
from pathlib import Path
from struct import pack_into, unpack_from
from time import thread_time
from typing import Final

import serve
from settings import Settings

EVERY_SECONDS: Final = 0.001
LONGEST: Final = "d"

serve_unmeasured = serve._serve


class Probe:
    """A timer that comes round once in each round of the loop, unless several are very short."""

    def __init__(self, longest: mmap) -> None:
        self._longest = longest
        self._collected = self._collection_began = 0.0
        self._last = 0.0
        gc.callbacks.append(self._notice_collection)

    def start(self) -> None:
        self._last = thread_time() - self._collected
        asyncio.get_running_loop().call_later(EVERY_SECONDS, self._finish)

    def _finish(self) -> None:
        taken = thread_time() - self._collected - self._last
        if taken > unpack_from(LONGEST, self._longest)[0]:
            pack_into(LONGEST, self._longest, 0, taken)
        self.start()

    def _notice_collection(self, phase: str, _: object) -> None:
        if phase == "start":
            self._collection_began = thread_time()
        else:
            self._collected += thread_time() - self._collection_began


def main() -> int:
    path = Path(os.environ["DARKROOM_TEST_ROUND"])
    with path.open("r+b") as file, mmap(file.fileno(), 0) as longest:

        async def serve_measured(settings: Settings) -> int:
            Probe(longest).start()
            return await serve_unmeasured(settings)

        setattr(serve, "_serve", serve_measured)  # noqa: B010 - it is a function
        return serve.main()


if __name__ == "__main__":
    sys.exit(main())
