"""Accounts and their ledger, written in the transactions that cause the movements."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Final

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from domain.conflicts import Conflict
from domain.credits import (
    MAX_BALANCE,
    Account,
    CreditsOfDay,
    Discrepancy,
    Movement,
    MovementKind,
    Proof,
    granted,
    reserved,
    settled,
)
from domain.errors import Overloaded, ViewerBeingDeleted
from domain.ids import ViewerId, output_id_of
from domain.outputs import Output
from storage.mongo.collections import SEARCHED_FIRST, UNFINISHED_PARENT, Document, over_all_parents
from storage.mongo.database import Database, repository
from storage.mongo.output_rules import UNFINISHED_OUTPUT
from storage.mongo.transaction import Abort, Transaction

_START: Final = "start"
NOT_ERASED: Final[Document] = {"erasure": {"$exists": False}}
"""Matches an account whose viewer is not being deleted."""
_FIELDS: Final = {"balance": "balance", "reserved": "reserved", "activeOutputs": "active_outputs"}
"""What is compared with the ledger: the stored field and the attribute of the domain."""


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
        return read_account(document, spent_today=await _find_spent_today(self._database, document))

    async def grant(self, viewer_id: ViewerId, credits: int, *, key: str) -> Account | Conflict:
        return await self._add(viewer_id, credits, key=f"by {key}")

    async def _add(self, viewer_id: ViewerId, credits: int, *, key: str) -> Account | Conflict:
        movement = granted(credits, key=f"{viewer_id} {key}")

        async def work(transaction: Transaction) -> Account:
            try:
                await transaction.ledger.insert_one(_ledger_entry(viewer_id, movement))
            except DuplicateKeyError:
                raise Abort(Conflict.KEY_USED) from None
            transaction.movements.append(movement)
            account = await transaction.accounts.find_one_and_update(
                {"_id": viewer_id},
                _increments([movement]),
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
        # A snapshot session reads everything as it was at one moment.
        async with self._database.client.start_session(snapshot=True) as session:
            accounts = {
                found["_id"]: found async for found in self._database.accounts.find(session=session)
            }
            sums = {
                found["_id"]: found
                async for found in await self._database.ledger.aggregate(
                    [
                        {
                            "$group": {
                                "_id": "$ownerId",
                                "lines": {"$sum": 1},
                                **{name: {"$sum": f"${name}"} for name in _FIELDS},
                            }
                        }
                    ],
                    session=session,
                )
            }
            reserved = {
                found["_id"]: found
                async for found in await self._database.collection(SEARCHED_FIRST).aggregate(
                    _HELD, session=session
                )
            }
        return _proof(accounts, sums, reserved)


async def move_credits(
    transaction: Transaction, viewer_id: ViewerId, *, movements: Sequence[Movement]
) -> None:
    """Write movements and change the account by them: the last writes of a transaction.

    All of a viewer's transactions write to the account. The later one does so, the shorter the
    others wait for it.
    """
    if not movements:
        return
    await write_ledger(transaction, viewer_id, movements)
    await transaction.accounts.update_one({"_id": viewer_id}, _increments(movements))


async def refuse_while_erased(transaction: Transaction, viewer_id: ViewerId) -> None:
    """Raise ViewerBeingDeleted. For writes that move no credits."""
    if await transaction.accounts.find_one({"_id": viewer_id, "erasure": {"$exists": True}}):
        raise ViewerBeingDeleted


async def touch_account(transaction: Transaction, viewer_id: ViewerId, name: str) -> None:
    """Note the time in the account, for what is counted but moves no credits: two of a viewer's
    transactions conflict here, so that the second one counts what the first has made.

    Raise ViewerBeingDeleted.
    """
    touched = await transaction.accounts.update_one(
        {"_id": viewer_id, **NOT_ERASED}, [{"$set": {name: "$$NOW"}}]
    )
    if not touched.matched_count:
        raise ViewerBeingDeleted


async def reserve_credits(
    transaction: Transaction, outputs: Sequence[Output], *, owner_id: ViewerId, max_active: int
) -> None:
    """Reserve the credits of outputs that have just been queued: the last write of a
    transaction.
    """
    movements = [reserved(output.id, output.attempt, output.credits_reserved) for output in outputs]
    await write_ledger(transaction, owner_id, movements)
    needed = sum(movement.reserved for movement in movements)
    within_limits = {
        "$and": [
            {"$gte": [{"$subtract": ["$balance", "$reserved"]}, needed]},
            {"$lte": ["$activeOutputs", max_active - len(movements)]},
        ]
    }
    account = await transaction.accounts.find_one_and_update(
        {"_id": owner_id, "$expr": within_limits, **NOT_ERASED}, _increments(movements)
    )
    if account is None:
        raise Abort(Conflict.LIMIT_REACHED)
    # Of two transactions at once, the later one is repeated, and sees what the other has reserved.
    # An operator may have set a limit below what is spent: what costs nothing still runs.
    spent = await _find_spent_today(transaction, account) if needed else None
    if spent is not None and spent > account["dailyLimit"]:
        raise Abort(Conflict.LIMIT_REACHED)


async def _find_spent_today(collections: Database | Transaction, account: Document) -> int | None:
    """What of the viewer's credits was reserved today and is not free again. None where there is
    no limit.
    """
    if "dailyLimit" not in account:
        return None
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    lines = {"ownerId": account["_id"], "createdAt": {"$gte": today}}
    found = await collections.ledger.aggregate([{"$match": lines}, *_SPENT])
    sums = await found.to_list()
    return int(sums[0]["spent"]) if sums else 0


def settlements(parent: Document, outputs: Sequence[Document]) -> list[Movement]:
    """The movements when these outputs of a parent end before they have delivered everything."""
    return [
        settled(
            output_id_of(parent["_id"], output["slot"]),
            output["attempt"],
            output["creditsReserved"],
            delivered=len(output["images"]),
            asked=parent["options"]["imagesPerModel"],
        )
        for output in outputs
    ]


async def write_ledger(
    transaction: Transaction, viewer_id: ViewerId, movements: Sequence[Movement]
) -> None:
    await transaction.ledger.insert_many(
        _ledger_entry(viewer_id, movement) for movement in movements
    )
    transaction.movements.extend(movements)


def _ledger_entry(viewer_id: ViewerId, movement: Movement) -> Document:
    return {
        "_id": f"{movement.cause} {movement.kind}",
        "ownerId": viewer_id,
        "kind": movement.kind.value,
        "balance": movement.balance,
        "reserved": movement.reserved,
        "activeOutputs": movement.active_outputs,
        "createdAt": datetime.now(UTC),
    }


def _increments(movements: Sequence[Movement]) -> Document:
    sums = {
        stored: sum(getattr(movement, name) for movement in movements)
        for stored, name in _FIELDS.items()
    }
    return {"$inc": {**sums, "version": 1}}


def read_account(document: Document, *, spent_today: int | None = None) -> Account:
    return Account(
        viewer_id=document["_id"],
        balance=document["balance"],
        reserved=document["reserved"],
        active_outputs=document["activeOutputs"],
        daily_limit=document.get("dailyLimit"),
        spent_today=spent_today,
    )


def _sum_of(kind: MovementKind, amount: Document | str) -> Document:
    return {"$sum": {"$cond": [{"$eq": ["$kind", kind.value]}, amount, 0]}}


_RELEASED: Final[Document] = {
    # Of a charge, the balance falls by less than what is not reserved any more.
    "$sum": {"$cond": [{"$lt": ["$reserved", 0]}, {"$subtract": ["$balance", "$reserved"]}, 0]}
}
_BY_DAY: Final[list[Document]] = [
    {
        "$group": {
            "_id": {"$dateTrunc": {"date": "$createdAt", "unit": "day"}},
            "granted": _sum_of(MovementKind.GRANT, "$balance"),
            "reserved": _sum_of(MovementKind.RESERVE, "$reserved"),
            "charged": _sum_of(MovementKind.CAPTURE, {"$multiply": ["$balance", -1]}),
            "released": _RELEASED,
        }
    },
    {"$sort": {"_id": -1}},
]
"""A viewer's ledger entries, summed up by day, the latest day first."""

