"""A JobQueue for one process: ids wait in memory, and run beside each other up to a limit.

Nothing is lost with it: what was waiting stands in the database, and the sweeper brings it again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Final

import structlog

from domain.errors import Overloaded
from domain.ids import OutputId

log = structlog.get_logger(__name__)

MAX_RUNNING: Final = 50
MAX_WAITING: Final = 10_000


class LocalJobQueue:
    """See `domain.ports.JobQueue`. An id waits once, and never runs twice at the same time."""

    def __init__(self, run: Callable[[OutputId], Awaitable[None]]) -> None:
        self._run = run
        self._waiting: dict[OutputId, None] = {}
        self._running: dict[OutputId, asyncio.Task[None]] = {}
        self._open = False

    def enqueue(self, output_ids: Iterable[OutputId]) -> None:
        for output_id in output_ids:
            if len(self._waiting) < MAX_WAITING:
                self._waiting[output_id] = None
        self._start_waiting()

    def recall(self, output_ids: Iterable[OutputId]) -> None:
        for output_id in output_ids:
            self._waiting.pop(output_id, None)
            task = self._running.get(output_id)
            if task is not None:
                task.cancel()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Run what is enqueued; at the end cancel what runs, so that it is given back at once."""
        self._open = True
        self._start_waiting()
        try:
            yield
        finally:
            self._open = False
            tasks = list(self._running.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start_waiting(self) -> None:
        while self._open and len(self._running) < MAX_RUNNING:
            # One that is asked for again while it runs waits until that run has ended.
            output_id = next((one for one in self._waiting if one not in self._running), None)
            if output_id is None:
                return
            del self._waiting[output_id]
            # A run belongs to no request: it begins with no context variables of anybody's.
            task = asyncio.create_task(
                self._run_one(output_id), name=f"run {output_id}", context=Context()
            )
            self._running[output_id] = task

    async def _run_one(self, output_id: OutputId) -> None:
        try:
            await self._run(output_id)
        except Overloaded:
            log.warning("output left for the sweeper", output_id=output_id)
        except Exception:
            log.exception("output broke", output_id=output_id)
        finally:
            del self._running[output_id]
            self._start_waiting()
