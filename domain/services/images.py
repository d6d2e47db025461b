"""Images that a viewer owns, and finding those that a command names."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from domain.errors import UserErrorCode
from domain.execution.image_writer import ImageWriter
from domain.ids import ImageId, ModelId, parse_image_id, parse_upload_id
from domain.images import Image, ImageOrigin, ImageRecord
from domain.pages import Page, PageRequest
from domain.ports.repositories import ImageRepository
from domain.references import MAX_MANUAL_REFERENCES, Reference, ReferenceOrigin
from domain.refusals import Refusals, refuse
from domain.viewers import Viewer

_IMAGE_NOT_FOUND: Final = (UserErrorCode.NOT_FOUND, "There is no such image.", "imageId")


@dataclass(frozen=True, slots=True)
class ImageService:
    images: ImageRepository
    image_writer: ImageWriter

    async def get_many(
        self, viewer: Viewer, ids: Iterable[ImageId]
    ) -> Mapping[ImageId, ImageRecord]:
        return await self.images.get_many(viewer.id, ids)

    async def page(
        self,
        viewer: Viewer,
        request: PageRequest,
        *,
        favourite: bool | None = None,
        origin: ImageOrigin | None = None,
        model_id: ModelId | None = None,
    ) -> Page[ImageRecord]:
        """The gallery, newest first."""
        return await self.images.page(
            viewer.id, request, favourite=favourite, origin=origin, model_id=model_id
        )

    async def delete(self, viewer: Viewer, raw_image_id: str) -> ImageId:
        """Delete an image that nothing uses, and its objects."""
        image_id = parse_image_id(raw_image_id)
        record = (await self._get(viewer, image_id)) if image_id else None
        if record is None:
            refuse(*_IMAGE_NOT_FOUND)
        image = record.image
        if not await self.images.delete_unless_used(viewer.id, image.id):
            if await self._get(viewer, image.id) is None:
                refuse(*_IMAGE_NOT_FOUND)  # another request has deleted it
            message = "A conversation uses this image. Delete the conversation first."
            refuse(UserErrorCode.IMAGE_IN_USE, message, "imageId")
        await self.image_writer.delete(image.keys)
        return image.id

    async def _get(self, viewer: Viewer, image_id: ImageId) -> ImageRecord | None:
        return (await self.images.get_many(viewer.id, [image_id])).get(image_id)

    async def find_source(
        self, viewer: Viewer, image_id: str | None, refusals: Refusals
    ) -> Image | None:
        if image_id is None:
            return None
        return (await self._find(viewer, [image_id], field="sourceImageId", refusals=refusals))[0]

    async def find_manual_references(
        self, viewer: Viewer, image_ids: Sequence[str], refusals: Refusals
    ) -> tuple[Reference, ...] | None:
        """The references in their order; None where something is wrong with them."""
        if len(image_ids) > MAX_MANUAL_REFERENCES:
            refusals.add(
                UserErrorCode.TOO_MANY_REFERENCES,
                f"Add at most {MAX_MANUAL_REFERENCES} references.",
                "manualReferenceIds",
            )
            return None
        found = await self._find(
            viewer, image_ids, field="manualReferenceIds", refusals=refusals, numbered=True
        )
        references = tuple(Reference(image, ReferenceOrigin.MANUAL) for image in found if image)
        return references if len(references) == len(image_ids) else None

    async def _find(
        self,
        viewer: Viewer,
        names: Sequence[str],
        *,
        field: str,
        refusals: Refusals,
        numbered: bool = False,
    ) -> list[Image | None]:
        ids = [parse_image_id(name) for name in names]
        wanted = [image_id for image_id in ids if image_id is not None]
        records = await self.images.get_many(viewer.id, wanted) if wanted else {}
        found: list[Image | None] = []
        for index, image_id in enumerate(ids):
            record = records.get(image_id) if image_id is not None else None
            if record is None:
                path = (field, str(index)) if numbered else (field,)
                refusals.add(*_why_not_found(names[index]), *path)
            found.append(record.image if record else None)
        return found


def _why_not_found(name: str) -> tuple[UserErrorCode, str]:
    if parse_upload_id(name) is None:
        return UserErrorCode.NOT_FOUND, "There is no such image."
    message = "This is the ID of an upload. Complete the upload and use its image."
    return UserErrorCode.REFERENCE_NOT_READY, message
