"""The records of images as use cases read and write them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from domain.ids import ImageId, ModelId, ViewerId
from domain.images import ImageOrigin, ImageRecord, KeptImages
from domain.pages import Page, PageRequest
from domain.stored import Wanted


class ImageRepository(Protocol):
    async def get_many(
        self, viewer_id: ViewerId, ids: Iterable[ImageId]
    ) -> Mapping[ImageId, ImageRecord]: ...

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
        """Newest first. Only images whose prompt has, for each of these words, a word that begins
        with it. Attributes of the images that are not wanted need not be there.
        """

    async def set_favourite(
        self, viewer_id: ViewerId, ids: Collection[ImageId], favourite: bool
    ) -> Mapping[ImageId, ImageRecord]:
        """Mark images as favourites, or not. Return those that exist, as they are then."""

    async def delete_unless_used(
        self, viewer_id: ViewerId, ids: Collection[ImageId]
    ) -> KeptImages | None:
        """Delete the records, and take the images out of the outputs that delivered them.

        All or none: where some are kept, they are returned, and nothing was written.
        """

    async def find_kept(self, viewer_id: ViewerId, ids: Collection[ImageId]) -> KeptImages:
        """Which of these could not be deleted."""

    async def any_refers_to(self, viewer_id: ViewerId, ids: Iterable[ImageId]) -> bool:
        """Whether the viewer has a record of any of these."""
