"""Branches: conversations that begin with another one's turns, and the deletion of single turns."""

from collections.abc import Sequence
from typing import Final

from domain.batches import in_batches
from domain.conflicts import Conflict
from domain.conversations import Conversation
from domain.idempotency import IdempotencyKey
from domain.ids import (
    ConversationId,
    ImageId,
    TurnId,
    ViewerId,
    conversation_of_turn,
    turn_id_of,
    turn_id_range,
)
from domain.outputs import UNFINISHED, OutputStatus
from domain.rules import derive_status, end_of
from domain.turns import Builder, KeptTurn, TurnStatus
from storage.mongo.collections import Document
from storage.mongo.conversations import (
    insert_conversation,
    last_turn_index,
    read_conversation,
)
from storage.mongo.credits import refuse_while_erased
from storage.mongo.database import Database, repository
from storage.mongo.idempotency import use_key
from storage.mongo.images import hold_images, read_image
from storage.mongo.kept_images import find_sharing_conversations
from storage.mongo.parents import delete_parents, owned_by
from storage.mongo.stored_turns import read_turn
from storage.mongo.text_search import words_to_find
from storage.mongo.transaction import Abort, Transaction

_AT_ONCE: Final = 100
"""Turns that the driver encodes or decodes in one piece, while nothing else runs."""


