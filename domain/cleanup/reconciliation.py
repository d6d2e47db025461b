"""Holds the object store against the database: what is there for nothing, and what is missing.

It goes shard by shard, and holds the keys of one at a time.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from domain.ports.cleanup import ReferencedObjectRepository
from domain.ports.objects import ObjectStore, StoredObject

LEFT_ALONE: Final = timedelta(days=1)
"""Bytes come before what refers to them: only after this is it sure that nothing will."""
_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison found. `referred` counts objects that are there and referred to."""

    objects: int
    byte_size: int
    referred: int
    orphans: tuple[StoredObject, ...]
    """Objects that nothing refers to."""
    missing: tuple[str, ...]
    """Keys that something refers to, and that are not there; sorted. None of uploads: nobody knows
    whether their bytes come.
    """

    def old_orphans(
        self, now: datetime, *, left_alone: timedelta = LEFT_ALONE
    ) -> tuple[StoredObject, ...]:
        """Those that may be deleted."""
        return tuple(one for one in self.orphans if now - one.modified_at > left_alone)


@dataclass(frozen=True, slots=True)
class ObjectReconciler:
    objects: ObjectStore
    keys: ReferencedObjectRepository

    async def compare(self, shard: str) -> Comparison:
        """Look at one of `domain.images.SHARDS`, while others go on."""
        # The keys first: whatever is referred to then has its bytes already, so the listing that
        # follows has to show them.
        used = await self.keys.of_shard(shard)
        missing, orphans, count, byte_size = set(used.kept), [], 0, 0
        async for found in self.objects.keys(shard):
            count, byte_size = count + 1, byte_size + found.byte_size
            missing.discard(found.key)
            if found.key not in used.kept and found.key not in used.awaited:
                orphans.append(found)
        if missing:
            # What was deleted in the meantime is not missed.
            missing &= (await self.keys.of_shard(shard)).kept
        return Comparison(
            count, byte_size, count - len(orphans), tuple(orphans), tuple(sorted(missing))
        )

    async def delete(self, orphans: Iterable[StoredObject]) -> None:
        keys = [orphan.key for orphan in orphans]
        for start in range(0, len(keys), _BATCH):
            await self.objects.delete(keys[start : start + _BATCH])
