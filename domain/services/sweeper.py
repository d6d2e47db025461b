"""Takes up what was left: outputs that nobody started, gave back, or holds any more.

It only ever finds ids and hands them to the queue. Whether one may run is decided by the claim.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from domain.errors import Overloaded
from domain.ports import JobQueue, TurnRepository
from domain.services.runner import LEASE

log = logging.getLogger(__name__)

_EVERY_SECONDS: Final = 2.0
_STARTED_SOON: Final = timedelta(seconds=5)
"""The process that wrote an output starts it by itself; only after this do others step in."""
_BATCH: Final = 200


class Sweeper:
    def __init__(self, turns: TurnRepository, jobs: JobQueue, *, lease: timedelta = LEASE) -> None:
        self._turns = turns
        self._jobs = jobs
        self._lease_seconds = lease.total_seconds()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Sweep every now and then until the block ends."""
        sweeping = asyncio.create_task(self._sweep_forever(), name="sweeper")
        try:
            yield
        finally:
            sweeping.cancel()
            await asyncio.wait([sweeping])

    async def _sweep_forever(self) -> None:
        # While the database is away nobody can renew a lease, so those that run out meanwhile say
        # nothing. Only after one lease of unbroken contact does an expired one mean a dead worker.
        in_touch_since = asyncio.get_running_loop().time()
        swept_at = in_touch_since
        queued_for = timedelta(0)  # whatever waits at the start was left by somebody
        while True:
            now = asyncio.get_running_loop().time()
            if now - swept_at > self._lease_seconds:
                in_touch_since = now  # this process stood still, and may have missed an outage
            swept_at = now
            in_touch = asyncio.get_running_loop().time() - in_touch_since
            try:
                found = await self._turns.claimable(
                    queued_for=queued_for, expired=in_touch >= self._lease_seconds, limit=_BATCH
                )
            except Overloaded:
                in_touch_since = asyncio.get_running_loop().time()
            except Exception:
                log.exception("sweep failed")
            else:
                queued_for = _STARTED_SOON
                if found:
                    log.info("outputs taken up", extra={"count": len(found)})
                    self._jobs.enqueue(found)
            await asyncio.sleep(_EVERY_SECONDS * random.uniform(0.75, 1.25))
