"""Idempotency keys that have been used: written in the transaction that has the effect."""

from datetime import UTC, datetime

from pymongo.errors import DuplicateKeyError

from domain.idempotency import IdempotencyKey, IdempotencyRecord
from domain.ids import TurnId, ViewerId
from storage.mongo.database import Abort, Database, Session, repository


@repository
class MongoIdempotencyRepository:
    """See `domain.ports.ReceiptRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._receipts = database.idempotency

    async def get(self, viewer_id: ViewerId, key: IdempotencyKey) -> IdempotencyRecord | None:
        found = await self._receipts.find_one({"_id": _id(viewer_id, key)})
        if found is None:
            return None
        return IdempotencyRecord(
            mutation=found["mutation"],
            fingerprint=found["fingerprint"],
            turn_id=found["turnId"],
            slot=found["slot"],
        )


async def use_key(
    database: Database,
    session: Session,
    viewer_id: ViewerId,
    key: IdempotencyKey | None,
    *,
    turn_id: TurnId,
    slot: int | None = None,
) -> None:
    """Write the receipt. A key that has been used meanwhile aborts the transaction."""
    if key is None:
        return
    try:
        await database.idempotency.insert_one(
            {
                "_id": _id(viewer_id, key),
                "ownerId": viewer_id,
                "mutation": key.mutation,
                "fingerprint": key.fingerprint,
                "turnId": turn_id,
                "slot": slot,
                "createdAt": datetime.now(UTC),
            },
            session=session,
        )
    except DuplicateKeyError:
        raise Abort from None


def _id(viewer_id: ViewerId, key: IdempotencyKey) -> str:
    return f"{viewer_id} {key.value}"
