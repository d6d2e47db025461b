"""Documents of GraphQL that clients name by their digest.

Their ids bound their number: a document's id is the beginning of its digest, so that there are at
most 4,096, and a later document replaces an earlier one with the same id.
"""

from datetime import UTC, datetime
from typing import Final

from storage.mongo.database import Database, repository

_ID_LENGTH: Final = 3


@repository
class MongoDocumentRepository:
    """See `edge.persisted.DocumentStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, digest: str) -> str | None:
        document = await self._database.documents.find_one(
            {"_id": digest[:_ID_LENGTH], "digest": digest}
        )
        return document["text"] if document else None

    async def keep(self, digest: str, document: str) -> None:
        kept = {"digest": digest, "text": document, "createdAt": datetime.now(UTC)}
        position = {"_id": digest[:_ID_LENGTH]}
        await self._database.documents.replace_one(position, kept, upsert=True)
