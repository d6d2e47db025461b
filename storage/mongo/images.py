"""Images as documents: records of their own, and copies of what never changes inside others."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import ClassVar, Final

from domain.conflicts import Conflict
from domain.ids import (
    ConversationId,
    ImageId,
    ModelId,
    PostId,
    ViewerId,
    parent_of_output,
    parse_conversation_id,
    turn_id_range,
)
from domain.images import (
    DigitalSourceType,
    Image,
    ImageOrigin,
    ImageRecord,
    KeptImages,
    Provenance,
    rendition_key,
)
from domain.pages import Page, PageRequest
from domain.stored import (
    Coded,
    Derived,
    Instant,
    Key,
    Listed,
    One,
    Same,
    Stored,
    StoredValues,
    Wanted,
    projection,
)
from storage.mongo.collections import PARENTS, Document
from storage.mongo.database import Database, repository
from storage.mongo.direct_reads import read_all
from storage.mongo.output_updates import remove_images_update
from storage.mongo.pages import beyond, cut_page, newest_first
from storage.mongo.text_search import with_words, words_to_find
from storage.mongo.transaction import Abort, Transaction


@repository
class MongoImageRepository:
    """See `domain.ports.images.ImageRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._images = database.images

    async def get_many(
        self, viewer_id: ViewerId, ids: Iterable[ImageId]
    ) -> Mapping[ImageId, ImageRecord]:
        query = {"_id": {"$in": list(set(ids))}, "ownerId": viewer_id}
        cursor = self._images.find(query, SHOWN_FIELDS)
        return {ImageId(document["_id"]): read_record(document) async for document in cursor}

    async def page(
        self,
        viewer_id: ViewerId,
        request: PageRequest,
        *,
        favourite: bool | None,
        origin: ImageOrigin | None,
        model_id: ModelId | None,
        words: Sequence[str] = (),
        wanted: Wanted | None = None,
    ) -> Page[ImageRecord]:
        query: Document = {
            "ownerId": viewer_id,
            **with_words(words),
            **beyond(request, "createdAt"),
        }
        if favourite is not None:
            query["favourite"] = True if favourite else {"$ne": True}
        if origin is not None:
            query["origin"] = origin.value
        if model_id is not None:
            query["model"] = model_id
        shown = projection(StoredGalleryImage, wanted)
        command: Document = {
            "find": self._images.name,
            "filter": query,
            "projection": SHOWN_FIELDS if shown is None else {**shown, "createdAt": 1},
            "sort": newest_first("createdAt"),
            "limit": request.size + 1,
        }
        documents = await read_all(self._database, command)
        page = cut_page(documents, request, sorted_by="createdAt")
        return Page(
            StoredValues[ImageRecord](StoredImageRecord, page.items),
            page.positions,
            page.has_next,
            page.has_previous,
        )

    async def set_favourite(
        self, viewer_id: ViewerId, ids: Collection[ImageId], favourite: bool
    ) -> Mapping[ImageId, ImageRecord]:
        query = {"_id": {"$in": list(ids)}, "ownerId": viewer_id}
        await self._images.update_many(query, {"$set": {"favourite": favourite}})
        cursor = self._images.find(query, SHOWN_FIELDS)
        return {ImageId(document["_id"]): read_record(document) async for document in cursor}

    async def delete_unless_used(
        self, viewer_id: ViewerId, ids: Collection[ImageId]
    ) -> KeptImages | None:
        ids = list(ids)
        query = {"_id": {"$in": ids}, "ownerId": viewer_id}

        async def work(transaction: Transaction) -> KeptImages | None:
            kept = await _find_kept(transaction, viewer_id, ids)
            if kept.missing or kept.used:
                return kept
            documents = await transaction.images.find(query, {"outputId": 1}).to_list()
            # A transaction that begins to use an image writes to its record, and so does this.
            await delete_image_records(transaction, viewer_id, ids=ids)
            delivered: Document = {"ownerId": viewer_id, "outputs.images.id": {"$in": ids}}
            outputs = [
                document["outputId"] for document in documents if document["outputId"] is not None
            ]
            if outputs:
                parent_ids = sorted({parent_of_output(output_id)[0] for output_id in outputs})
                for name in PARENTS.values():
                    await transaction.collection(name).update_many(
                        {"_id": {"$in": parent_ids}, **delivered}, remove_images_update(ids)
                    )
                await transaction.turns.update_many(
                    {"copied": True, **delivered}, remove_images_update(ids)
                )
            return None

        done = await self._database.transact(work)
        assert not isinstance(done, Conflict), "It never aborts."
        return done.result

    async def find_kept(self, viewer_id: ViewerId, ids: Collection[ImageId]) -> KeptImages:
        return await _find_kept(self._database, viewer_id, list(ids))

    async def any_refers_to(self, viewer_id: ViewerId, ids: Iterable[ImageId]) -> bool:
        query = {"_id": {"$in": list(ids)}, "ownerId": viewer_id}
        return await self._images.find_one(query, {"_id": 1}) is not None


async def hold_images(
    transaction: Transaction, viewer_id: ViewerId, *, ids: Collection[ImageId]
) -> None:
    """Write to the images, so that this transaction and one that deletes any of them cannot both
    commit.
    """
    if not ids:
        return
    held = await transaction.images.update_many(
        {"_id": {"$in": list(ids)}, "ownerId": viewer_id}, {"$inc": {"holds": 1}}
    )
    if held.matched_count != len(ids):
        raise Abort(Conflict.IMAGE_GONE)


async def delete_image_records(
    transaction: Transaction, viewer_id: ViewerId, *, ids: Sequence[ImageId]
) -> None:
    """Delete images that nothing uses, also from albums. The caller deletes their bytes
    afterwards.
    """
    wanted = {"$in": list(ids)}
    await transaction.images.delete_many({"_id": wanted, "ownerId": viewer_id})
    await transaction.album_images.delete_many({"ownerId": viewer_id, "imageId": wanted})


async def _find_kept(
    collections: Database | Transaction, viewer_id: ViewerId, ids: Sequence[ImageId]
) -> KeptImages:
    found = await collections.images.distinct("_id", {"_id": {"$in": ids}, "ownerId": viewer_id})
    used = await find_used_images(collections, viewer_id, ids=ids)
    return KeptImages(missing=frozenset(ids) - set(found), used=frozenset(used))


async def find_used_images(
    collections: Database | Transaction,
    viewer_id: ViewerId,
    *,
    ids: Sequence[ImageId],
    besides: ConversationId | PostId | None = None,
) -> set[ImageId]:
    """Those of the images that a conversation or post other than `besides` starts from or refers
    to, or that are masks of its turns.
    """
    wanted = {"$in": list(ids)}
    others: Document = {"ownerId": viewer_id, "_id": {"$ne": besides}}
    turns: Document = {"ownerId": viewer_id}
    conversation_id = parse_conversation_id(besides) if besides is not None else None
    if conversation_id is not None:
        turns["_id"] = outside(conversation_id)
    used = set[ImageId]()
    for collection, query, name in (
        (collections.conversations, others, "sourceImage.id"),
        (collections.turns, turns, "references.image.id"),
        (collections.turns, turns, "options.mask.id"),
        (collections.posts, others, "references.image.id"),
    ):
        used.update(await collection.distinct(name, {**query, name: wanted}))
    return used & set(ids)


def outside(conversation_id: ConversationId) -> Document:
    """A condition that the ids of other conversations' turns match."""
    low, high = turn_id_range(conversation_id)
    return {"$not": {"$gte": low, "$lt": high}}


def record_document(owner_id: ViewerId, record: ImageRecord) -> Document:
    document = image_document(record.image)
    return {
        "_id": document.pop("id"),
        "ownerId": owner_id,
        **document,
        "prompt": record.prompt,
        "words": words_to_find(record.prompt or ""),
        "madeFrom": list(record.made_from),
        "favourite": record.favourite,
    }


def image_document(image: Image) -> Document:
    return {
        "id": image.id,
        "key": image.key,
        "width": image.width,
        "height": image.height,
        "contentType": image.content_type,
        "byteSize": image.byte_size,
        "thumbhash": image.thumbhash,
        "renditionWidths": list(image.rendition_widths),
        "origin": image.origin.value,
        "model": image.model_id,
        "seed": image.seed,
        "outputId": image.output_id,
        "createdAt": image.created_at,
        "provenance": image.provenance and _provenance_document(image.provenance),
    }


def _provenance_document(provenance: Provenance) -> Document:
    return {
        "digitalSourceType": provenance.digital_source_type.value,
        "contentCredentials": provenance.content_credentials,
    }


def image_keys(document: Document) -> tuple[str, ...]:
    """The keys of all bytes that belong to an image; the document needs only the fields that are
    read here.
    """
    widths = document["renditionWidths"]
    return (document["key"], *(rendition_key(document["key"], width) for width in widths))


class StoredProvenance(Stored, Provenance):
    __slots__ = ("companion", "record")
    kind = Provenance
    fields: ClassVar = {
        "digital_source_type": Coded("digitalSourceType", DigitalSourceType),
        "content_credentials": Key("contentCredentials"),
    }


class StoredImage(Stored, Image):
    __slots__ = ("companion", "record")
    kind = Image
    identity = "id"
    fields: ClassVar = {
        "id": Key("id"),
        "key": Key("key"),
        "width": Key("width"),
        "height": Key("height"),
        "content_type": Key("contentType"),
        "byte_size": Key("byteSize"),
        "thumbhash": Key("thumbhash"),
        "rendition_widths": Listed("renditionWidths"),
        "origin": Coded("origin", ImageOrigin),
        "model_id": Key("model"),
        "seed": Key("seed"),
        "output_id": Key("outputId"),
        "created_at": Instant("createdAt"),
        "provenance": One("provenance", StoredProvenance),
        # What is only in the record of the gallery.
        "companion": Derived(lambda _: None, ()),
    }


def _record_of(document: Document) -> ImageRecord:
    return StoredImageRecord.of(document)


class StoredGalleryImage(StoredImage):
    """An image as it is in its record, which has more than the copies."""

    __slots__ = ()
    identity = "_id"
    changing = frozenset({"favourite"})
    fields: ClassVar = StoredImage.fields | {
        "id": Key("_id"),
        "prompt": Key("prompt"),
        "favourite": Key("favourite", default=False, required=False),
        "companion": Derived(_record_of, ("prompt", "madeFrom", "favourite")),
    }


class StoredImageRecord(Stored, ImageRecord):
    __slots__ = ("companion", "record")
    kind = ImageRecord
    fields: ClassVar = {
        "image": Same(StoredGalleryImage, ("_id",)),
        "prompt": Key("prompt"),
        "made_from": Listed("madeFrom"),
        "favourite": Key("favourite", default=False, required=False),
    }


SHOWN_FIELDS: Final = {"words": 0}
"""The fields that are read of records. Words are only searched."""
read_image = StoredImage.of
read_record = StoredImageRecord.of
