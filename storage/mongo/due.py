"""Decides which process runs a periodic job next, by the database's clock.

The first process that asks for a job makes its document. Asking for one that is not due writes
nothing.
"""

import secrets
from datetime import timedelta
from typing import Final

from pymongo import ReturnDocument
from pymongo.asynchronous.collection import AsyncCollection

from storage.mongo.collections import Document
from storage.mongo.output_rules import from_now

_DUE: Final[Document] = {"$lte": ["$notBefore", "$$NOW"]}
"""Missing sorts before every date, so that a new one is due."""


async def begin_if_due(
    jobs: AsyncCollection[Document], name: str, *, every: timedelta
) -> Document | None:
    """Begin the job, which no other process may then begin for this long. None if another process
    runs it.
    """
    ours = secrets.token_hex(8)
    begun: Document = {
        "times": {"$add": [{"$ifNull": ["$times", -1]}, 1]},
        "begunBy": ours,
        "begunAt": "$$NOW",
        "notBefore": from_now(every),
    }
    changes = {field: {"$cond": [_DUE, value, f"${field}"]} for field, value in begun.items()}
    document = await jobs.find_one_and_update(
        {"_id": name}, [{"$set": changes}], upsert=True, return_document=ReturnDocument.AFTER
    )
    assert document is not None, "It is made where there is none."
    return document if document["begunBy"] == ours else None
