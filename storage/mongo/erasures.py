"""Erasures: deletes what a viewer owns, and keeps the mark of an unfinished erasure.

The mark is `erasure` in the account: `name`, which replaces the viewer in the ledger from then on,
and `leaseUntil`. All transactions that make something for a viewer write to the account or read it,
and do nothing while it has the mark. The mark is deleted last, with the account.
"""

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from domain.conflicts import Conflict
from domain.credits import forfeited
from domain.ids import (
    ConversationId,
    ExportId,
    ImageId,
    PostId,
    UploadId,
    ViewerId,
    new_erased_id,
)
from storage.mongo.accounts import read_account
from storage.mongo.collections import PARENTS, Document
from storage.mongo.credits import write_ledger
from storage.mongo.database import Database, repository
from storage.mongo.idempotency import records_of
from storage.mongo.images import image_keys
from storage.mongo.jobs import EXPORT_KEYS, export_keys
from storage.mongo.output_rules import from_now
from storage.mongo.transaction import Transaction

_OWNED: Final = (
    *("conversations", *PARENTS.values(), "images", "shares", "exports", "imports", "uploads"),
    *("trash", "prompts", "webhooks", "deliveries", "modelDays", "albums", "albumImages", "ledger"),
)
"""Collections whose documents have an `ownerId`, besides the idempotency records."""
_IS_UNFINISHED: Final[Document] = {"erasure.leaseUntil": {"$exists": True}}
_NEW_ACCOUNT: Final[Document] = {
    name: {"$ifNull": [f"${name}", 0]}
    for name in ("balance", "reserved", "activeOutputs", "version")
}


