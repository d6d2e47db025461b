"""Conversations as documents, and the transactions that begin, continue and delete them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from pymongo import ReturnDocument

from domain.changes import ClusterTime
from domain.conversations import Conversation
from domain.idempotency import IdempotencyKey
from domain.ids import ConversationId, ImageId, ViewerId, turn_id_range
from domain.images import Image
from domain.models import AspectRatio, Resolution
from domain.pages import Page, PageRequest, cut
from domain.turns import Turn, TurnPlan
from storage.mongo.accounts import move, releases, reserve
from storage.mongo.database import (
    Abort,
    Database,
    Document,
    Session,
    epoch_ms,
    moment_of,
    repository,
)
from storage.mongo.idempotency import use_key
from storage.mongo.images import image_document, read_image, used_images
from storage.mongo.output_updates import UNFINISHED_OUTPUT
from storage.mongo.pages import beyond, newest_first
from storage.mongo.prompts import use_prompt
from storage.mongo.text_search import with_words, words_added, words_to_find
from storage.mongo.turns import insert_turn


@repository
class MongoConversationRepository:
    """See `domain.ports.ConversationRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._conversations = database.conversations

    async def get_many(
        self, viewer_id: ViewerId, ids: Iterable[ConversationId]
    ) -> Mapping[ConversationId, Conversation]:
        query = {"_id": {"$in": list(set(ids))}, "ownerId": viewer_id}
        async with self._database.session() as session:
            found = await self._conversations.find(query, _SHOWN, session=session).to_list()
            moment = moment_of(session)
        return {document["_id"]: _read(document, moment) for document in found}

    async def page(
        self,
        viewer_id: ViewerId,
        request: PageRequest,
        *,
        source_image_id: ImageId | None,
        words: Sequence[str],
    ) -> Page[Conversation]:
        query: Document = {
            "ownerId": viewer_id,
            **with_words(words),
            **beyond(request, "updatedAt"),
        }
        if source_image_id is not None:
            query["sourceImage.id"] = source_image_id
        async with self._database.session() as session:
            found = (
                await self._conversations.find(query, _SHOWN, session=session)
                .sort(newest_first("updatedAt"))
                .limit(request.size + 1)
                .to_list()
            )
            moment = moment_of(session)
        return cut(
            request,
            [_read(document, moment) for document in found],
            lambda conversation: (epoch_ms(conversation.updated_at), conversation.id),
        )

    async def start(
        self,
        viewer_id: ViewerId,
        conversation_id: ConversationId,
        *,
        title: str,
        source_image: Image | None,
        plan: TurnPlan,
        max_active_outputs: int,
        key: IdempotencyKey | None,
    ) -> tuple[Conversation, Turn] | None:
        document: Document = {
            "_id": conversation_id,
            "ownerId": viewer_id,
            "title": title,
            "sourceImage": source_image and image_document(source_image),
            "aspectRatio": str(plan.aspect_ratio),
            "resolution": plan.resolution.value,
            "turnCount": 1,
            "words": words_to_find(title, plan.user_message),
            "version": 1,
        }
        images = {reference.image.id for reference in plan.references}
        if source_image is not None:
            images.add(source_image.id)

        async def work(session: Session) -> tuple[Document, Turn]:
            await self._hold_images(viewer_id, images, session)
            found = await self._conversations.find_one_and_update(
                {"_id": conversation_id, "version": {"$exists": False}},
                [
                    {
                        "$replaceWith": {
                            "$mergeObjects": [
                                {"$literal": document},
                                {"createdAt": "$$NOW", "updatedAt": "$$NOW"},
                            ]
                        }
                    }
                ],
                upsert=True,
                return_document=ReturnDocument.AFTER,
                session=session,
            )
            assert found is not None
            turn = await insert_turn(
                self._database,
                session,
                owner_id=viewer_id,
                conversation_id=conversation_id,
                turn_index=0,
                plan=plan,
            )
            await use_key(self._database, session, viewer_id, key, turn_id=turn.id)
            await use_prompt(self._database, session, viewer_id, plan.user_message)
            slots = [output.slot for output in turn.outputs]
            await reserve(self._database, session, turn, slots, max_active_outputs)
            return found, turn

        return _as_of(await self._database.transact(work, account=viewer_id))

    async def append_turn(
        self,
        viewer_id: ViewerId,
        conversation: Conversation,
        plan: TurnPlan,
        *,
        max_active_outputs: int,
        key: IdempotencyKey | None,
    ) -> tuple[Conversation, Turn] | None:
        images = {reference.image.id for reference in plan.references}

        async def work(session: Session) -> tuple[Document, Turn]:
            found = await self._conversations.find_one_and_update(
                {
                    "_id": conversation.id,
                    "ownerId": viewer_id,
                    "turnCount": conversation.turn_count,
                },
                [
                    {
                        "$set": {
                            "turnCount": conversation.turn_count + 1,
                            "words": words_added(after=plan.user_message),
                            **_WRITTEN,
                        }
                    }
                ],
                return_document=ReturnDocument.AFTER,
                session=session,
            )
            if found is None:
                raise Abort
            await self._hold_images(viewer_id, images, session)
            turn = await insert_turn(
                self._database,
                session,
                owner_id=viewer_id,
                conversation_id=conversation.id,
                turn_index=conversation.turn_count,
                plan=plan,
            )
            await use_key(self._database, session, viewer_id, key, turn_id=turn.id)
            await use_prompt(self._database, session, viewer_id, plan.user_message)
            slots = [output.slot for output in turn.outputs]
            await reserve(self._database, session, turn, slots, max_active_outputs)
            return found, turn

        return _as_of(await self._database.transact(work, account=viewer_id))

    async def rename(
        self, viewer_id: ViewerId, conversation_id: ConversationId, title: str
    ) -> Conversation | None:
        async with self._database.session() as session:
            found = await self._conversations.find_one_and_update(
                {"_id": conversation_id, "ownerId": viewer_id},
                [
                    {
                        "$set": {
                            "title": {"$literal": title},
                            "words": words_added(before=title),
                            **_WRITTEN,
                        }
                    }
                ],
                return_document=ReturnDocument.AFTER,
                session=session,
            )
            return _read(found, moment_of(session)) if found else None

    async def delete(
        self, viewer_id: ViewerId, conversation_id: ConversationId
    ) -> Sequence[str] | None:
        low, high = turn_id_range(conversation_id)
        own_turns = {"_id": {"$gte": low, "$lt": high}, "ownerId": viewer_id}

        async def work(session: Session) -> list[str]:
            deleted = await self._conversations.delete_one(
                {"_id": conversation_id, "ownerId": viewer_id}, session=session
            )
            if deleted.deleted_count == 0:
                raise Abort
            turns = await self._database.turns.find(
                own_turns, {f"outputs.{name}": 1 for name in _ENDING}, session=session
            ).to_list()
            outputs = [output for turn in turns for output in turn["outputs"]]
            at_work = [
                movement
                for turn in turns
                for movement in releases(
                    turn["_id"],
                    [one for one in turn["outputs"] if one["status"] in UNFINISHED_OUTPUT],
                )
            ]
            images = [read_image(image) for output in outputs for image in output["images"]]
            previews = [output["preview"]["key"] for output in outputs if output["preview"]]
            kept = await self._kept(viewer_id, conversation_id, images, session)
            gone = [image for image in images if image.id not in kept]
            await self._database.images.delete_many(
                {"_id": {"$in": [image.id for image in gone]}, "ownerId": viewer_id},
                session=session,
            )
            await self._database.turns.delete_many(own_turns, session=session)
            await move(self._database, session, viewer_id, at_work)
            return [key for image in gone for key in image.keys] + previews

        done = await self._database.transact(work, account=viewer_id)
        return done[0] if done else None

    async def _kept(
        self,
        viewer_id: ViewerId,
        conversation_id: ConversationId,
        images: Sequence[Image],
        session: Session,
    ) -> set[ImageId]:
        """Those of the conversation's images that are favourites, or that another one uses."""
        image_ids = [image.id for image in images]
        favourites = await self._database.images.distinct(
            "_id",
            {"_id": {"$in": image_ids}, "ownerId": viewer_id, "favourite": True},
            session=session,
        )
        used = await used_images(
            self._database, session, viewer_id, image_ids, besides=conversation_id
        )
        return {*favourites, *used}

    async def _hold_images(
        self, viewer_id: ViewerId, image_ids: set[ImageId], session: Session
    ) -> None:
        """Write to the images: this transaction and one that deletes any cannot both win."""
        if not image_ids:
            return
        held = await self._database.images.update_many(
            {"_id": {"$in": list(image_ids)}, "ownerId": viewer_id},
            {"$inc": {"holds": 1}},
            session=session,
        )
        if held.matched_count != len(image_ids):
            raise Abort


def _read(document: Document, moment: ClusterTime) -> Conversation:
    source_image = document["sourceImage"]
    return Conversation(
        id=document["_id"],
        owner_id=document["ownerId"],
        title=document["title"],
        source_image=read_image(source_image) if source_image else None,
        aspect_ratio=AspectRatio.parse(document["aspectRatio"]),
        resolution=Resolution(document["resolution"]),
        turn_count=document["turnCount"],
        created_at=document["createdAt"],
        updated_at=document["updatedAt"],
        as_of=moment,
    )


def _as_of(
    written: tuple[tuple[Document, Turn], ClusterTime] | None,
) -> tuple[Conversation, Turn] | None:
    if written is None:
        return None
    (document, turn), moment = written
    return _read(document, moment), turn


_ENDING: Final = ("slot", "status", "attempt", "creditsReserved", "images", "preview")
"""What has to be known of outputs that go with their conversation."""
_SHOWN: Final = {"words": 0}
"""What is read of conversations: they are found by their words, which nobody is told."""
_WRITTEN: Final[Document] = {"version": {"$add": ["$version", 1]}, "updatedAt": "$$NOW"}
"""Set by every write that a client can see."""