@repository
class MongoBranchRepository:
    """See `domain.ports.branches.BranchRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fork(
        self,
        viewer_id: ViewerId,
        turn_id: TurnId,
        new_id: ConversationId,
        *,
        title: str | None,
        max_turns: int,
        key: IdempotencyKey | None = None,
    ) -> Conversation | Conflict:
        old_id = conversation_of_turn(turn_id)
        first, _ = turn_id_range(old_id)

        async def work(transaction: Transaction) -> Document:
            await refuse_while_erased(transaction, viewer_id)
            old = await transaction.conversations.find_one({"_id": old_id, "ownerId": viewer_id})
            up_to = {"_id": {"$gte": first, "$lte": turn_id}, "ownerId": viewer_id}
            cursor = transaction.turns.find(up_to).sort("_id", 1).limit(max_turns + 1)
            turns = await cursor.batch_size(_AT_ONCE).to_list()
            if len(turns) > max_turns:
                raise Abort(Conflict.LIMIT_REACHED)
            if old is None or not turns or turns[-1]["_id"] != turn_id:
                raise Abort(Conflict.STALE)
            copies = [_copy(turn, new_id) for turn in turns]
            source = old["sourceImage"]
            source_ids: set[ImageId] = {source["id"]} if source else set()
            await hold_images(
                transaction, viewer_id, ids=source_ids.union(*map(_images_in, copies))
            )
            document = _fork_of(old, copies, title=title or old["title"])
            conversation = await insert_conversation(transaction, {"_id": new_id, **document})
            for some in in_batches(copies, _AT_ONCE):
                await transaction.turns.insert_many(some)
            await use_key(transaction, viewer_id, key=key, parent_id=copies[-1]["_id"])
            return conversation

        forked = await self._database.transact(work, account=viewer_id)
        if isinstance(forked, Conflict):
            return forked
        return read_conversation(forked.result, forked.cluster_time)

    async def delete_turn(
        self, viewer_id: ViewerId, turn_id: TurnId
    ) -> Sequence[str] | KeptTurn | None:
        conversation_id = conversation_of_turn(turn_id)

        async def work(transaction: Transaction) -> Sequence[str] | KeptTurn:
            turn = await transaction.turns.find_one({"_id": turn_id, "ownerId": viewer_id})
            if turn is None:
                raise Abort(Conflict.STALE)
            builders = await _find_builders(transaction, viewer_id, turn)
            if builders:
                return KeptTurn(builders)
            await _take_out(
                transaction,
                viewer_id,
                conversation_id=conversation_id,
                turn_index=turn["turnIndex"],
            )
            return await delete_parents(
                transaction,
                viewer_id,
                owned_by(viewer_id, turn_id),
                among=transaction.turns,
                besides=conversation_id,
                keep_images=False,
            )

        deleted = await self._database.transact(work, account=viewer_id)
        return None if isinstance(deleted, Conflict) else deleted.result


def _fork_of(old: Document, copies: Sequence[Document], *, title: str) -> Document:
    turn_count = copies[-1]["turnIndex"] + 1
    return {
        **{name: old[name] for name in ("ownerId", "sourceImage", "aspectRatio", "resolution")},
        "title": title,
        "turnCount": turn_count,
        "deletedTurns": turn_count - len(copies),
        "words": words_to_find(title, *(turn["userMessage"] for turn in copies)),
        "version": 1,
    }


async def _find_builders(
    transaction: Transaction, viewer_id: ViewerId, turn: Document
) -> list[Builder]:
    """Conversations and turns that use an image of this turn. A conversation that has the image in
    a turn of its own does not count.
    """
    conversation_id = conversation_of_turn(turn["_id"])
    images = [read_image(image) for output in turn["outputs"] for image in output["images"]]
    builders = await _find_waiting_for(transaction, viewer_id, turn)
    if not images:
        return builders
    wanted = {"$in": [image.id for image in images]}
    sharing = await find_sharing_conversations(
        transaction, viewer_id, besides=conversation_id, images=images
    )
    conversations = await transaction.conversations.find(
        {"ownerId": viewer_id, "sourceImage.id": wanted}, {"title": 1}
    ).to_list()
    shown = {"turnIndex": 1, "userMessage": 1}
    turns = {
        turn["_id"]: turn
        for name in ("references.image.id", "options.mask.id")
        async for turn in transaction.turns.find({"ownerId": viewer_id, name: wanted}, shown)
    }
    posts = await transaction.posts.find(
        {"ownerId": viewer_id, "references.image.id": wanted}, {"userMessage": 1}
    ).to_list()
    return [
        *builders,
        *(Builder(id=post["_id"], text=post["userMessage"], turn_index=None) for post in posts),
        *(
            Builder(id=conversation["_id"], text=conversation["title"], turn_index=None)
            for conversation in conversations
        ),
        *(
            Builder(id=turn["_id"], text=turn["userMessage"], turn_index=turn["turnIndex"])
            for turn in turns.values()
            if conversation_of_turn(turn["_id"]) not in sharing
        ),
    ]


async def _find_waiting_for(
    transaction: Transaction, viewer_id: ViewerId, turn: Document
) -> list[Builder]:
    """The turn after this one, if it waits for it."""
    _, high = turn_id_range(conversation_of_turn(turn["_id"]))
    later = {"_id": {"$gt": turn["_id"], "$lt": high}, "ownerId": viewer_id}
    shown = {"turnIndex": 1, "userMessage": 1, "status": 1}
    return [
        Builder(
            id=following["_id"],
            text=following["userMessage"],
            turn_index=following["turnIndex"],
            waits=True,
        )
        async for following in transaction.turns.find(later, shown).sort("_id", 1).limit(1)
        if following["status"] == TurnStatus.WAITING.value
    ]


async def _take_out(
    transaction: Transaction,
    viewer_id: ViewerId,
    *,
    conversation_id: ConversationId,
    turn_index: int,
) -> None:
    """Update the conversation for the deletion of a turn, which still exists. Its search words are
    those of the turns that stay.
    """
    own = {"_id": conversation_id, "ownerId": viewer_id}
    conversation = await transaction.conversations.find_one(own)
    assert conversation is not None, "It is deleted together with its turns."
    low, high = turn_id_range(conversation_id)
    others = {
        "_id": {"$gte": low, "$lt": high, "$ne": turn_id_of(conversation_id, turn_index)},
        "ownerId": viewer_id,
    }
    shown = {"turnIndex": 1, "userMessage": 1}
    remaining = await transaction.turns.find(others, shown).sort("_id", 1).to_list()
    words = words_to_find(conversation["title"], *(turn["userMessage"] for turn in remaining))
    changes: Document = {"words": words}
    if turn_index == last_turn_index(conversation):
        changes["lastTurnIndex"] = remaining[-1]["turnIndex"] if remaining else -1
    await transaction.conversations.update_one(
        own, {"$set": changes, "$inc": {"deletedTurns": 1, "version": 1}}
    )


def _copy(turn: Document, conversation_id: ConversationId) -> Document:
    """The turn as a copy in another conversation. It keeps its times: nobody follows that
    conversation yet.
    """
    outputs = [_copy_output(output, ended_at=turn["updatedAt"]) for output in turn["outputs"]]
    status = derive_status(OutputStatus(output["status"]) for output in outputs)
    if not outputs:  # It has never begun, and its copy never will.
        ended = turn["status"] != TurnStatus.WAITING.value
        status = TurnStatus(turn["status"]) if ended else TurnStatus.CANCELLED
    return {
        **{name: value for name, value in turn.items() if name != "waiting"},
        "_id": turn_id_of(conversation_id, turn["turnIndex"]),
        "outputs": outputs,
        "status": status.value,
        "completedAt": turn["completedAt"] or turn["updatedAt"],
        "copied": True,
    }


def _copy_output(output: Document, *, ended_at: object) -> Document:
    """A copy of the output, without what belongs to the original alone: runs, previews
    and credits.
    """
    status = OutputStatus(output["status"])
    if status in UNFINISHED:
        status = end_of(OutputStatus.CANCELLED, has_images=bool(output["images"]))
    return {
        **output,
        **_NOT_COPIED,
        "status": status.value,
        "completedAt": output["completedAt"] or ended_at,
    }


def _images_in(turn: Document) -> set[ImageId]:
    """All images that a turn shows: its references, and those that were made."""
    seen = read_turn(turn)
    given = (reference.image for reference in seen.references)
    made = (image for output in seen.outputs for image in output.images)
    mask = [seen.options.mask] if seen.options.mask else []
    return {image.id for image in (*given, *made, *mask)}


_NOT_COPIED: Final[Document] = {
    "progress": None,
    "queuePosition": None,
    "preview": None,
    "runs": [],
    "leaseUntil": None,
    "notBefore": None,
    "creditsReserved": 0,
    "creditsCharged": 0,
}
