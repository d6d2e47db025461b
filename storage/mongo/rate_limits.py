"""Buckets of rate limits: one document for each client. When it expires, the bucket is full again.

The id is a digest, so that neither a viewer nor an address can be read from it. The update that
takes from a bucket also refills it, by the database's clock. Only the primary acknowledges the
update: one that is lost in a failover gives a client a little more.
"""

from hashlib import sha256
from typing import Final

from pymongo import ReturnDocument, WriteConcern
from pymongo.errors import DuplicateKeyError

from domain.rate_limits import Allowance, Amount, Rate, Taken
from storage.mongo.collections import Document
from storage.mongo.database import Database, repository

_SPARE_SECONDS: Final = 60
"""How long a full bucket is kept."""


@repository
class MongoRateLimitRepository:
    """See `domain.ports.rate_limits.RateLimitRepository`."""

    def __init__(self, database: Database) -> None:
        self._buckets = database.buckets.with_options(write_concern=WriteConcern(1))
        self._database = database

    async def take(
        self, client: str, *, minimum: Amount, maximum: Amount, allowance: Allowance
    ) -> Taken:
        update = _taking(minimum, maximum, allowance)
        try:
            bucket = await self._update(client, update)
        except DuplicateKeyError:  # Another process has made it at the same time.
            bucket = await self._update(client, update)
        left = Amount(bucket["requests"], bucket["cost"])
        given = bucket["given"]
        return Taken(Amount(given["requests"], given["cost"]) if given else None, left)

    async def _update(self, client: str, update: list[Document]) -> Document:
        bucket = await self._buckets.find_one_and_update(
            {"_id": bucket_id(client)}, update, upsert=True, return_document=ReturnDocument.AFTER
        )
        assert bucket is not None, "It is made where there is none."
        return bucket


def bucket_id(client: str) -> str:
    return sha256(client.encode()).hexdigest()[:32]


def _taking(minimum: Amount, maximum: Amount, allowance: Allowance) -> list[Document]:
    seconds: Document = {
        # A clock that was set back, or a document that does not exist yet, adds nothing.
        "$max": [{"$divide": [{"$subtract": ["$$NOW", {"$ifNull": ["$at", "$$NOW"]}]}, 1000]}, 0]
    }
    rates = {"requests": allowance.requests, "cost": allowance.cost}
    full_after = max(rate.burst / rate.per_second for rate in rates.values()) + _SPARE_SECONDS
    given = {name: {"$min": [getattr(maximum, name), {"$floor": f"${name}"}]} for name in rates}
    is_enough = {"$and": [{"$gte": [f"${name}", getattr(minimum, name)]} for name in rates]}
    return [
        {"$set": {name: _filled(name, rate, seconds) for name, rate in rates.items()}},
        {
            "$set": {
                "at": "$$NOW",
                "expiresAt": {"$add": ["$$NOW", round(full_after * 1000)]},
                "given": {"$cond": [is_enough, given, None]},
            }
        },
        {
            "$set": {
                name: {"$subtract": [f"${name}", {"$ifNull": [f"$given.{name}", 0]}]}
                for name in rates
            }
        },
    ]


def _filled(name: str, rate: Rate, seconds: Document) -> Document:
    before = {"$ifNull": [f"${name}", rate.burst]}
    return {"$min": [rate.burst, {"$add": [before, {"$multiply": [seconds, rate.per_second]}]}]}
