"""Albums: make, change and delete them, and read their images."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from domain.albums import MAX_ALBUM_IMAGES, Album, UpdateAlbum
from domain.conflicts import Conflict
from domain.errors import Overloaded, UserErrorCode
from domain.ids import AlbumId, ImageId, new_album_id, parse_album_id, parse_image_id
from domain.images import ImageRecord
from domain.pages import Page, PageRequest
from domain.ports.albums import AlbumRepository
from domain.ports.images import ImageRepository
from domain.refusals import Refusals, refuse
from domain.services.images import check_count
from domain.services.titles import clean_title
from domain.viewers import Viewer

_TRIES: Final = 3
_NOT_FOUND: Final = (UserErrorCode.NOT_FOUND, "There is no such album.", "albumId")


@dataclass(frozen=True, slots=True)
class AlbumService:
    albums: AlbumRepository
    images: ImageRepository

    async def get_many(self, viewer: Viewer, ids: Iterable[AlbumId]) -> Mapping[AlbumId, Album]:
        return await self.albums.get_many(viewer.id, ids)

    async def page(self, viewer: Viewer, request: PageRequest) -> Page[Album]:
        """Newest first."""
        return await self.albums.page(viewer.id, request)

    async def page_images(
        self, viewer: Viewer, album_id: AlbumId, request: PageRequest
    ) -> Page[ImageRecord]:
        """In the album's order."""
        return await self.albums.page_images(viewer.id, album_id, request)

    async def create(self, viewer: Viewer, title: str, raw_image_ids: Sequence[str]) -> Album:
        """Make an album of up to 100 images. Raise QueryTooComplex for more."""
        check_count(raw_image_ids, field="imageIds")
        for _ in range(_TRIES):
            refusals = Refusals()
            cleaned = clean_title(title, refusals)
            image_ids = await self._find(viewer, raw_image_ids, refusals, field="imageIds")
            refusals.raise_if_any()
            album = await self.albums.create(
                viewer.id, new_album_id(), title=cleaned, image_ids=image_ids
            )
            if isinstance(album, Album):
                return album
        raise Overloaded

    async def update(self, viewer: Viewer, command: UpdateAlbum) -> Album:
        """Change an album, by up to 100 images in each direction. Raise QueryTooComplex for more.

        An image that is to be taken out need not be in it, nor exist.
        """
        check_count(command.add_image_ids, field="addImageIds")
        check_count(command.remove_image_ids, field="removeImageIds")
        removed = [
            image_id for image_id in map(parse_image_id, command.remove_image_ids) if image_id
        ]
        for _ in range(_TRIES):
            refusals = Refusals()
            title = clean_title(command.title, refusals) if command.title is not None else None
            added = await self._find(viewer, command.add_image_ids, refusals, field="addImageIds")
            album_id = parse_album_id(command.album_id)
            if album_id is None or not await self.get_many(viewer, [album_id]):
                refusals.add(*_NOT_FOUND)
            refusals.raise_if_any()
            assert album_id is not None
            changed = await self.albums.update(
                viewer.id,
                album_id,
                title=title,
                add=added,
                remove=removed,
                max_images=MAX_ALBUM_IMAGES,
            )
            if isinstance(changed, Album):
                return changed
            if changed is Conflict.LIMIT_REACHED:
                message = f"An album can have at most {MAX_ALBUM_IMAGES:,} images."
                refuse(UserErrorCode.TOO_MANY_IMAGES, message, "addImageIds")
        raise Overloaded

    async def delete(self, viewer: Viewer, raw_album_id: str) -> AlbumId:
        """Delete an album. Its images stay."""
        album_id = parse_album_id(raw_album_id)
        if album_id is None or not await self.albums.delete(viewer.id, album_id):
            refuse(*_NOT_FOUND)
        return album_id

    async def _find(
        self, viewer: Viewer, raw_ids: Sequence[str], refusals: Refusals, *, field: str
    ) -> Sequence[ImageId]:
        """The ids, each once. Add those that are no image to `refusals`."""
        ids = [parse_image_id(raw_id) for raw_id in raw_ids]
        wanted = list(dict.fromkeys(image_id for image_id in ids if image_id))
        known = await self.images.get_many(viewer.id, wanted) if wanted else {}
        for index, image_id in enumerate(ids):
            if image_id not in known:
                message = "There is no such image."
                refusals.add(UserErrorCode.NOT_FOUND, message, field, str(index))
        return wanted
