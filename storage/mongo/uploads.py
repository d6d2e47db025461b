"""Uploads as documents, from the offer until nobody asks for them any more."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from domain.errors import UserError, UserErrorCode
from domain.ids import UploadId, ViewerId
from domain.images import ImageRecord
from domain.object_keys import OFFER_SECONDS
from domain.uploads import DeclaredFile, Upload
from storage.mongo.database import Abort, Database, Document, Session, repository
from storage.mongo.images import record_document

_OFFERED: Final = timedelta(seconds=OFFER_SECONDS)
_KEPT: Final = timedelta(hours=1)
"""For so long after its offer a file that came waits to be completed. A phone may have slept, and
clocks differ.
"""


_UNDECIDED: Final[Document] = {"imageId": None, "refusal": None}


@repository
class MongoUploadRepository:
    """See `domain.ports.UploadRepository`.

    `sweepAt` is there while the store may have bytes under `key`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._uploads = database.uploads

    async def open(self, viewer_id: ViewerId, uploads: Sequence[Upload], *, at_most: int) -> bool:
        now = datetime.now(UTC)
        is_open = {"ownerId": viewer_id, "createdAt": {"$gt": now - _OFFERED}, **_UNDECIDED}
        documents = [_document(viewer_id, upload) for upload in uploads]

        async def work(session: Session) -> bool:
            # What all of a viewer's meet at: of two at once, the second counts the first's as well.
            await self._uploads.update_one(
                {"_id": f"offered to {viewer_id}"},
                {"$set": {"createdAt": now}},
                upsert=True,
                session=session,
            )
            count = await self._uploads.count_documents(is_open, limit=at_most + 1, session=session)
            if count + len(documents) > at_most:
                raise Abort
            await self._uploads.insert_many(documents, session=session)
            return True

        return await self._database.transact(work, account=viewer_id) is not None

    async def get(self, viewer_id: ViewerId, upload_id: UploadId) -> Upload | None:
        found = await self._uploads.find_one({"_id": upload_id, "ownerId": viewer_id})
        return _read(found) if found else None

    async def complete(self, viewer_id: ViewerId, upload_id: UploadId, record: ImageRecord) -> bool:
        async def work(session: Session) -> None:
            completed = await self._uploads.update_one(
                {"_id": upload_id, "ownerId": viewer_id, **_UNDECIDED},
                {"$set": {"imageId": record.image.id}},
                session=session,
            )
            if not completed.modified_count:
                raise Abort
            await self._database.images.insert_one(
                record_document(viewer_id, record), session=session
            )

        return await self._database.transact(work) is not None

    async def refuse(self, viewer_id: ViewerId, upload_id: UploadId, refusal: UserError) -> None:
        await self._uploads.update_one(
            {"_id": upload_id, "ownerId": viewer_id, **_UNDECIDED},
            {"$set": {"refusal": {"code": refusal.code, "message": refusal.message}}},
        )

    async def over(self, *, limit: int) -> Mapping[UploadId, str]:
        found = self._uploads.find({"sweepAt": {"$lt": datetime.now(UTC)}}, {"key": 1})
        return {one["_id"]: one["key"] async for one in found.limit(limit)}

    async def forget_bytes(self, ids: Iterable[UploadId]) -> None:
        await self._uploads.update_many({"_id": {"$in": list(ids)}}, {"$unset": {"sweepAt": ""}})


def _document(owner_id: ViewerId, upload: Upload) -> Document:
    return {
        "_id": upload.id,
        "ownerId": owner_id,
        "key": upload.key,
        "contentType": upload.file.content_type,
        "byteSize": upload.file.byte_size,
        "sha256": upload.file.sha256,
        "filename": upload.filename,
        "imageId": upload.image_id,
        "refusal": None,
        "createdAt": upload.created_at,
        "sweepAt": upload.created_at + _OFFERED + _KEPT,
    }


def _read(document: Document) -> Upload:
    refusal = document["refusal"]
    return Upload(
        id=document["_id"],
        key=document["key"],
        file=DeclaredFile(
            content_type=document["contentType"],
            byte_size=document["byteSize"],
            sha256=document["sha256"],
        ),
        filename=document["filename"],
        created_at=document["createdAt"],
        image_id=document["imageId"],
        refusal=UserError(UserErrorCode(refusal["code"]), refusal["message"]) if refusal else None,
    )
