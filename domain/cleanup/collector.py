"""Deletes orphaned objects, and has expired records deleted with their bytes (`expiry`).

Every process checks periodically; the database decides which one does a job. A job that fails is
retried at its next interval.

A mistake here deletes images. An orphaned object is deleted only if all of this is true: no record
refers to it; it is older than a day; no other database has an ownership mark in the store, and the
mark of this database is older than a day, so that others had the time to leave theirs; and the
shard has few orphans compared with the objects in use. Otherwise it is kept, and a warning is
logged.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final

from domain.background import run_in_background
from domain.cleanup.expiry import ExpiryCleaner
from domain.cleanup.reconciliation import MIN_ORPHAN_AGE, Comparison, ObjectReconciler
from domain.cleanup.store_ownership import StoreOwnership
from domain.errors import Overloaded, StoreUnavailable
from domain.images import SHARDS
from domain.ports.cleanup import PeriodicJob, PeriodicJobRepository
from domain.ports.objects import StoredObject

log = logging.getLogger(__name__)

_POLL_SECONDS: Final = 60.0
_MAX_JITTER: Final = 1.25
SHARD_EVERY: Final = timedelta(minutes=4)
"""With this interval, collecting all shards takes 22.4 hours."""
_MAX_COLLECTION_SECONDS: Final = 120.0
_ALWAYS_DELETABLE: Final = 20
"""The number of orphans in one shard that may be deleted, whatever else the shard contains."""
_MIN_REFERENCED_PER_ORPHAN: Final = 4
"""More orphans may be deleted only with at least this many objects in use for each of them."""


class OrphanCollector:
    def __init__(
        self,
        periodic_jobs: PeriodicJobRepository,
        expiry: ExpiryCleaner,
        reconciler: ObjectReconciler,
        *,
        shard_every: timedelta = SHARD_EVERY,
        min_age: timedelta = MIN_ORPHAN_AGE,
    ) -> None:
        self._periodic_jobs = periodic_jobs
        self._expiry = expiry
        self._reconciler = reconciler
        self._ownership = StoreOwnership(reconciler.objects, reconciler.keys)
        self._shard_every = shard_every
        self._min_age = min_age
        self._warned: set[str] = set()
        """Warnings that have been logged, and whose cause still exists."""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Collect periodically until the block ends."""
        async with run_in_background(self._collect_forever(), name="orphan collector"):
            yield

    async def tidy(self) -> None:
        """Do the jobs that are due, unless another process does them."""
        try:
            async with asyncio.timeout(_MAX_COLLECTION_SECONDS):
                await self._expiry.clean()
                await self._collect_shard()
        except StoreUnavailable:
            self._warn_once("orphaned objects kept: object store unavailable")
        except Overloaded:
            self._warn_once("orphaned objects kept: database unavailable")
        except TimeoutError:
            self._warn_once("orphaned objects kept: search timed out")
        else:
            for what in ("object store unavailable", "database unavailable", "search timed out"):
                self._warned.discard(f"orphaned objects kept: {what}")

    async def _collect_forever(self) -> None:
        while True:
            try:
                await self.tidy()
            except Exception:
                log.exception("orphan collection failed")
            await asyncio.sleep(_POLL_SECONDS * random.uniform(0.75, _MAX_JITTER))

    async def _collect_shard(self) -> None:
        periodic_job = await self._periodic_jobs.begin("shards", every=self._shard_every)
        if periodic_job is None or periodic_job.times == 0:
            return  # A new database deletes nothing.
        owned = await self._is_owned(periodic_job)
        shard = SHARDS[periodic_job.times % len(SHARDS)]
        found = await self._reconciler.compare(shard)
        if found.missing:
            log.error(
                "referenced objects missing", extra={"shard": shard, "count": len(found.missing)}
            )
        old = found.old_orphans(periodic_job.now, min_age=self._min_age)
        if old and owned and self._are_few(shard, old, found):
            await self._reconciler.delete(old)
            log.info(
                "orphaned objects deleted",
                extra={
                    "shard": shard,
                    "count": len(old),
                    "byte_size": sum(orphan.byte_size for orphan in old),
                },
            )

    async def _is_owned(self, periodic_job: PeriodicJob) -> bool:
        """Whether only this database uses the store, and others have had the time to
        leave a mark.
        """
        owners = await self._ownership.find_owners()
        if owners.ours_since is None:
            await self._ownership.mark()
        if owners.others:
            self._warn_once(_SHARED, others=list(owners.others))
            return False
        self._warned.discard(_SHARED)
        return owners.ours_since is not None and self._is_old(owners.ours_since, periodic_job.now)

    def _is_old(self, since: datetime, now: datetime) -> bool:
        return now - since > self._min_age

    def _are_few(self, shard: str, old: Sequence[StoredObject], found: Comparison) -> bool:
        if len(old) <= max(_ALWAYS_DELETABLE, found.referred // _MIN_REFERENCED_PER_ORPHAN):
            self._warned.discard(_MANY)
            return True
        self._warn_once(_MANY, shard=shard, count=len(old), referred=found.referred)
        return False

    def _warn_once(self, phrase: str, **facts: object) -> None:
        """Log a warning once, until its cause has disappeared."""
        if phrase not in self._warned:
            self._warned.add(phrase)
            log.warning(phrase, extra=facts)


_SHARED: Final = "orphaned objects kept: another database uses this store"
_MANY: Final = "orphaned objects kept: too many in one shard"
