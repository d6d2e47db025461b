"""Permits: one small document for each run that a provider takes from all processes together.

There are as many as the highest limit that any process has had, and a process takes only those
below its own. None of them is written more often than runs begin and end on it.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Final

from pymongo import InsertOne
from pymongo.errors import BulkWriteError

from domain.claims import Permit
from domain.ids import OutputId
from storage.mongo.collections import Document
from storage.mongo.database import Database, repository
from storage.mongo.output_rules import from_now

_FREE: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Until when one is leased that has been given back."""
_RESERVED_AFTER_EXPIRY: Final = timedelta(seconds=10)
"""How long after its lease a permit is kept for the process that continues its output: longer than
a sweep.
"""
_DUPLICATE: Final = 11000


@repository
class MongoPermitRepository:
    """See `domain.ports.permits.PermitRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counts: dict[str, int] = {}
        """How many are known to be there, by provider."""

    async def take(
        self,
        provider: str,
        output_id: OutputId,
        attempt: int,
        *,
        at_most: int,
        lease: timedelta,
        expired: bool,
    ) -> Permit | None:
        if self._counts.get(provider, 0) < at_most:
            await self._create(provider, at_most)
        taken_as = token_hex(8)
        new_lease = {"takenAs": taken_as, "leaseUntil": from_now(lease)}
        document = await self._database.permits.find_one_and_update(
            {**_below(provider, at_most), **_is_free(expired=expired)},
            [{"$set": {"holder": f"{output_id}/{attempt}", **new_lease}}],
            projection={"_id": 1},
        )
        return Permit(document["_id"], provider, taken_as) if document is not None else None

    async def take_back(
        self,
        output_id: OutputId,
        attempt: int,
        *,
        limits: Mapping[str, int],
        lease: timedelta,
    ) -> Sequence[Permit]:
        taken_as = token_hex(8)
        own_permits = {
            "$or": [_below(provider, at_most) for provider, at_most in limits.items()],
            "holder": f"{output_id}/{attempt}",
            "leaseUntil": {"$gt": _FREE},
        }
        new_lease = {"takenAs": taken_as, "leaseUntil": from_now(lease)}
        updated = await self._database.permits.update_many(
            {**own_permits, **_has_expired(timedelta(0))}, [{"$set": new_lease}]
        )
        if not updated.modified_count:
            return ()
        cursor = self._database.permits.find(
            {"provider": {"$in": list(limits)}, "takenAs": taken_as}, {"provider": 1}
        )
        return [
            Permit(document["_id"], document["provider"], taken_as) async for document in cursor
        ]

    async def renew(self, permits: Collection[Permit], *, lease: timedelta) -> None:
        await self._database.permits.update_many(
            {
                "_id": {"$in": [permit.id for permit in permits]},
                "takenAs": {"$in": [permit.taken_as for permit in permits]},
            },
            [{"$set": {"leaseUntil": from_now(lease)}}],
        )

    async def give_back(self, permit: Permit, *, continues: bool) -> None:
        # A renewal that was sent before may come after this: it no longer finds the permit.
        await self._database.permits.update_one(
            {"_id": permit.id, "takenAs": permit.taken_as},
            [{"$set": {"leaseUntil": "$$NOW" if continues else _FREE, "takenAs": None}}],
        )

    async def is_free(self, provider: str, *, at_most: int) -> bool:
        query = {**_below(provider, at_most), **_is_free(expired=False)}
        return await self._database.permits.find_one(query, {"_id": 1}) is not None

    async def _create(self, provider: str, count: int) -> None:
        new = [
            InsertOne({"_id": f"{provider}/{i}", "provider": provider, "number": i, **_UNUSED})
            for i in range(count)
        ]
        try:
            await self._database.permits.bulk_write(new, ordered=False)
        except BulkWriteError as error:
            if any(failed["code"] != _DUPLICATE for failed in error.details["writeErrors"]):
                raise
        self._counts[provider] = count


_UNUSED: Final[Document] = {"holder": None, "takenAs": None, "leaseUntil": _FREE}


def _below(provider: str, limit: int) -> Document:
    return {"provider": provider, "number": {"$lt": limit}}


def _is_free(*, expired: bool) -> Document:
    given_back: Document = {"leaseUntil": _FREE}
    return {"$or": [given_back, _has_expired(_RESERVED_AFTER_EXPIRY)]} if expired else given_back


def _has_expired(since: timedelta) -> Document:
    return {"$expr": {"$lte": ["$leaseUntil", from_now(-since)]}}
