"""Accounts as documents: opened, granted credits, limited by day, and shown."""

from collections.abc import Collection, Sequence
from typing import Final

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from domain.conflicts import Conflict
from domain.credits import MAX_BALANCE, Account, CreditsOfDay, MovementKind, Proof, granted
from domain.errors import Overloaded, ViewerBeingDeleted
from domain.ids import ViewerId
from storage.mongo.collections import Document
from storage.mongo.credits import RELEASED, find_spent_today, increments, ledger_entry, sum_of
from storage.mongo.credits_proof import prove_credits
from storage.mongo.database import Database, repository
from storage.mongo.transaction import Abort, Transaction

_START: Final = "start"


@repository
class MongoAccountRepository:
    """See `domain.ports.accounts.AccountRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, viewer_id: ViewerId, *, starting_credits: int) -> Account:
        found = await self._find(viewer_id)
        if found is None:
            created = await self._add(viewer_id, starting_credits, key=_START)
            if not isinstance(created, Conflict):
                return created
            found = await self._find(viewer_id)
        if found is None:
            raise Overloaded  # Another call has just made it, and a majority does not have it yet.
        return found

    async def find(self, viewer_id: ViewerId) -> Account | None:
        return await self._find(viewer_id)

    async def list_existing(self, viewer_ids: Collection[ViewerId]) -> Collection[ViewerId]:
        cursor = self._database.accounts.find({"_id": {"$in": list(viewer_ids)}}, {"_id": 1})
        return [document["_id"] async for document in cursor]

    async def _find(self, viewer_id: ViewerId) -> Account | None:
        document = await self._database.accounts.find_one({"_id": viewer_id})
        if document is not None and "erasure" in document:
            raise ViewerBeingDeleted
        if document is None:
            return None
        return read_account(document, spent_today=await find_spent_today(self._database, document))

    async def grant(self, viewer_id: ViewerId, credits: int, *, key: str) -> Account | Conflict:
        return await self._add(viewer_id, credits, key=f"by {key}")

    async def _add(self, viewer_id: ViewerId, credits: int, *, key: str) -> Account | Conflict:
        movement = granted(credits, key=f"{viewer_id} {key}")

        async def work(transaction: Transaction) -> Account:
            try:
                await transaction.ledger.insert_one(ledger_entry(viewer_id, movement))
            except DuplicateKeyError:
                raise Abort(Conflict.KEY_USED) from None
            transaction.movements.append(movement)
            account = await transaction.accounts.find_one_and_update(
                {"_id": viewer_id},
                increments([movement]),
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
            assert account is not None
            # Of two grants at once, the later one is repeated, and sees what the other has added.
            if account["balance"] > MAX_BALANCE:
                raise Abort(Conflict.LIMIT_REACHED)
            return read_account(account)

        added = await self._database.transact(work, account=viewer_id)
        return added if isinstance(added, Conflict) else added.result

    async def set_daily_limit(self, viewer_id: ViewerId, credits: int | None) -> bool:
        change = {"$unset" if credits is None else "$set": {"dailyLimit": credits or 0}}
        limited = await self._database.accounts.update_one({"_id": viewer_id}, change)
        return limited.matched_count > 0

    async def list_days(self, viewer_id: ViewerId, *, limit: int) -> Sequence[CreditsOfDay]:
        stages: list[Document] = [{"$match": {"ownerId": viewer_id}}, *_BY_DAY, {"$limit": limit}]
        return [
            CreditsOfDay(
                day=document["_id"].date(),
                granted=document["granted"],
                reserved=document["reserved"],
                charged=document["charged"],
                released=document["released"],
            )
            async for document in await self._database.ledger.aggregate(stages)
        ]

    async def prove(self) -> Proof:
        return await prove_credits(self._database)


def read_account(document: Document, *, spent_today: int | None = None) -> Account:
    return Account(
        viewer_id=document["_id"],
        balance=document["balance"],
        reserved=document["reserved"],
        active_outputs=document["activeOutputs"],
        daily_limit=document.get("dailyLimit"),
        spent_today=spent_today,
    )


_BY_DAY: Final[list[Document]] = [
    {
        "$group": {
            "_id": {"$dateTrunc": {"date": "$createdAt", "unit": "day"}},
            "granted": sum_of(MovementKind.GRANT, "$balance"),
            "reserved": sum_of(MovementKind.RESERVE, "$reserved"),
            "charged": sum_of(MovementKind.CAPTURE, {"$multiply": ["$balance", -1]}),
            "released": RELEASED,
        }
    },
    {"$sort": {"_id": -1}},
]
"""A viewer's ledger entries, summed up by day, the latest day first."""
