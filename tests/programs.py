"""Processes that tests and scripts start: what they inherit, and how they are ended."""

import asyncio
import os
import signal
from contextlib import suppress
from typing import Protocol


class Ending(Protocol):
    """A process that can be ended."""

    @property
    def returncode(self) -> int | None: ...

    def send_signal(self, number: signal.Signals, /) -> None: ...

    def kill(self) -> None: ...

    async def wait(self) -> int: ...


def environment_without_settings() -> dict[str, str]:
    """The environment of this process, without Darkroom's settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}


async def end_process(
    process: Ending, number: signal.Signals = signal.SIGTERM, *, seconds: float
) -> int:
    """Send a signal, and kill a process that has not ended after this time. Return its code."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.send_signal(number)
    try:
        return await asyncio.wait_for(process.wait(), seconds)
    except TimeoutError:
        process.kill()
        return await process.wait()
