"""Albums as use cases read and write them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from domain.albums import Album
from domain.conflicts import Conflict
from domain.ids import AlbumId, ImageId, ViewerId
from domain.images import ImageRecord
from domain.pages import Page, PageRequest


class AlbumRepository(Protocol):
    async def get_many(
        self, viewer_id: ViewerId, ids: Iterable[AlbumId]
    ) -> Mapping[AlbumId, Album]: ...

    async def page(self, viewer_id: ViewerId, request: PageRequest) -> Page[Album]:
        """A page of the viewer's albums, newest first."""

    async def page_images(
        self, viewer_id: ViewerId, album_id: AlbumId, request: PageRequest
    ) -> Page[ImageRecord]:
        """A page of an album's images, in the album's order."""

    async def create(
        self, viewer_id: ViewerId, album_id: AlbumId, *, title: str, image_ids: Sequence[ImageId]
    ) -> Album | Conflict:
        """Write an album with these images, in this order. The conflict is IMAGE_GONE."""

    async def update(
        self,
        viewer_id: ViewerId,
        album_id: AlbumId,
        *,
        title: str | None,
        add: Sequence[ImageId],
        remove: Sequence[ImageId],
        max_images: int,
    ) -> Album | Conflict:
        """Change the title, unless it is None, take images out, then put others at the end, except
        those that are in it already.

        The conflict is STALE if there is no such album, IMAGE_GONE, or LIMIT_REACHED: it would have
        more than `max_images`.
        """

    async def delete(self, viewer_id: ViewerId, album_id: AlbumId) -> bool:
        """Delete it, not its images, and return whether there was one."""
