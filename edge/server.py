"""uvicorn without its signal handlers: the process decides in which order things end."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import uvicorn

_DATE_SECONDS: Final = 1.0
"""How long answers have the same `Date`."""


class QuietServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._asked_to_end = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's handlers raise each signal again after serving.
        yield

    async def main_loop(self) -> None:
        # uvicorn's own looks ten times a second whether it has to end, which wakes an idle process.
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(_DATE_SECONDS):
                    await self._asked_to_end.wait()

    def end(self) -> None:
        """Stop serving. uvicorn closes WebSockets with 1012."""
        self.should_exit = True
        self._asked_to_end.set()
