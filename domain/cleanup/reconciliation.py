"""Compares the object store with the database: finds orphaned and missing objects.

It works shard by shard, and holds the keys of one shard in memory at a time.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from domain.batches import in_batches
from domain.ports.cleanup import ReferencedObjectRepository
from domain.ports.objects import ObjectStore, StoredObject

MIN_ORPHAN_AGE: Final = timedelta(days=1)
"""Objects are written before the records that refer to them. No record will refer to an older
object.
"""
_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a comparison. `referred` counts existing objects that a record refers to."""

    objects: int
    byte_size: int
    referred: int
    orphans: tuple[StoredObject, ...]
    """Objects that no record refers to."""
    missing: tuple[str, ...]
    """Sorted keys that a record refers to, and that do not exist. Keys of uploads are left out,
    since a client may never send the file.
    """

    def old_orphans(
        self, now: datetime, *, min_age: timedelta = MIN_ORPHAN_AGE
    ) -> tuple[StoredObject, ...]:
        """The orphans that may be deleted."""
        return tuple(orphan for orphan in self.orphans if now - orphan.modified_at > min_age)


@dataclass(frozen=True, slots=True)
class ObjectReconciler:
    objects: ObjectStore
    keys: ReferencedObjectRepository

    async def compare(self, shard: str) -> Comparison:
        """Compare one of `domain.images.SHARDS`. Other processes may write at the same time."""
        # Read the records first: each object that they refer to exists by then, so the listing that
        # follows has to contain it.
        used = await self.keys.read_shard(shard)
        missing, orphans, count, byte_size = set(used.kept), [], 0, 0
        async for found in self.objects.list_keys(shard):
            count, byte_size = count + 1, byte_size + found.byte_size
            missing.discard(found.key)
            if found.key not in used.kept and found.key not in used.awaited:
                orphans.append(found)
        if missing:
            # Ignore objects whose records were deleted in the meantime.
            missing &= (await self.keys.read_shard(shard)).kept
        return Comparison(
            count, byte_size, count - len(orphans), tuple(orphans), tuple(sorted(missing))
        )

    async def delete(self, orphans: Iterable[StoredObject]) -> None:
        keys = [orphan.key for orphan in orphans]
        for batch in in_batches(keys, _BATCH):
            await self.objects.delete(batch)
