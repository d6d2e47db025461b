"""Images as documents: records of their own, and copies of what never changes inside others."""

from collections.abc import Iterable, Mapping

from domain.ids import ImageId, ModelId, ViewerId
from domain.images import Image, ImageOrigin, ImageRecord
from domain.pages import Page, PageRequest, cut
from storage.database import Database, Document, epoch_ms, from_epoch_ms, repository


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
        origin: ImageOrigin | None,
        model_id: ModelId | None,
    ) -> Page[ImageRecord]:
        query: Document = {"ownerId": viewer_id}
        if origin is not None:
            query["origin"] = origin.value
        if model_id is not None:
            query["model"] = model_id
        if request.position is not None:
            created_at_ms, image_id = request.position
            created_at = from_epoch_ms(int(created_at_ms))
            query["$or"] = [
                {"createdAt": {"$lt": created_at}},
                {"createdAt": created_at, "_id": {"$lt": image_id}},
            ]
        found = (
            await self._images.find(query)
            .sort({"createdAt": -1, "_id": -1})
            .limit(request.size + 1)
            .to_list()
        )
        return cut(
            request,
            [read_record(document) for document in found],
            lambda record: (epoch_ms(record.image.created_at), record.image.id),
        )

    async def any_refers_to(self, ids: Iterable[ImageId]) -> bool:
        return await self._images.find_one({"_id": {"$in": list(ids)}}, {"_id": 1}) is not None


def record_document(owner_id: ViewerId, record: ImageRecord) -> Document:
    document = image_document(record.image)
    return {
        "_id": document.pop("id"),
        "ownerId": owner_id,
        **document,
        "prompt": record.prompt,
        "madeFrom": list(record.made_from),
    }


def read_record(document: Document) -> ImageRecord:
    return ImageRecord(
        image=read_image({**document, "id": document["_id"]}),
        prompt=document["prompt"],
        made_from=tuple(document["madeFrom"]),
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