_SPENT: Final[list[Document]] = [
    {
        "$group": {
            # The cause: a line's id without the kind of its movement.
            "_id": {"$slice": [{"$split": ["$_id", " "]}, 2]},
            "reserved": _sum_of(MovementKind.RESERVE, "$reserved"),
            "released": _RELEASED,
        }
    },
    # What was reserved on another day has been counted there.
    {"$match": {"reserved": {"$gt": 0}}},
    {"$group": {"_id": None, "spent": {"$sum": {"$subtract": ["$reserved", "$released"]}}}},
]
"""Of lines of the ledger of one viewer."""

_UNFINISHED: Final[list[Document]] = [
    {"$match": {"status": UNFINISHED_PARENT}},
    {"$unwind": "$outputs"},
    {"$match": {"outputs.status": {"$in": UNFINISHED_OUTPUT}}},
    {"$project": {"ownerId": 1, "outputs.creditsReserved": 1}},
]
_HELD: Final[list[Document]] = [
    *over_all_parents(_UNFINISHED),
    {
        "$group": {
            "_id": "$ownerId",
            "reserved": {"$sum": "$outputs.creditsReserved"},
            "activeOutputs": {"$sum": 1},
        }
    },
]
"""The reservations of unfinished outputs, by their owner."""


def _proof(
    accounts: dict[ViewerId, Document],
    sums: dict[ViewerId, Document],
    reserved: dict[ViewerId, Document],
) -> Proof:
    discrepancies: list[Discrepancy] = []
    # Of a viewer who is being deleted, some entries of the ledger have the new name already.
    for viewer_id, account in accounts.items():
        if "erasure" in account and account["erasure"]["name"] in sums:
            renamed, own = sums.pop(account["erasure"]["name"]), sums.get(viewer_id, {})
            sums[viewer_id] = {
                name: renamed[name] + own.get(name, 0) for name in ("lines", *_FIELDS)
            }
    for viewer_id in sorted({*accounts, *sums, *reserved}):
        account = accounts.get(viewer_id, {})
        for name in _FIELDS:
            sources = [("ledger", sums)]
            if name != "balance":
                sources.append(("outputs", reserved))
            for source, document in sources:
                ours = account.get(name, 0)
                theirs = document.get(viewer_id, {}).get(name, 0)
                if ours != theirs:
                    what = f"{name} and the {source}"
                    discrepancies.append(Discrepancy(viewer_id, what, ours, theirs))
        if account.get("balance", 0) < account.get("reserved", 0):
            what = "balance covers reserved"
            discrepancies.append(
                Discrepancy(viewer_id, what, account["balance"], account["reserved"])
            )
    return Proof(
        accounts=len(accounts),
        movements=sum(document["lines"] for document in sums.values()),
        balance=sum(account["balance"] for account in accounts.values()),
        reserved=sum(account["reserved"] for account in accounts.values()),
        active_outputs=sum(account["activeOutputs"] for account in accounts.values()),
        discrepancies=tuple(discrepancies),
    )