@repository
class MongoErasureRepository:
    """See `domain.ports.cleanup.ErasureRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, viewer_id: ViewerId, *, lease: timedelta) -> None:
        # The version is unchanged: listeners to the account need not read it again.
        mark = {
            "name": {"$ifNull": ["$erasure.name", new_erased_id()]},
            "leaseUntil": from_now(lease),
        }
        await self._database.accounts.update_one(
            {"_id": viewer_id}, [{"$set": {**_NEW_ACCOUNT, "erasure": mark}}], upsert=True
        )

    async def take_over(self, *, lease: timedelta) -> ViewerId | None:
        document = await self._database.accounts.find_one_and_update(
            {**_IS_UNFINISHED, "$expr": {"$lt": ["$erasure.leaseUntil", "$$NOW"]}},
            [{"$set": {"erasure.leaseUntil": from_now(lease)}}],
            {"_id": 1},
        )
        return ViewerId(document["_id"]) if document else None

    async def renew(self, viewer_id: ViewerId, *, lease: timedelta) -> None:
        await self._database.accounts.update_one(
            {"_id": viewer_id, **_IS_UNFINISHED},
            [{"$set": {"erasure.leaseUntil": from_now(lease)}}],
        )

    async def list_conversations(
        self, viewer_id: ViewerId, *, limit: int
    ) -> Sequence[ConversationId]:
        return await self._list_ids("conversations", viewer_id, limit=limit)

    async def delete_turns_left(self, viewer_id: ViewerId) -> None:
        await self._database.turns.delete_many({"ownerId": viewer_id})

    async def list_posts(self, viewer_id: ViewerId, *, limit: int) -> Sequence[PostId]:
        return await self._list_ids("posts", viewer_id, limit=limit)

    async def _list_ids(self, name: str, viewer_id: ViewerId, *, limit: int) -> list[Any]:
        cursor = self._database.collection(name).find({"ownerId": viewer_id}, {"_id": 1})
        return [document["_id"] async for document in cursor.limit(limit)]

    async def list_preview_keys(self, viewer_id: ViewerId) -> Sequence[str]:
        shown = {"ownerId": viewer_id, "outputs.preview.key": {"$exists": True}}
        return [
            output["preview"]["key"]
            for name in PARENTS.values()
            async for parent in self._database.collection(name).find(
                shown, {"outputs.preview.key": 1}
            )
            for output in parent["outputs"]
            if output.get("preview")
        ]

    async def list_uploads(
        self, viewer_id: ViewerId, *, limit: int
    ) -> Mapping[UploadId, Sequence[str]]:
        cursor = self._database.uploads.find({"ownerId": viewer_id}, {"key": 1}).limit(limit)
        # One of the documents is not an upload, and has no key.
        return {
            document["_id"]: [document["key"]] if "key" in document else []
            async for document in cursor
        }

    async def delete_uploads(self, viewer_id: ViewerId, ids: Collection[UploadId]) -> None:
        await self._database.uploads.delete_many(_among(viewer_id, ids))

    async def list_trash(self, viewer_id: ViewerId, *, limit: int) -> Mapping[str, Sequence[str]]:
        shown = {"key": 1, "renditionWidths": 1}
        cursor = self._database.trash.find({"ownerId": viewer_id}, shown).limit(limit)
        return {
            document["_id"]: image_keys(document) if "key" in document else ()
            async for document in cursor
        }

    async def delete_trash(self, viewer_id: ViewerId, ids: Collection[str]) -> None:
        await self._database.trash.delete_many(_among(viewer_id, ids))

    async def list_images(
        self, viewer_id: ViewerId, *, limit: int
    ) -> Mapping[ImageId, Sequence[str]]:
        shown = {"key": 1, "renditionWidths": 1}
        cursor = self._database.images.find({"ownerId": viewer_id}, shown).limit(limit)
        return {document["_id"]: image_keys(document) async for document in cursor}

    async def delete_images(self, viewer_id: ViewerId, ids: Collection[ImageId]) -> None:
        await self._database.images.delete_many(_among(viewer_id, ids))

    async def list_exports(self, viewer_id: ViewerId) -> Mapping[ExportId, Sequence[str]]:
        cursor = self._database.exports.find({"ownerId": viewer_id}, EXPORT_KEYS)
        return {document["_id"]: export_keys(document) async for document in cursor}

    async def delete_imports(self, viewer_id: ViewerId) -> None:
        await self._database.imports.delete_many({"ownerId": viewer_id})

    async def delete_exports(self, viewer_id: ViewerId, ids: Collection[ExportId]) -> None:
        await self._database.exports.delete_many(_among(viewer_id, ids))

    async def delete_small_records(self, viewer_id: ViewerId) -> None:
        await self._database.prompts.delete_many({"ownerId": viewer_id})
        await self._database.model_days.delete_many({"ownerId": viewer_id})
        await self._database.albums.delete_many({"ownerId": viewer_id})
        await self._database.album_images.delete_many({"ownerId": viewer_id})
        await self._database.idempotency.delete_many(records_of(viewer_id))

    async def delete_webhooks(self, viewer_id: ViewerId) -> None:
        # In this order nothing is added to the deliveries any more.
        await self._database.webhooks.delete_many({"ownerId": viewer_id})
        await self._database.deliveries.delete_many({"ownerId": viewer_id})

    async def anonymise_ledger(self, viewer_id: ViewerId, *, limit: int) -> bool:
        async def work(transaction: Transaction) -> bool:
            account = await transaction.accounts.find_one({"_id": viewer_id, **_IS_UNFINISHED})
            lines = (
                await transaction.ledger.find({"ownerId": viewer_id}).limit(limit).to_list()
                if account
                else []
            )
            if account is None or not lines:
                return False
            name = account["erasure"]["name"]
            await transaction.ledger.insert_many(
                # The old id contains the id of the viewer, or of an output of theirs.
                {**line, "_id": _new_line_id(name), "ownerId": name}
                for line in lines
            )
            await transaction.ledger.delete_many(_among(viewer_id, [line["_id"] for line in lines]))
            return True

        done = await self._database.transact(work, account=viewer_id)
        return not isinstance(done, Conflict) and done.result

    async def finish(self, viewer_id: ViewerId) -> bool:
        owned = {"ownerId": viewer_id}

        async def work(transaction: Transaction) -> bool:
            for name in _OWNED:
                if await transaction.collection(name).find_one(owned) is not None:
                    return False
            if await transaction.idempotency.find_one(records_of(viewer_id)) is not None:
                return False
            # A block outlives the deletion: otherwise the same person could come back.
            await transaction.viewers.delete_one(
                {"_id": viewer_id, "blockedAt": {"$exists": False}}
            )
            await transaction.viewers.update_one({"_id": viewer_id}, {"$unset": {"firstSeenAt": 1}})
            # Last: all of a viewer's transactions write to the account.
            account = await transaction.accounts.find_one({"_id": viewer_id, **_IS_UNFINISHED})
            if account is not None:
                name = account["erasure"]["name"]
                rest = forfeited(read_account(account), key=_new_line_id(name))
                if rest.balance or rest.reserved or rest.active_outputs:
                    await write_ledger(transaction, ViewerId(name), [rest])
                await transaction.accounts.delete_one({"_id": viewer_id, **_IS_UNFINISHED})
            return True

        done = await self._database.transact(work, account=viewer_id)
        return not isinstance(done, Conflict) and done.result


def _among(viewer_id: ViewerId, ids: Iterable[str]) -> Document:
    return {"_id": {"$in": list(ids)}, "ownerId": viewer_id}


def _new_line_id(name: str) -> str:
    return f"{name} {secrets.token_hex(12)}"
