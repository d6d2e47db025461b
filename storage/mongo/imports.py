"""Writes what imports make, in transactions that conflict with the deletion of their job."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from typing import Final

from domain.albums import Album
from domain.batches import in_batches
from domain.conflicts import Conflict
from domain.conversations import Conversation
from domain.export_format import images_of
from domain.ids import ImageId
from domain.images import ImageRecord
from domain.jobs import Import, JobClaim, TakenBack
from domain.outputs import GenerationError, OutputStatus
from domain.parents import Parent
from domain.posts import Post
from domain.turns import Turn
from storage.mongo.albums import new_album, replace_images
from storage.mongo.collections import Document
from storage.mongo.conversations import imported_conversation
from storage.mongo.database import repository
from storage.mongo.failed_imports import delete_imported_batch
from storage.mongo.images import hold_images, record_document
from storage.mongo.jobs import (
    MongoJobRepository,
    common_fields,
    ending,
    held_by,
    read_error,
)
from storage.mongo.posts import imported_post
from storage.mongo.stored_outputs import error_document
from storage.mongo.transaction import Abort, SessionCollection, Transaction
from storage.mongo.turns import imported_turn

_AT_ONCE: Final = 100


@repository
class MongoImportRepository(MongoJobRepository[Import]):
    """See `domain.ports.jobs.ImportRepository`.

    All writes that belong to a claim conflict with the deletion of its job, the first thing that is
    deleted of a viewer.
    """

    _name = "imports"

    async def add_images(self, claim: JobClaim[Import], records: Sequence[ImageRecord]) -> bool:
        documents = [record_document(claim.job.owner_id, record) for record in records]
        return await self._add(
            claim, lambda transaction: transaction.images.insert_many(_marked(documents, claim))
        )

    async def add_turns(self, claim: JobClaim[Import], turns: Sequence[Turn]) -> bool:
        return await self._add_parents(
            claim, turns, collection="turns", documents=map(imported_turn, turns)
        )

    async def add_posts(self, claim: JobClaim[Import], posts: Sequence[Post]) -> bool:
        return await self._add_parents(
            claim, posts, collection="posts", documents=map(imported_post, posts)
        )

    async def add_album(
        self, claim: JobClaim[Import], album: Album, image_ids: Sequence[ImageId]
    ) -> bool:
        owner_id = claim.job.owner_id

        async def write(transaction: Transaction) -> None:
            document = new_album(owner_id, album, image_count=len(image_ids))
            await _replace(transaction.albums, claim, [document])
            await replace_images(transaction, owner_id, album.id, image_ids=image_ids)

        return await self._add(claim, write)

    async def give_up(self, claim: JobClaim[Import], error: GenerationError) -> bool:
        failure = {"$ifNull": ["$failure", {"$literal": error_document(error)}]}
        return await self._write(claim, [{"$set": {"progress": None, "failure": failure}}])

    async def take_back(self, claim: JobClaim[Import], *, limit: int) -> TakenBack | None:
        async def work(transaction: Transaction) -> TakenBack:
            await _touch(transaction, claim)
            keys, is_all = await delete_imported_batch(
                transaction, claim.job.owner_id, claim.job.id, limit=limit
            )
            left = {"$set": {"keysLeft": keys}}
            await transaction.imports.update_one(held_by(claim), left)
            return TakenBack(keys, is_all)

        done = await self._database.transact(work, account=claim.job.owner_id)
        return None if isinstance(done, Conflict) else done.result

    async def complete(
        self,
        claim: JobClaim[Import],
        conversations: Sequence[tuple[Conversation, str]],
        *,
        kept: timedelta,
    ) -> bool:
        async def work(transaction: Transaction) -> None:
            first_id = conversations[0][0].id if conversations else None
            done = await transaction.imports.update_one(
                held_by(claim), ending(OutputStatus.COMPLETED, kept=kept, conversationId=first_id)
            )
            if not done.matched_count:
                raise Abort(Conflict.STALE)
            sources = {one.source_image.id for one, _ in conversations if one.source_image}
            await hold_images(transaction, claim.job.owner_id, ids=sources)
            for batch in in_batches(conversations, _AT_ONCE):
                await transaction.conversations.insert_many(
                    imported_conversation(one, texts) for one, texts in batch
                )

        return not isinstance(await self._database.transact(work), Conflict)

    async def _add_parents(
        self,
        claim: JobClaim[Import],
        parents: Iterable[Parent],
        *,
        collection: str,
        documents: Iterable[Document],
    ) -> bool:
        """Write parents of one kind, as documents for this collection."""
        # An image may have been deleted from the gallery meanwhile: the next try writes it again.
        used = {image.id for parent in parents for image in images_of(parent)}
        written = list(documents)

        async def write(transaction: Transaction) -> None:
            await hold_images(transaction, claim.job.owner_id, ids=used)
            await _replace(transaction.collection(collection), claim, written)

        return await self._add(claim, write)

    async def _add(
        self, claim: JobClaim[Import], write: Callable[[Transaction], Awaitable[object]]
    ) -> bool:
        """Write in a transaction, unless the claim is lost. Return whether it was written."""

        async def work(transaction: Transaction) -> None:
            await _touch(transaction, claim)
            await write(transaction)

        return not isinstance(await self._database.transact(work), Conflict)

    def _to_document(self, job: Import) -> Document:
        return {"uploadId": job.upload_id, "key": job.key, "conversationId": None}

    def _read(self, document: Document) -> Import:
        return Import(
            id=document["_id"],
            upload_id=document["uploadId"],
            key=document["key"],
            conversation_id=document["conversationId"],
            failure=read_error(document["failure"]) if "failure" in document else None,
            **common_fields(document),
        )


async def _touch(transaction: Transaction, claim: JobClaim[Import]) -> None:
    touched = await transaction.imports.update_one(
        held_by(claim), {"$inc": {"writes": 1}, "$unset": {"keysLeft": 1}}
    )
    if not touched.matched_count:
        raise Abort(Conflict.STALE)


async def _replace(
    collection: SessionCollection, claim: JobClaim[Import], documents: Iterable[Document]
) -> None:
    """Insert the documents, in place of those of an earlier try."""
    marked = list(_marked(documents, claim))
    ids = [document["_id"] for document in marked]
    await collection.delete_many({"_id": {"$in": ids}, "ownerId": claim.job.owner_id})
    await collection.insert_many(marked)


def _marked(documents: Iterable[Document], claim: JobClaim[Import]) -> Iterable[Document]:
    """Mark the documents with their import, so that they are found if it fails."""
    return ({**document, "importId": claim.job.id} for document in documents)
