"""Viewers that have been here before."""

from collections.abc import Sequence
from datetime import UTC, datetime

from pymongo.errors import DuplicateKeyError

from domain.ids import ViewerId
from domain.images import ImageRecord
from storage.mongo.database import Abort, Database, Session, repository
from storage.mongo.images import record_document


@repository
class MongoViewerRepository:
    """See `domain.ports.ViewerRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def is_known(self, viewer_id: ViewerId) -> bool:
        return await self._database.viewers.find_one({"_id": viewer_id}, {"_id": 1}) is not None

    async def welcome(self, viewer_id: ViewerId, samples: Sequence[ImageRecord]) -> bool:
        async def work(session: Session) -> bool:
            try:
                await self._database.viewers.insert_one(
                    {"_id": viewer_id, "firstSeenAt": datetime.now(UTC)}, session=session
                )
            except DuplicateKeyError:
                raise Abort from None
            if samples:
                documents = [record_document(viewer_id, record) for record in samples]
                await self._database.images.insert_many(documents, session=session)
            return True

        return await self._database.transact(work) is not None
