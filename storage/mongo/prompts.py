"""Prompts as documents: one for each text of an owner, written with the turns that use it."""

from collections.abc import Iterable, Mapping, Sequence

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from domain.ids import PromptId, ViewerId, prompt_id_of
from domain.pages import Page, PageRequest, cut
from domain.prompts import Prompt
from storage.mongo.database import (
    Abort,
    Database,
    Document,
    Session,
    epoch_ms,
    repository,
)
from storage.mongo.pages import beyond, newest_first
from storage.mongo.text_search import with_words, words_to_find


@repository
class MongoPromptRepository:
    """See `domain.ports.PromptRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._prompts = database.prompts

    async def get_many(
        self, viewer_id: ViewerId, ids: Iterable[PromptId]
    ) -> Mapping[PromptId, Prompt]:
        query = {"_id": {"$in": list(set(ids))}, "ownerId": viewer_id}
        return {PromptId(found["_id"]): _read(found) async for found in self._prompts.find(query)}

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
        found = (
            await self._prompts.find(query, {"words": 0})
            .sort(newest_first("lastUsedAt"))
            .limit(request.size + 1)
            .to_list()
        )
        return cut(
            request,
            [_read(document) for document in found],
            lambda prompt: (epoch_ms(prompt.last_used_at), prompt.id),
        )

    async def set_favourite(
        self, viewer_id: ViewerId, prompt_id: PromptId, favourite: bool
    ) -> Prompt | None:
        found = await self._prompts.find_one_and_update(
            {"_id": prompt_id, "ownerId": viewer_id},
            {"$set": {"favourite": favourite}},
            return_document=ReturnDocument.AFTER,
        )
        return _read(found) if found else None


async def use_prompt(database: Database, session: Session, viewer_id: ViewerId, text: str) -> None:
    """Count a use inside the transaction that begins a turn. A twin that has just made the prompt
    aborts the transaction.
    """
    try:
        await database.prompts.update_one(
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
            session=session,
        )
    except DuplicateKeyError:
        raise Abort from None


def _read(document: Document) -> Prompt:
    return Prompt(
        id=document["_id"],
        text=document["text"],
        uses=document["uses"],
        favourite=document["favourite"],
        last_used_at=document["lastUsedAt"],
    )
