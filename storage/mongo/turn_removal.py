"""Deleting turns: what goes with them, and what stays because something else needs it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from domain.credits import Movement
from domain.ids import (
    ConversationId,
    ImageId,
    ViewerId,
    as_turn_id,
    conversation_of_turn,
    parent_of_output,
)
from domain.images import Image
from storage.mongo.accounts import releases
from storage.mongo.collections import Document
from storage.mongo.images import delete_image_records, find_used_images, outside, read_image
from storage.mongo.output_rules import UNFINISHED_OUTPUT
from storage.mongo.transaction import Transaction


@dataclass(frozen=True, slots=True)
class RemovedTurns:
    """What follows from the removal of turns."""

    keys: Sequence[str]
    """Of objects that are orphans from now on."""
    movements: Sequence[Movement]
    """Credits of unfinished outputs, to be released last."""


async def remove_turns(
    transaction: Transaction,
    viewer_id: ViewerId,
    *,
    conversation_id: ConversationId,
    turns: Sequence[Document],
    keep_images: bool = False,
) -> RemovedTurns:
    """Delete turns of a conversation, with their outputs' images except favourites, those in
    albums, and those that another conversation uses or has in its own turns, or no image at all.
    """
    outputs = [output for turn in turns for output in turn["outputs"]]
    gone: list[Image] = []
    if not keep_images:
        images = [read_image(image) for output in outputs for image in output["images"]]
        kept = await _find_kept_images(transaction, viewer_id, conversation_id, images)
        gone = [image for image in images if image.id not in kept]
        await delete_image_records(transaction, viewer_id, ids=[image.id for image in gone])
    await transaction.turns.delete_many(
        {"_id": {"$in": [turn["_id"] for turn in turns]}, "ownerId": viewer_id}
    )
    previews = [output["preview"]["key"] for output in outputs if output["preview"]]
    released = [
        movement
        for turn in turns
        for movement in releases(
            turn["_id"], [one for one in turn["outputs"] if one["status"] in UNFINISHED_OUTPUT]
        )
    ]
    return RemovedTurns([key for image in gone for key in image.keys] + previews, released)


async def find_sharing_conversations(
    transaction: Transaction,
    viewer_id: ViewerId,
    *,
    besides: ConversationId,
    images: Sequence[Image],
) -> dict[ConversationId, set[ImageId]]:
    """Other conversations whose own outputs have some of these images, since one was copied from
    another.
    """
    ids = [image.id for image in images]
    copies: Document = {
        "ownerId": viewer_id,
        "copied": True,
        "outputs.images.id": {"$in": ids},
        "_id": outside(besides),
    }
    found = await transaction.turns.find(copies, {"outputs.images.id": 1}).to_list()
    # What was made elsewhere is in a copy here: the turn that made it may still have it.
    made_by = {parent_of_output(image.output_id)[0] for image in images if image.output_id}
    turn_ids = filter(None, map(as_turn_id, made_by))
    elsewhere = [one for one in turn_ids if conversation_of_turn(one) != besides]
    if elsewhere:
        originals = {"_id": {"$in": elsewhere}, "ownerId": viewer_id}
        found += await transaction.turns.find(originals, {"outputs.images.id": 1}).to_list()
    sharing: dict[ConversationId, set[ImageId]] = {}
    for turn in found:
        shared = set(_image_ids(turn)) & set(ids)
        sharing.setdefault(conversation_of_turn(turn["_id"]), set()).update(shared)
    return sharing


async def _find_kept_images(
    transaction: Transaction,
    viewer_id: ViewerId,
    conversation_id: ConversationId,
    images: Sequence[Image],
) -> set[ImageId]:
    ids = [image.id for image in images]
    favourites = await transaction.images.distinct(
        "_id", {"_id": {"$in": ids}, "ownerId": viewer_id, "favourite": True}
    )
    used = await find_used_images(transaction, viewer_id, ids=ids, besides=conversation_id)
    shared = await find_sharing_conversations(
        transaction, viewer_id, besides=conversation_id, images=images
    )
    in_albums = await transaction.album_images.distinct(
        "imageId", {"ownerId": viewer_id, "imageId": {"$in": ids}}
    )
    return {*favourites, *in_albums, *used}.union(*shared.values())


def _image_ids(turn: Document) -> Iterable[ImageId]:
    return (image["id"] for output in turn["outputs"] for image in output["images"])
