"""Proves that all accounts agree with the ledger and with the unfinished outputs."""

from typing import Final

from domain.credits import Discrepancy, Proof
from domain.ids import ViewerId
from storage.mongo.collections import SEARCHED_FIRST, UNFINISHED_PARENT, Document, over_all_parents
from storage.mongo.credits import MOVED
from storage.mongo.database import Database
from storage.mongo.output_rules import UNFINISHED_OUTPUT

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


async def prove_credits(database: Database) -> Proof:
    """Compare all accounts with the ledger and the outputs, as of one moment."""
    # A snapshot session reads everything as it was at one moment.
    async with database.client.start_session(snapshot=True) as session:
        accounts = {found["_id"]: found async for found in database.accounts.find(session=session)}
        sums = {
            found["_id"]: found
            async for found in await database.ledger.aggregate(
                [
                    {
                        "$group": {
                            "_id": "$ownerId",
                            "lines": {"$sum": 1},
                            **{name: {"$sum": f"${name}"} for name in MOVED},
                        }
                    }
                ],
                session=session,
            )
        }
        reserved = {
            found["_id"]: found
            async for found in await database.collection(SEARCHED_FIRST).aggregate(
                _HELD, session=session
            )
        }
    return _proof(accounts, sums, reserved)


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
            sums[viewer_id] = {name: renamed[name] + own.get(name, 0) for name in ("lines", *MOVED)}
    for viewer_id in sorted({*accounts, *sums, *reserved}):
        account = accounts.get(viewer_id, {})
        for name in MOVED:
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
