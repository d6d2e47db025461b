"""`python -m worker`: runs outputs; any number of workers may run at the same time.

NATS notifies it of outputs to run, and it polls the database for others. In development it uses the
mongod that `make run` shares in the data folder.
"""

import asyncio
import socket
import sys
from typing import Final

import structlog

from runtime import garbage_collection
from runtime.lifecycle import (
    FAILED,
    STOPPED,
    CannotStart,
    Stop,
    exit_code,
    provide_database,
    run_process,
)
from runtime.listening import listen_for_operators
from settings import Settings, settings_of_worker

NEEDS_NATS: Final = (
    "A worker needs DARKROOM_NATS_URL, the NATS server that notifies it of outputs to run; without "
    "one, `make run` runs outputs itself."
)
CLOSE_SECONDS: Final = 10.0
"""How long services get to close, after the grace period."""

log = structlog.get_logger(__name__)


def main() -> int:
    """Work until a signal; return the exit code."""
    return run_process(_work)


async def _work(settings: Settings) -> int:
    if settings.nats_url is None:
        raise CannotStart(NEEDS_NATS)
    settings = settings_of_worker(settings)
    stop = Stop(grace_seconds=settings.shutdown_grace, close_seconds=CLOSE_SECONDS)
    with stop.at_signals(), listen_for_operators(settings) as metrics_listener:
        # This takes most of a second: it runs while the database is looked for.
        importing = asyncio.create_task(
            asyncio.to_thread(garbage_collection.import_module, "bootstrap")
        )
        async with provide_database(settings, starts_mongod=False) as (complete, mongod):
            await importing
            stop_requested = asyncio.Event()
            working = asyncio.create_task(
                _work_until(stop_requested, complete, stop=stop, metrics_listener=metrics_listener),
                name="worker",
            )
            await stop.watch(working, mongod, end=stop_requested.set)
    ended = working.done() and not working.cancelled()
    return exit_code(stop, STOPPED if ended else FAILED)


async def _work_until(
    stop_requested: asyncio.Event,
    settings: Settings,
    *,
    stop: Stop,
    metrics_listener: socket.socket | None,
) -> None:
    from bootstrap import open_worker  # noqa: PLC0415 - imported in a thread

    async with open_worker(settings, grace_left=stop.grace_left, metrics_listener=metrics_listener):
        garbage_collection.freeze()
        log.info("working", environment=settings.environment)
        await stop_requested.wait()


if __name__ == "__main__":
    sys.exit(main())
