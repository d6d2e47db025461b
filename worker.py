"""`python -m worker`: runs outputs, as many of these as wanted beside each other.

It answers nobody: what there is to run it hears from NATS, and finds in the database. In
development it uses the mongod of the data folder, as the process that serves does.
"""

import asyncio
import importlib
import sys
from typing import Final

import structlog

from runtime.lifecycle import FAILED, STOPPED, CannotStart, Stop, database, enter, exit_code
from settings import Settings, settings_of_worker

NEEDS_NATS: Final = (
    "A worker needs DARKROOM_NATS_URL, the NATS server that tells it what to run; without one, "
    "`make run` runs outputs by itself."
)
CLOSE_SECONDS: Final = 10.0
"""What services get to close, after the grace."""

log = structlog.get_logger(__name__)


def main() -> int:
    """Work until told to stop; return the exit code."""
    return enter(_work)


async def _work(settings: Settings) -> int:
    if settings.nats_url is None:
        raise CannotStart(NEEDS_NATS)
    settings = settings_of_worker(settings)
    stop = Stop(grace_seconds=settings.shutdown_grace, close_seconds=CLOSE_SECONDS)
    with stop.at_signals():
        # The better part of a second, which the start of mongod hides.
        importing = asyncio.create_task(asyncio.to_thread(importlib.import_module, "bootstrap"))
        async with database(settings, starts_mongod=False) as (complete, mongod):
            await importing
            asked = asyncio.Event()
            working = asyncio.create_task(_work_until(asked, complete, stop), name="worker")
            await stop.watch(working, mongod, end=asked.set)
    ended = working.done() and not working.cancelled()
    return exit_code(stop, STOPPED if ended else FAILED)


async def _work_until(asked: asyncio.Event, settings: Settings, stop: Stop) -> None:
    from bootstrap import open_worker  # noqa: PLC0415 - the import has been under way

    async with open_worker(settings, grace_left=stop.grace_left):
        log.info("working", environment=settings.environment)
        await asked.wait()


if __name__ == "__main__":
    sys.exit(main())
