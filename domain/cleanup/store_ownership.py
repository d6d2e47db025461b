"""Which databases use the object store: each of them leaves a mark there.

A mark is an object named after its database. An object that one database does not refer to may
belong to another one: in a shared store, no such object may be treated as an orphan.
"""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from domain.images import SHARDS
from domain.ports.cleanup import ReferencedObjectRepository
from domain.ports.objects import ObjectStore

_FOLDER: Final = "owners"
_SHARD: Final = SHARDS[0]
"""All marks are in one shard, so that a single listing finds them."""
_TEXT: Final = b"A database of Darkroom keeps its images here. See docs/operations.md.\n"


@dataclass(frozen=True, slots=True)
class Owners:
    """The databases that have left a mark."""

    ours_since: datetime | None
    """When this database has left its mark, by the store's clock; None if it has none."""
    others: tuple[str, ...]
    """The keys of other databases' marks."""


@dataclass(frozen=True, slots=True)
class StoreOwnership:
    objects: ObjectStore
    keys: ReferencedObjectRepository

    async def find_owners(self) -> Owners:
        own_mark = mark_key(await self.keys.find_owner())
        marks = {
            mark.key: mark.modified_at
            async for mark in self.objects.list_keys(_SHARD, folders=[_FOLDER])
        }
        return Owners(marks.pop(own_mark, None), tuple(sorted(marks)))

    async def mark(self) -> None:
        """Leave the mark of this database."""
        await self.objects.put(mark_key(await self.keys.find_owner()), _TEXT)


def mark_key(owner: str) -> str:
    """The key of a database's mark."""
    name = _SHARD + sha256(owner.encode()).hexdigest()[:38]
    return f"{_FOLDER}/{_SHARD}/{name}.txt"
