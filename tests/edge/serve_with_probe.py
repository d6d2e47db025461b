"""`python -m serve` that measures its event loop: `python -m` this.

The longest rounds are in the file that DARKROOM_TEST_ROUND names: in seconds of the loop's own
processor time without what the garbage collector takes, and in seconds that passed.
"""

import asyncio
import gc
import os
import sys
from mmap import mmap
from pathlib import Path
from struct import calcsize, pack, pack_into, unpack, unpack_from
from time import monotonic, thread_time
from typing import Final, NamedTuple

import serve
from settings import Settings

EVERY_SECONDS: Final = 0.001
_LONGEST: Final = "dd"

serve_unmeasured = serve._serve


class Longest(NamedTuple):
    processor_seconds: float
    seconds: float


def prepare(file: Path) -> None:
    """Make the file in which the longest rounds will be."""
    file.write_bytes(bytes(calcsize(_LONGEST)))


def take_longest(file: Path) -> Longest:
    """The longest rounds since the last call."""
    longest = Longest(*unpack(_LONGEST, file.read_bytes()))
    with file.open("r+b") as written:
        written.write(pack(_LONGEST, 0.0, 0.0))
    return longest


class Probe:
    """A timer that comes round once in each round of the loop, unless several are very short."""

    def __init__(self, longest: mmap) -> None:
        self._longest = longest
        self._collected = self._collection_began = 0.0
        self._last = self._began = 0.0
        gc.callbacks.append(self._notice_collection)

    def start(self) -> None:
        self._last, self._began = thread_time() - self._collected, monotonic()
        asyncio.get_running_loop().call_later(EVERY_SECONDS, self._finish)

    def _finish(self) -> None:
        taken = thread_time() - self._collected - self._last
        passed = monotonic() - self._began - EVERY_SECONDS
        longest = Longest(*unpack_from(_LONGEST, self._longest))
        if taken > longest.processor_seconds or passed > longest.seconds:
            pack_into(
                _LONGEST,
                self._longest,
                0,
                *(max(taken, longest.processor_seconds), max(passed, longest.seconds)),
            )
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
