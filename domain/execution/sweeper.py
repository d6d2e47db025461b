"""Searches periodically for outputs that no worker holds: starts waiting and expired ones, and ends
overdue ones.

Every process may sweep at any time: whether an output may run is decided by its claim, and whether
it may be ended by the write that ends it.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from domain.background import cancel_all
from domain.errors import Overloaded
from domain.execution.dispatcher import Dispatcher
from domain.execution.leases import LEASE
from domain.ports.execution import ClaimRepository, ContactRepository
from domain.rules import (
    MAX_GAP_LEASES,
    MAX_QUEUED,
    expiry_means_death,
    was_suspended,
)

log = logging.getLogger(__name__)

_EVERY_SECONDS: Final = 2.0
_IDLE_EVERY_SECONDS: Final = 4.0
"""In a process that has run nothing for a while, or runs nothing: each sweep is three commands. A
contact must be noted again before `MAX_GAP_LEASES`.
"""
_JITTER: Final = 0.25
_IDLE_AFTER_SECONDS: Final = 30.0
"""Longer than a lease: what this process or one before it has left is found soon."""
_STARTED_SOON: Final = timedelta(seconds=1)
"""For this long after it was queued, an output is left to its hint."""
_BATCH: Final = 200


class Sweeper:
    """`dispatcher` is None in a process that runs no outputs: it only ends overdue ones."""

    def __init__(
        self,
        claims: ClaimRepository,
        dispatcher: Dispatcher | None,
        contacts: ContactRepository,
        *,
        lease: timedelta = LEASE,
        max_queued: timedelta = MAX_QUEUED,
    ) -> None:
        self._claims = claims
        self._dispatcher = dispatcher
        self._contacts = contacts
        self._lease_seconds = lease.total_seconds()
        self._longest_gap = lease * MAX_GAP_LEASES
        # With the jitter: shorter leases leave no time for longer pauses.
        longest_pause = self._longest_gap.total_seconds() / (1 + _JITTER)
        self._idle_seconds = min(_IDLE_EVERY_SECONDS, longest_pause)
        self._max_queued = max_queued

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Sweep every two seconds, or four while idle, until the block ends."""
        tasks = [asyncio.create_task(self._sweep_forever(), name="sweeper")]
        if self._dispatcher is not None:
            tasks.append(asyncio.create_task(self._dispatcher.fill(), name="filler"))
        try:
            yield
        finally:
            await cancel_all(tasks)

    async def _sweep_forever(self) -> None:
        started_at = asyncio.get_running_loop().time()
        in_touch_since = swept_at = started_at
        # The time may have been noted by other processes, or by this one before a restart. It does
        # not count once this process has failed to reach the database: it may then have leases of
        # its own to renew first.
        has_missed = False
        # After the start, no hints will come for outputs that were waiting before.
        min_queued = timedelta(0)
        while True:
            now = asyncio.get_running_loop().time()
            if was_suspended(now - swept_at, lease_seconds=self._lease_seconds):
                in_touch_since, has_missed = now, True
            try:
                noted = await self._contacts.note(longest_gap=self._longest_gap)
                own = now - in_touch_since
                in_touch = own if has_missed else max(own, noted.total_seconds())
                expired = expiry_means_death(in_touch, lease_seconds=self._lease_seconds)
                await self._sweep(min_queued, expired=expired)
            except Overloaded:
                in_touch_since, has_missed = asyncio.get_running_loop().time(), True
            except Exception:
                log.exception("sweep failed")
            else:
                min_queued = _STARTED_SOON
                swept_at = asyncio.get_running_loop().time()
            is_idle = self._dispatcher is None or (
                now - max(started_at, self._dispatcher.ran_at) > _IDLE_AFTER_SECONDS
            )
            seconds = self._idle_seconds if is_idle else _EVERY_SECONDS
            await asyncio.sleep(seconds * random.uniform(1 - _JITTER, 1 + _JITTER))

    async def _sweep(self, min_queued: timedelta, *, expired: bool) -> None:
        if expired:
            ended = await self._claims.end_overdue(max_queued=self._max_queued, limit=_BATCH)
            if ended:
                log.warning("outputs ended as overdue", extra={"count": len(ended)})
        if self._dispatcher is not None:
            await self._dispatcher.start_waiting(min_queued=min_queued, expired=expired)
