"""Uploads, and what is remembered of the object store that takes them."""

from collections.abc import Sequence
from typing import Protocol

from domain.errors import UserError
from domain.ids import UploadId, ViewerId
from domain.images import ImageRecord
from domain.uploads import Upload, UploadAbilities


class UploadRepository(Protocol):
    async def open(self, viewer_id: ViewerId, uploads: Sequence[Upload], *, at_most: int) -> bool:
        """Store new uploads; False if the viewer would have more than `at_most` that are open and
        undecided.
        """

    async def get(self, viewer_id: ViewerId, upload_id: UploadId) -> Upload | None: ...

    async def complete(self, viewer_id: ViewerId, upload_id: UploadId, record: ImageRecord) -> bool:
        """Write the image and that the upload has become it; False if the upload has become one
        before, was refused, or is gone.
        """

    async def refuse(self, viewer_id: ViewerId, upload_id: UploadId, refusal: UserError) -> None:
        """Mark it as refused, unless it has become an image."""

    async def get_abilities(self, store: str) -> UploadAbilities | None:
        """What is remembered of the object store of this name."""

    async def remember_abilities(self, store: str, abilities: UploadAbilities) -> None:
        """For a month: then they are found out again."""
