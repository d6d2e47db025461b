"""Holds the object store against the database: what is there for nothing, and what is missing."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from domain.ports import ObjectStore, StoredObject, UsedKeyRepository

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
    """Keys that something refers to, and that are not there; sorted."""

    def old_orphans(self, now: datetime) -> tuple[StoredObject, ...]:
        """Those that may be deleted."""
        return tuple(one for one in self.orphans if now - one.modified_at > LEFT_ALONE)


@dataclass(frozen=True, slots=True)
class ObjectComparer:
    objects: ObjectStore
    keys: UsedKeyRepository

    async def compare(self) -> Comparison:
        """Look at everything, while others go on. All keys are held in memory at once."""
        # The keys first: whatever is referred to then has its bytes already, so the listing that
        # follows has to show them.
        in_use = {key async for key in self.keys.every()}
        missing, orphans, count, byte_size = set(in_use), [], 0, 0
        async for found in self.objects.keys():
            count, byte_size = count + 1, byte_size + found.byte_size
            missing.discard(found.key)
            if found.key not in in_use:
                orphans.append(found)
        if missing:
            # What was deleted in the meantime is not missed.
            missing &= {key async for key in self.keys.every()}
        return Comparison(
            count, byte_size, count - len(orphans), tuple(orphans), tuple(sorted(missing))
        )

    async def delete(self, orphans: Iterable[StoredObject]) -> None:
        keys = [orphan.key for orphan in orphans]
        for start in range(0, len(keys), _BATCH):
            await self.objects.delete(keys[start : start + _BATCH])
