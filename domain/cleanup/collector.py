"""Deletes bytes that are there for nothing: of uploads that are over, and left-over ones.

Every process looks around, as often as it likes: what is to be done by one of them at a time is
decided by the database. What fails is left for the next time.

Whatever this does wrong can delete pictures. So left-over bytes are deleted only where all of this
holds: nothing refers to them, and they are older than a day; no other database has a mark in the
store, and ours has been there for a day, in which others could have left theirs; and they are few,
beside what is in use. Where it does not hold they stay, and an operator is told.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final

from domain.cleanup.reconciliation import LEFT_ALONE, Comparison, ObjectReconciler
from domain.cleanup.store_ownership import StoreOwnership
from domain.errors import Overloaded, StoreUnavailable
from domain.images import SHARDS
from domain.ports.cleanup import PeriodicJob, PeriodicJobRepository
from domain.ports.objects import StoredObject
from domain.ports.repositories import UploadRepository

log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 60.0
_LATEST: Final = 1.25
UPLOADS_EVERY: Final = timedelta(seconds=45)
"""Less than between two looks, so that each look of a process alone finds something to do."""
SHARD_EVERY: Final = timedelta(minutes=4)
"""With the time until somebody looks, all shards take 22.4 hours."""
_STEP_SECONDS: Final = 120.0
_UPLOADS_AT_ONCE: Final = 1000
_FEW: Final = 20
"""So many left-over objects of one shard are believed in, however little else there is."""
_OF: Final = 4
"""More only where they are at most one for so many in use."""


class OrphanCollector:
    def __init__(
        self,
        periodic_jobs: PeriodicJobRepository,
        uploads: UploadRepository,
        comparer: ObjectReconciler,
        *,
        uploads_every: timedelta = UPLOADS_EVERY,
        shard_every: timedelta = SHARD_EVERY,
        left_alone: timedelta = LEFT_ALONE,
    ) -> None:
        self._chores = periodic_jobs
        self._uploads = uploads
        self._comparer = comparer
        self._marker = StoreOwnership(comparer.objects, comparer.keys)
        self._uploads_every = uploads_every
        self._shard_every = shard_every
        self._left_alone = left_alone
        self._told: set[str] = set()
        """What has been complained of, and is not mended yet."""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Tidy up every now and then until the block ends."""
        task = asyncio.create_task(self._tidy_forever(), name="tidier")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def tidy(self) -> None:
        """Do what is due, if no other process does."""
        try:
            async with asyncio.timeout(_STEP_SECONDS):
                await self._delete_uploads()
                await self._compare_a_shard()
        except StoreUnavailable:
            self._complain("left-over bytes stay: object store away")
        except Overloaded:
            self._complain("left-over bytes stay: database away")
        except TimeoutError:
            self._complain("left-over bytes stay: looking for them takes too long")
        else:
            for what in ("object store away", "database away", "looking for them takes too long"):
                self._told.discard(f"left-over bytes stay: {what}")

    async def _tidy_forever(self) -> None:
        while True:
            try:
                await self.tidy()
            except Exception:
                log.exception("tidying failed")
            await asyncio.sleep(_LOOK_SECONDS * random.uniform(0.75, _LATEST))

    async def _delete_uploads(self) -> None:
        if await self._chores.begin("uploads", every=self._uploads_every) is None:
            return
        over = await self._uploads.over(limit=_UPLOADS_AT_ONCE)
        if over:
            # Forgotten only once they are gone: what is interrupted in between is done again.
            await self._comparer.objects.delete(list(over.values()))
            await self._uploads.forget_bytes(over)

    async def _compare_a_shard(self) -> None:
        periodic_job = await self._chores.begin("shards", every=self._shard_every)
        if periodic_job is None or periodic_job.times == 0:
            return  # a database that has just been made is left alone, and so is its store
        owned = await self._is_owned(periodic_job)
        shard = SHARDS[periodic_job.times % len(SHARDS)]
        found = await self._comparer.compare(shard)
        if found.missing:
            log.error("bytes missing", extra={"shard": shard, "count": len(found.missing)})
        old = found.old_orphans(periodic_job.now, left_alone=self._left_alone)
        if old and owned and self._are_few(shard, old, found):
            await self._comparer.delete(old)
            log.info(
                "left-over bytes deleted",
                extra={
                    "shard": shard,
                    "count": len(old),
                    "byte_size": sum(one.byte_size for one in old),
                },
            )

    async def _is_owned(self, periodic_job: PeriodicJob) -> bool:
        """Whether the store is ours alone, and others would have said so by now."""
        owners = await self._marker.owners()
        if owners.ours_since is None:
            await self._marker.mark()
        if owners.others:
            self._complain(_SHARED, others=list(owners.others))
            return False
        self._told.discard(_SHARED)
        return owners.ours_since is not None and self._is_old(owners.ours_since, periodic_job.now)

    def _is_old(self, since: datetime, now: datetime) -> bool:
        return now - since > self._left_alone

    def _are_few(self, shard: str, old: Sequence[StoredObject], found: Comparison) -> bool:
        if len(old) <= max(_FEW, found.referred // _OF):
            self._told.discard(_MANY)
            return True
        self._complain(_MANY, shard=shard, count=len(old), referred=found.referred)
        return False

    def _complain(self, phrase: str, **facts: object) -> None:
        """Tell it once, until it is mended."""
        if phrase not in self._told:
            self._told.add(phrase)
            log.warning(phrase, extra=facts)


_SHARED: Final = "left-over bytes stay: other databases have marks in the store"
_MANY: Final = "left-over bytes stay: too many of them, beside what is in use"
