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
        """Write the image, and the upload's reference to it; False if the upload has become an
        image already, was refused, or does not exist.
        """

    async def refuse(self, viewer_id: ViewerId, upload_id: UploadId, refusal: UserError) -> None:
        """Mark an upload as refused, unless it has become an image."""

    async def get_abilities(self, store: str) -> UploadAbilities | None:
        """The stored abilities of the object store of this name."""

    async def remember_abilities(self, store: str, abilities: UploadAbilities) -> None:
        """Store the abilities for a month, after which they are determined again."""
