"""Writes to parents of any kind and their outputs, as parts of transactions."""

from collections.abc import Collection, Sequence
from typing import Final

from pymongo import ReturnDocument

from domain.conflicts import Conflict
from domain.ids import ConversationId, ParentId, PostId, ViewerId, as_post_id
from domain.images import Image
from domain.outputs import CAPTION_SLOT, Output
from domain.parents import Parent
from domain.posts import as_post
from storage.mongo.collections import Document
from storage.mongo.credits import move_credits, reserve_credits, settlements
from storage.mongo.events import announce_ends
from storage.mongo.images import delete_image_records, read_image
from storage.mongo.kept_images import find_kept_images
from storage.mongo.model_stats import count_asked, count_ends
from storage.mongo.output_rules import CAPTION_IS_AWAITED, UNFINISHED_OUTPUT, is_slot
from storage.mongo.output_updates import versioned, with_derived_fields
from storage.mongo.stored_posts import StoredPost
from storage.mongo.stored_turns import read_turn
from storage.mongo.traces import trace_field
from storage.mongo.transaction import Abort, SessionCollection, Transaction

_ENDING: Final[Document] = {
    **dict.fromkeys(
        (
            *("outputs.slot", "outputs.status", "outputs.attempt", "outputs.creditsReserved"),
            *("outputs.waits", "outputs.images", "outputs.model", "options.imagesPerModel"),
        ),
        1,
    )
}
"""The fields of parents that are read when their outputs are ended."""


async def queue_again(
    transaction: Transaction,
    viewer_id: ViewerId,
    queued: Sequence[tuple[Output, Document]],
    *,
    max_active: int,
    more: Document | None = None,
) -> Parent:
    """Queue ended outputs of one parent as their next attempts, with the changes `more` of the
    parent, and reserve their credits: the last writes of a transaction.

    Abort it where one of them has changed since it was read.
    """
    stages, unchanged = [], []
    for output, document in queued:
        facts = {"slot": output.slot, "attempt": output.attempt, "status": output.status.value}
        unchanged.append({"outputs": {"$elemMatch": facts}})
        stages.append(versioned(is_slot(output.slot), _next_attempt(output, document)))
    (parent_id,) = {output.parent_id for output, _ in queued}
    found = await transaction.of_parent(parent_id).find_one_and_update(
        {**owned_by(viewer_id, parent_id), "$and": unchanged},
        with_derived_fields(*stages, **(more or {})),
        return_document=ReturnDocument.AFTER,
    )
    parent = read_parent(found) if found else None
    retries = [parent.output(output.slot) for output, _ in queued] if parent else []
    if parent is None or any(
        retried is None or _never_runs(retried, parent) for retried in retries
    ):
        raise Abort(Conflict.STALE)
    await count_asked(
        transaction, viewer_id, parent, slots=[retried.slot for retried in retries if retried]
    )
    await reserve_credits(
        transaction,
        [retried for retried in retries if retried],
        owner_id=viewer_id,
        max_active=max_active,
    )
    return parent


def _next_attempt(output: Output, document: Document) -> Document:
    """The changes that queue an ended output as its next attempt, `document` included."""
    changes: Document = {
        name: {"$literal": value}
        for name, value in {**document, **trace_field()}.items()
        if name != "creditsCharged"  # A caption that is rewritten has been paid for.
    }
    return changes | {
        "attempt": output.attempt + 1,
        "fence": {"$add": ["$$output.fence", 1]},
        "queuedAt": "$$NOW",
        "waits": CAPTION_IS_AWAITED if output.slot != CAPTION_SLOT else False,
    }


async def end_outputs(
    transaction: Transaction, query: Document, *, slots: Collection[int], update: Sequence[Document]
) -> list[Document]:
    """End outputs of one parent that have not delivered everything: charge for what they have
    delivered, and release the rest, also for outputs that end with them. These are the last writes
    of a transaction.

    Abort it where no parent matches the query, which names it and its owner. Return all that have
    ended, as they were before.
    """
    parent_id, owner_id = query["_id"], query["ownerId"]
    before = await transaction.of_parent(parent_id).find_one_and_update(
        query, update, projection=_ENDING
    )
    if before is None:
        raise Abort(Conflict.STALE)
    unfinished = [output for output in before["outputs"] if output["status"] in UNFINISHED_OUTPUT]
    ended = [output for output in unfinished if output["slot"] in slots]
    if any(output["slot"] == CAPTION_SLOT for output in ended):
        ended += [output for output in unfinished if output.get("waits") and output not in ended]
    slots = [output["slot"] for output in ended]
    await count_ends(transaction, owner_id, parent_id, slots=slots)
    await announce_ends(transaction, owner_id, parent_id, slots=slots)
    await move_credits(transaction, owner_id, movements=settlements(before, ended))
    return ended


async def delete_parents(
    transaction: Transaction,
    viewer_id: ViewerId,
    query: Document,
    *,
    among: SessionCollection,
    besides: ConversationId | PostId,
    keep_images: bool,
) -> list[str]:
    """Delete parents with their outputs' images, except images that are kept, or with no image at
    all.

    Settle what unfinished outputs had reserved, as the last writes of the transaction. Return the
    keys of objects that are orphans from then on.
    """
    parents = await among.find(query, {**_ENDING, "outputs.preview": 1}).to_list()
    outputs = [output for parent in parents for output in parent["outputs"]]
    settled = [
        movement
        for parent in parents
        for movement in settlements(
            parent, [each for each in parent["outputs"] if each["status"] in UNFINISHED_OUTPUT]
        )
    ]
    images = [read_image(image) for output in outputs for image in output["images"]]
    previews = [output["preview"]["key"] for output in outputs if output["preview"]]
    deleted_images: list[Image] = []
    if not keep_images:
        kept = await find_kept_images(transaction, viewer_id, besides=besides, images=images)
        deleted_images = [image for image in images if image.id not in kept]
        await delete_image_records(
            transaction, viewer_id, ids=[image.id for image in deleted_images]
        )
    await among.delete_many(query)
    await move_credits(transaction, viewer_id, movements=settled)
    return [key for image in deleted_images for key in image.keys] + previews


def read_parent(document: Document) -> Parent:
    is_post = as_post_id(document["_id"]) is not None
    return StoredPost.of(document) if is_post else read_turn(document)


def _never_runs(output: Output, parent: Parent) -> bool:
    """Whether it would wait for a caption that nobody writes."""
    post = as_post(parent)
    return output.waits and post is not None and post.lacks_caption


def owned_by(viewer_id: ViewerId, parent_id: ParentId) -> Document:
    return {"_id": parent_id, "ownerId": viewer_id}
