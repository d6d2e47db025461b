"""Deletes expired records with their bytes: files of uploads, ZIPs of exports, and deleted
conversations that can no longer be restored.

Their keys are known, so the precautions of orphan collection are not needed. Only the images of
deleted conversations are kept where another database uses the store: it may be a copy of this one,
in which they were restored.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from domain.cleanup.store_ownership import StoreOwnership
from domain.ports.cleanup import ExpiringRepository, PeriodicJobRepository

EVERY: Final = timedelta(seconds=45)
"""Shorter than the interval between two checks, so that each check of a single process finds it
due.
"""
_BATCH_SIZE: Final = 1000


class ExpiryCleaner:
    def __init__(
        self,
        periodic_jobs: PeriodicJobRepository,
        ownership: StoreOwnership,
        *,
        expiring: Mapping[str, ExpiringRepository],
        restorable: Mapping[str, ExpiringRepository],
        every: timedelta = EVERY,
    ) -> None:
        self._periodic_jobs = periodic_jobs
        self._ownership = ownership
        self._expiring = {**expiring, **restorable}
        self._restorable = restorable.keys()
        self._every = every

    async def clean(self) -> None:
        """Delete what has expired, unless another process does it."""
        for name, records in self._expiring.items():
            if await self._periodic_jobs.begin(name, every=self._every) is None:
                continue
            expired = await records.list_expired(limit=_BATCH_SIZE)
            if not expired or (name in self._restorable and await self._is_shared()):
                continue
            # Records are deleted after their bytes: an interrupted job runs again.
            await self._ownership.objects.delete([key for keys in expired.values() for key in keys])
            await records.forget(expired)

    async def _is_shared(self) -> bool:
        return bool((await self._ownership.find_owners()).others)
