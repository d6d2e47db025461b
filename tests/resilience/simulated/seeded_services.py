"""The surroundings of services beside their ports: randomness, and a log with a listener."""

import asyncio
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager

from tests.resilience.simulated.world import Process, World


@contextmanager
def seeded_randomness(seed: float) -> Iterator[None]:
    """The services draw their pauses from `random` itself."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


@contextmanager
def logged_errors_as_violations(world: World) -> Iterator[None]:
    """What the services log as an error is an violation; what they warn of is in the trace."""
    log = logging.getLogger("domain")
    before = log.level, log.propagate, logging.root.manager.disable
    handler = _Listener(world)
    log.addHandler(handler)
    log.propagate = False
    logging.disable(logging.NOTSET)
    log.setLevel(logging.INFO if world.is_traced else logging.ERROR)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]
        logging.disable(before[2])


class _Listener(logging.Handler):
    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        process = asyncio._get_running_loop()
        if isinstance(process, Process) and not process.is_alive:
            return
        said = record.getMessage()
        output_id = getattr(record, "output_id", "")
        if record.levelno >= logging.ERROR:
            error = record.exc_info[1] if record.exc_info else None
            self._world.broken.append(f"logged: {said} {output_id}: {error!r}")
        if self._world.is_traced:
            outcome = getattr(record, "outcome", "")
            self._world.note("log", f"{said} {output_id} {outcome}")
