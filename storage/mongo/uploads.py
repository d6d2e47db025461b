"""Uploads as documents, from their creation until they expire."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from domain.conflicts import Conflict
from domain.errors import UserError, UserErrorCode
from domain.ids import UploadId, ViewerId
from domain.images import ImageRecord
from domain.object_keys import UPLOAD_URL_SECONDS
from domain.uploads import DeclaredFile, Upload, UploadAbilities, UploadPurpose
from storage.mongo.collections import Document
from storage.mongo.credits import refuse_while_erased
from storage.mongo.database import Database, repository
from storage.mongo.images import record_document
from storage.mongo.transaction import Abort, Transaction

_URL_LIFETIME: Final = timedelta(seconds=UPLOAD_URL_SECONDS)
_KEPT: Final = timedelta(hours=1)
"""How long after its creation an uploaded file can still be completed. A phone may have slept, and
clocks differ.
"""

_UNDECIDED: Final[Document] = {"imageId": None, "refusal": None}


@repository
class MongoUploadRepository:
    """See `domain.ports.uploads.UploadRepository`.

    `sweepAt` is set while the store may have bytes under `key`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._uploads = database.uploads

    async def open(self, viewer_id: ViewerId, uploads: Sequence[Upload], *, at_most: int) -> bool:
        now = datetime.now(UTC)
        is_open = {
            "ownerId": viewer_id,
            "createdAt": {"$gt": now - _URL_LIFETIME},
            "sweepAt": {"$exists": True},
            **_UNDECIDED,
        }
        documents = [_document(viewer_id, upload) for upload in uploads]

        async def work(transaction: Transaction) -> None:
            await refuse_while_erased(transaction, viewer_id)
            # Two of a viewer's transactions conflict here, so that the second one counts what the
            # first has opened. This document is not an upload: it has no `sweepAt`.
            await transaction.uploads.update_one(
                {"_id": f"uploads of {viewer_id}", "ownerId": viewer_id},
                {"$set": {"createdAt": now}},
                upsert=True,
            )
            count = await transaction.uploads.count_documents(is_open, limit=at_most + 1)
            if count + len(documents) > at_most:
                raise Abort(Conflict.LIMIT_REACHED)
            await transaction.uploads.insert_many(documents)

        opened = await self._database.transact(work, account=viewer_id)
        return not isinstance(opened, Conflict)

    async def get(self, viewer_id: ViewerId, upload_id: UploadId) -> Upload | None:
        document = await self._uploads.find_one({"_id": upload_id, "ownerId": viewer_id})
        return _read(document) if document else None

    async def complete(self, viewer_id: ViewerId, upload_id: UploadId, record: ImageRecord) -> bool:
        async def work(transaction: Transaction) -> None:
            completed = await transaction.uploads.update_one(
                {"_id": upload_id, "ownerId": viewer_id, **_UNDECIDED},
                {"$set": {"imageId": record.image.id}},
            )
            if not completed.modified_count:
                raise Abort(Conflict.STALE)
            await transaction.images.insert_one(record_document(viewer_id, record))

        return not isinstance(await self._database.transact(work), Conflict)

    async def refuse(self, viewer_id: ViewerId, upload_id: UploadId, refusal: UserError) -> None:
        await self._uploads.update_one(
            {"_id": upload_id, "ownerId": viewer_id, **_UNDECIDED},
            {"$set": {"refusal": {"code": refusal.code, "message": refusal.message}}},
        )

    async def list_expired(self, *, limit: int) -> Mapping[str, Sequence[str]]:
        cursor = self._uploads.find({"sweepAt": {"$lt": datetime.now(UTC)}}, {"key": 1})
        return {document["_id"]: [document["key"]] async for document in cursor.limit(limit)}

    async def forget(self, ids: Iterable[str]) -> None:
        await self._uploads.update_many({"_id": {"$in": list(ids)}}, {"$unset": {"sweepAt": ""}})

    async def get_abilities(self, store: str) -> UploadAbilities | None:
        document = await self._database.stores.find_one({"_id": store})
        if document is None:
            return None
        return UploadAbilities(takes_forms=document["takesForms"], takes_once=document["takesOnce"])

    async def remember_abilities(self, store: str, abilities: UploadAbilities) -> None:
        known = {
            "takesForms": abilities.takes_forms,
            "takesOnce": abilities.takes_once,
            "foundAt": datetime.now(UTC),
        }
        await self._database.stores.update_one({"_id": store}, {"$set": known}, upsert=True)


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
        "purpose": upload.purpose.value,
        "createdAt": upload.created_at,
        "sweepAt": upload.created_at + _URL_LIFETIME + _KEPT,
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
        purpose=UploadPurpose(document.get("purpose", UploadPurpose.IMAGE)),
        image_id=document["imageId"],
        refusal=UserError(UserErrorCode(refusal["code"]), refusal["message"]) if refusal else None,
    )
