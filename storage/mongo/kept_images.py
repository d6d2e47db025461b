"""Finds images that stay when what has made them is deleted, because something else needs them."""

from collections.abc import Iterable, Sequence

from domain.ids import (
    ConversationId,
    ImageId,
    PostId,
    ViewerId,
    as_turn_id,
    conversation_of_turn,
    parent_of_output,
    parse_conversation_id,
)
from domain.images import Image
from storage.mongo.collections import Document
from storage.mongo.images import find_used_images, outside
from storage.mongo.transaction import Transaction


async def find_sharing_conversations(
    transaction: Transaction,
    viewer_id: ViewerId,
    *,
    besides: ConversationId,
    images: Sequence[Image],
) -> dict[ConversationId, set[ImageId]]:
    """Other conversations whose own outputs have some of these images, because one was copied from
    another.
    """
    ids = [image.id for image in images]
    copies: Document = {
        "ownerId": viewer_id,
        "copied": True,
        "outputs.images.id": {"$in": ids},
        "_id": outside(besides),
    }
    documents = await transaction.turns.find(copies, {"outputs.images.id": 1}).to_list()
    # An image that was made elsewhere is in a copy here: the turn that made it may still have it.
    made_by = {parent_of_output(image.output_id)[0] for image in images if image.output_id}
    turn_ids = filter(None, map(as_turn_id, made_by))
    elsewhere = [turn_id for turn_id in turn_ids if conversation_of_turn(turn_id) != besides]
    if elsewhere:
        originals = {"_id": {"$in": elsewhere}, "ownerId": viewer_id}
        documents += await transaction.turns.find(originals, {"outputs.images.id": 1}).to_list()
    sharing: dict[ConversationId, set[ImageId]] = {}
    for turn in documents:
        shared = set(_image_ids(turn)) & set(ids)
        sharing.setdefault(conversation_of_turn(turn["_id"]), set()).update(shared)
    return sharing


async def find_kept_images(
    transaction: Transaction,
    viewer_id: ViewerId,
    *,
    besides: ConversationId | PostId,
    images: Sequence[Image],
) -> set[ImageId]:
    """Those of the images that are favourites or in albums, or that something besides this
    conversation or post uses or has in its own turns.
    """
    ids = [image.id for image in images]
    favourites = await transaction.images.distinct(
        "_id", {"_id": {"$in": ids}, "ownerId": viewer_id, "favourite": True}
    )
    used = await find_used_images(transaction, viewer_id, ids=ids, besides=besides)
    conversation_id = parse_conversation_id(besides)
    sharing = (
        await find_sharing_conversations(
            transaction, viewer_id, besides=conversation_id, images=images
        )
        if conversation_id is not None
        else {}
    )
    in_albums = await transaction.album_images.distinct(
        "imageId", {"ownerId": viewer_id, "imageId": {"$in": ids}}
    )
    return {*favourites, *in_albums, *used}.union(*sharing.values())


def _image_ids(turn: Document) -> Iterable[ImageId]:
    return (image["id"] for output in turn["outputs"] for image in output["images"])
