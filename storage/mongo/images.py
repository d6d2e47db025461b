"""Images as documents: records of their own, and copies of what never changes inside others."""

from collections.abc import Iterable, Mapping, Sequence

from pymongo import ReturnDocument

from domain.ids import (
    ConversationId,
    ImageId,
    ModelId,
    ViewerId,
    turn_id_range,
    turn_of_output,
)
from domain.images import Image, ImageOrigin, ImageRecord, rendition_key
from domain.pages import Page, PageRequest, cut
from storage.mongo.database import (
    Abort,
    Database,
    Document,
    Session,
    epoch_ms,
    repository,
)
from storage.mongo.output_updates import taking_out
from storage.mongo.pages import beyond, newest_first


@repository
class MongoImageRepository:
    """See `domain.ports.ImageRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._images = database.images

    async def get_many(
        self, viewer_id: ViewerId, ids: Iterable[ImageId]
    ) -> Mapping[ImageId, ImageRecord]:
        cursor = self._images.find({"_id": {"$in": list(set(ids))}, "ownerId": viewer_id})
        return {ImageId(found["_id"]): read_record(found) async for found in cursor}

    async def page(
        self,
        viewer_id: ViewerId,
        request: PageRequest,
        *,
        favourite: bool | None,
        origin: ImageOrigin | None,
        model_id: ModelId | None,
    ) -> Page[ImageRecord]:
        query: Document = {"ownerId": viewer_id, **beyond(request, "createdAt")}
        if favourite is not None:
            query["favourite"] = True if favourite else {"$ne": True}
        if origin is not None:
            query["origin"] = origin.value
        if model_id is not None:
            query["model"] = model_id
        found = (
            await self._images.find(query)
            .sort(newest_first("createdAt"))
            .limit(request.size + 1)
            .to_list()
        )
        return cut(
            request,
            [read_record(document) for document in found],
            lambda record: (epoch_ms(record.image.created_at), record.image.id),
        )

    async def set_favourite(
        self, viewer_id: ViewerId, image_id: ImageId, favourite: bool
    ) -> ImageRecord | None:
        found = await self._images.find_one_and_update(
            {"_id": image_id, "ownerId": viewer_id},
            {"$set": {"favourite": favourite}},
            return_document=ReturnDocument.AFTER,
        )
        return read_record(found) if found else None

    async def delete_unless_used(self, viewer_id: ViewerId, image_id: ImageId) -> bool:
        async def work(session: Session) -> bool:
            # Whoever begins to use the image writes to its record, and so does this.
            deleted = await self._images.find_one_and_delete(
                {"_id": image_id, "ownerId": viewer_id}, session=session
            )
            if deleted is None or await used_images(
                self._database, session, viewer_id, [image_id], besides=None
            ):
                raise Abort
            if deleted["outputId"] is not None:
                turn_id, _ = turn_of_output(deleted["outputId"])
                await self._database.turns.update_one(
                    {"_id": turn_id, "ownerId": viewer_id, "outputs.images.id": image_id},
                    taking_out(image_id),
                    session=session,
                )
            return True

        return await self._database.transact(work) is not None

    async def any_refers_to(self, ids: Iterable[ImageId]) -> bool:
        return await self._images.find_one({"_id": {"$in": list(ids)}}, {"_id": 1}) is not None


async def used_images(
    database: Database,
    session: Session,
    viewer_id: ViewerId,
    image_ids: Sequence[ImageId],
    *,
    besides: ConversationId | None,
) -> set[ImageId]:
    """Those of the images that a conversation, `besides` left out, begins from or refers to."""
    wanted = {"$in": list(image_ids)}
    conversations: Document = {"ownerId": viewer_id, "sourceImage.id": wanted}
    turns: Document = {"ownerId": viewer_id, "references.image.id": wanted}
    if besides is not None:
        low, high = turn_id_range(besides)
        conversations["_id"] = {"$ne": besides}
        turns["_id"] = {"$not": {"$gte": low, "$lt": high}}
    sources = await database.conversations.distinct(
        "sourceImage.id", conversations, session=session
    )
    references = await database.turns.distinct("references.image.id", turns, session=session)
    return {*sources, *references} & set(image_ids)


def record_document(owner_id: ViewerId, record: ImageRecord) -> Document:
    document = image_document(record.image)
    return {
        "_id": document.pop("id"),
        "ownerId": owner_id,
        **document,
        "prompt": record.prompt,
        "madeFrom": list(record.made_from),
        "favourite": record.favourite,
    }


def read_record(document: Document) -> ImageRecord:
    return ImageRecord(
        image=read_image({**document, "id": document["_id"]}),
        prompt=document["prompt"],
        made_from=tuple(document["madeFrom"]),
        favourite=document.get("favourite", False),
    )


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
    }


def image_keys(document: Document) -> tuple[str, ...]:
    """Every key whose bytes belong to an image, from as little of its document as that takes."""
    widths = document["renditionWidths"]
    return (document["key"], *(rendition_key(document["key"], width) for width in widths))


def read_image(document: Document) -> Image:
    return Image(
        id=document["id"],
        key=document["key"],
        width=document["width"],
        height=document["height"],
        content_type=document["contentType"],
        byte_size=document["byteSize"],
        thumbhash=document["thumbhash"],
        rendition_widths=tuple(document["renditionWidths"]),
        origin=ImageOrigin(document["origin"]),
        model_id=document["model"],
        seed=document["seed"],
        output_id=document["outputId"],
        created_at=document["createdAt"],
    )
