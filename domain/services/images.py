"""Images that a viewer owns, and finding those that a command names."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from domain.errors import QueryTooComplex, UserErrorCode
from domain.execution.image_writer import ImageWriter
from domain.ids import ImageId, ModelId, parse_image_id, parse_upload_id
from domain.images import Image, ImageOrigin, ImageRecord, KeptImages
from domain.pages import Page, PageRequest
from domain.ports.images import ImageRepository
from domain.references import MAX_MANUAL_REFERENCES, Reference, ReferenceOrigin
from domain.refusals import Refusals
from domain.stored import Wanted
from domain.turns import MaskRequest
from domain.viewers import Viewer

MAX_IMAGES_AT_ONCE: Final = 100
"""The largest number of images that one command may name."""

_IMAGE_IN_USE: Final = (
    UserErrorCode.IMAGE_IN_USE,
    "A conversation or post uses this image. Delete that first.",
)


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
        words: Sequence[str] = (),
        wanted: Wanted | None = None,
    ) -> Page[ImageRecord]:
        """The gallery, newest first. Only images whose prompt has words that begin with these.
        Attributes of the images that are not wanted need not be there.
        """
        return await self.images.page(
            viewer.id,
            request,
            favourite=favourite,
            origin=origin,
            model_id=model_id,
            words=words,
            wanted=wanted,
        )

    async def delete(self, viewer: Viewer, raw_image_id: str) -> ImageId:
        """Delete an image that nothing uses, and its objects."""
        [deleted] = await self._delete(viewer, {("imageId",): raw_image_id})
        return deleted

    async def delete_many(self, viewer: Viewer, raw_ids: Sequence[str]) -> Sequence[ImageId]:
        """Delete images that nothing uses, and their objects: all or none.

        Return their ids, each once. Raise QueryTooComplex for more than `MAX_IMAGES_AT_ONCE`.
        """
        check_count(raw_ids, field="imageIds")
        return await self._delete(
            viewer, {("imageIds", str(index)): raw_id for index, raw_id in enumerate(raw_ids)}
        )

    async def _delete(
        self, viewer: Viewer, named: Mapping[tuple[str, ...], str]
    ) -> Sequence[ImageId]:
        """Delete the images that are named at these paths of the input. Refuse all, or none."""
        ids = {path: parse_image_id(raw_id) for path, raw_id in named.items()}
        wanted = list(dict.fromkeys(image_id for image_id in ids.values() if image_id is not None))
        records = await self.images.get_many(viewer.id, wanted) if wanted else {}
        if None in ids.values():
            # None will be deleted, and the payload has all reasons.
            _refuse(ids, await self.images.find_kept(viewer.id, wanted))
        kept = await self.images.delete_unless_used(viewer.id, wanted) if wanted else None
        if kept is not None:
            _refuse(ids, kept)
        await self.image_writer.delete(
            [key for record in records.values() for key in record.image.keys]
        )
        return wanted

    async def find_source(
        self, viewer: Viewer, image_id: str | None, refusals: Refusals
    ) -> Image | None:
        if image_id is None:
            return None
        path = ("sourceImageId",)
        return (await self._find(viewer, [image_id], path=path, refusals=refusals))[0]

    async def find_mask(
        self, viewer: Viewer, request: MaskRequest | None, refusals: Refusals
    ) -> Image | None:
        if request is None:
            return None
        path = ("mask", "imageId")
        return (await self._find(viewer, [request.image_id], path=path, refusals=refusals))[0]

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
            viewer, image_ids, path=("manualReferenceIds",), refusals=refusals, numbered=True
        )
        references = tuple(Reference(image, ReferenceOrigin.MANUAL) for image in found if image)
        return references if len(references) == len(image_ids) else None

    async def _find(
        self,
        viewer: Viewer,
        names: Sequence[str],
        *,
        path: tuple[str, ...],
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
                position = (str(index),) if numbered else ()
                refusals.add(*_why_not_found(names[index]), *path, *position)
            found.append(record.image if record else None)
        return found


def check_count(ids: Sequence[object], *, field: str) -> None:
    """Raise QueryTooComplex where a command names too many at once."""
    if len(ids) > MAX_IMAGES_AT_ONCE:
        raise QueryTooComplex(field, maximum=MAX_IMAGES_AT_ONCE, actual=len(ids))


def _refuse(ids: Mapping[tuple[str, ...], ImageId | None], kept: KeptImages) -> None:
    """Say of each path of the input why its image is not deleted."""
    refusals = Refusals()
    for path, image_id in ids.items():
        if image_id is None or image_id in kept.missing:
            refusals.add(UserErrorCode.NOT_FOUND, "There is no such image.", *path)
        elif image_id in kept.used:
            refusals.add(*_IMAGE_IN_USE, *path)
    refusals.raise_if_any()


def _why_not_found(name: str) -> tuple[UserErrorCode, str]:
    if parse_upload_id(name) is None:
        return UserErrorCode.NOT_FOUND, "There is no such image."
    message = "This is the ID of an upload. Complete the upload and use its image."
    return UserErrorCode.REFERENCE_NOT_READY, message
