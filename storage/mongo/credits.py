"""Movements of credits, written in the transactions that cause them: the ledger and the account."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from domain.conflicts import Conflict
from domain.credits import Movement, MovementKind, reserved, settled
from domain.errors import ViewerBeingDeleted
from domain.ids import ViewerId, output_id_of
from domain.outputs import Output
from storage.mongo.collections import Document
from storage.mongo.database import Database
from storage.mongo.transaction import Abort, Transaction

NOT_ERASED: Final[Document] = {"erasure": {"$exists": False}}
"""Matches an account whose viewer is not being deleted."""
MOVED: Final = {"balance": "balance", "reserved": "reserved", "activeOutputs": "active_outputs"}
"""What a movement changes: the stored field, and the attribute of `Movement`."""


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
    await transaction.accounts.update_one({"_id": viewer_id}, increments(movements))


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
        {"_id": owner_id, "$expr": within_limits, **NOT_ERASED}, increments(movements)
    )
    if account is None:
        raise Abort(Conflict.LIMIT_REACHED)
    # Of two transactions at once, the later one is repeated, and sees what the other has reserved.
    # An operator may have set a limit below what is spent: what costs nothing still runs.
    spent = await find_spent_today(transaction, account) if needed else None
    if spent is not None and spent > account["dailyLimit"]:
        raise Abort(Conflict.LIMIT_REACHED)


async def find_spent_today(collections: Database | Transaction, account: Document) -> int | None:
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
        ledger_entry(viewer_id, movement) for movement in movements
    )
    transaction.movements.extend(movements)


def ledger_entry(viewer_id: ViewerId, movement: Movement) -> Document:
    return {
        "_id": f"{movement.cause} {movement.kind}",
        "ownerId": viewer_id,
        "kind": movement.kind.value,
        "balance": movement.balance,
        "reserved": movement.reserved,
        "activeOutputs": movement.active_outputs,
        "createdAt": datetime.now(UTC),
    }


def increments(movements: Sequence[Movement]) -> Document:
    sums = {
        stored: sum(getattr(movement, name) for movement in movements)
        for stored, name in MOVED.items()
    }
    return {"$inc": {**sums, "version": 1}}


def sum_of(kind: MovementKind, amount: Document | str) -> Document:
    return {"$sum": {"$cond": [{"$eq": ["$kind", kind.value]}, amount, 0]}}


RELEASED: Final[Document] = {
    # Of a charge, the balance falls by less than what is not reserved any more.
    "$sum": {"$cond": [{"$lt": ["$reserved", 0]}, {"$subtract": ["$balance", "$reserved"]}, 0]}
}

_SPENT: Final[list[Document]] = [
    {
        "$group": {
            # The cause: a line's id without the kind of its movement.
            "_id": {"$slice": [{"$split": ["$_id", " "]}, 2]},
            "reserved": sum_of(MovementKind.RESERVE, "$reserved"),
            "released": RELEASED,
        }
    },
    # What was reserved on another day has been counted there.
    {"$match": {"reserved": {"$gt": 0}}},
    {"$group": {"_id": None, "spent": {"$sum": {"$subtract": ["$reserved", "$released"]}}}},
]
"""Of lines of the ledger of one viewer."""
