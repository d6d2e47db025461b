"""Prompts as documents: one for each text of an owner, written with the turns that use it."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from pymongo.errors import DuplicateKeyError

from domain.ids import PromptId, ViewerId, prompt_id_of
from domain.pages import Page, PageRequest
from domain.prompts import Prompt
from storage.mongo.collections import Document
from storage.mongo.database import Database, repository
from storage.mongo.pages import beyond, read_page
from storage.mongo.text_search import with_words, words_to_find
from storage.mongo.transaction import Contended, Transaction


@repository
class MongoPromptRepository:
    """See `domain.ports.prompts.PromptRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._prompts = database.prompts

    async def get_many(
        self, viewer_id: ViewerId, ids: Iterable[PromptId]
    ) -> Mapping[PromptId, Prompt]:
        query = {"_id": {"$in": list(set(ids))}, "ownerId": viewer_id}
        return {
            PromptId(document["_id"]): _read(document)
            async for document in self._prompts.find(query)
        }

    async def page(
        self,
        viewer_id: ViewerId,
        request: PageRequest,
        *,
        favourite: bool | None,
        words: Sequence[str],
    ) -> Page[Prompt]:
        query: Document = {
            "ownerId": viewer_id,
            **with_words(words),
            **beyond(request, "lastUsedAt"),
        }
        if favourite is not None:
            query["favourite"] = favourite
        cursor = self._prompts.find(query, {"words": 0})
        return await read_page(cursor, request, sorted_by="lastUsedAt", read=_read)

    async def set_favourite(
        self, viewer_id: ViewerId, ids: Collection[PromptId], favourite: bool
    ) -> Mapping[PromptId, Prompt]:
        query = {"_id": {"$in": list(ids)}, "ownerId": viewer_id}
        await self._prompts.update_many(query, {"$set": {"favourite": favourite}})
        return {
            PromptId(document["_id"]): _read(document)
            async for document in self._prompts.find(query)
        }

    async def delete(self, viewer_id: ViewerId, prompt_id: PromptId) -> bool:
        deleted = await self._prompts.delete_one({"_id": prompt_id, "ownerId": viewer_id})
        return deleted.deleted_count == 1


async def count_prompt_use(transaction: Transaction, viewer_id: ViewerId, *, text: str) -> None:
    """Count a use of the text as a prompt; the first use makes the prompt."""
    try:
        await transaction.prompts.update_one(
            {"_id": prompt_id_of(viewer_id, text), "ownerId": viewer_id},
            [
                {
                    "$set": {
                        "text": {"$literal": text},
                        "words": {"$literal": words_to_find(text)},
                        "uses": {"$add": [{"$ifNull": ["$uses", 0]}, 1]},
                        "favourite": {"$ifNull": ["$favourite", False]},
                        "lastUsedAt": {"$max": ["$lastUsedAt", "$$NOW"]},
                    }
                }
            ],
            upsert=True,
        )
    except DuplicateKeyError:
        raise Contended from None  # Another turn has just made the prompt.


def _read(document: Document) -> Prompt:
    return Prompt(
        id=document["_id"],
        text=document["text"],
        uses=document["uses"],
        favourite=document["favourite"],
        last_used_at=document["lastUsedAt"],
    )
