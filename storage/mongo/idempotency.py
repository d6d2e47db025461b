"""Idempotency records, written in the transaction that has the effect."""

from datetime import UTC, datetime

from pymongo.errors import DuplicateKeyError

from domain.conflicts import Conflict
from domain.idempotency import IdempotencyKey, IdempotencyRecord
from domain.ids import ParentId, ViewerId
from storage.mongo.collections import Document
from storage.mongo.database import Database, repository
from storage.mongo.transaction import Abort, Transaction


@repository
class MongoIdempotencyRepository:
    """See `domain.ports.idempotency.IdempotencyRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._records = database.idempotency

    async def get(self, viewer_id: ViewerId, key: IdempotencyKey) -> IdempotencyRecord | None:
        document = await self._records.find_one(
            {"_id": _record_id(viewer_id, key), "ownerId": viewer_id}
        )
        if document is None:
            return None
        return IdempotencyRecord(
            mutation=document["mutation"],
            fingerprint=document["fingerprint"],
            parent_id=document["turnId"],
            slot=document["slot"],
        )


async def use_key(
    transaction: Transaction,
    viewer_id: ViewerId,
    *,
    key: IdempotencyKey | None,
    parent_id: ParentId,
    slot: int | None = None,
) -> None:
    """Store under the key, if there is one, what this transaction makes."""
    if key is None:
        return
    try:
        await transaction.idempotency.insert_one(
            {
                "_id": _record_id(viewer_id, key),
                "ownerId": viewer_id,
                "mutation": key.mutation,
                "fingerprint": key.fingerprint,
                "turnId": parent_id,
                "slot": slot,
                "createdAt": datetime.now(UTC),
            }
        )
    except DuplicateKeyError:
        raise Abort(Conflict.KEY_USED) from None


def records_of(viewer_id: ViewerId) -> Document:
    """Matches all records of a viewer: their ids begin with the viewer's, and are indexed."""
    return {"_id": {"$gte": f"{viewer_id} ", "$lt": f"{viewer_id}!"}, "ownerId": viewer_id}


def _record_id(viewer_id: ViewerId, key: IdempotencyKey) -> str:
    return f"{viewer_id} {key.value}"
