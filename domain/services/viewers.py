"""Viewers: in development, those seen for the first time find a few sample images; deleting one."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Final

from domain.cleanup.erasure import ViewerEraser
from domain.errors import StoreUnavailable, UserErrorCode
from domain.execution.image_writer import ImageWriter
from domain.ids import ModelId, ViewerId
from domain.images import ImageOrigin, ImageRecord, ProcessedImage
from domain.ports.viewers import ViewerRepository
from domain.refusals import refuse
from domain.viewers import Viewer
from domain.waiting import SemaphoresByKey

log = logging.getLogger(__name__)

_REMEMBERED: Final = 10_000
_STORE_SECONDS: Final = 6.0
"""How long storing the samples may take: less than a request may."""
_PAUSE_SECONDS: Final = 30.0
"""How long after a failure samples are not tried again: every try delays a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An image that a new viewer is given, with the prompt and the model that made it."""

    prompt: str
    model_id: ModelId
    image: ProcessedImage


class ViewerService:
    def __init__(
        self,
        viewers: ViewerRepository,
        image_writer: ImageWriter,
        *,
        load_samples: Callable[[], Sequence[Sample]] | None,
        eraser: ViewerEraser,
    ) -> None:
        """`load_samples` reads files; None where new viewers are given nothing."""
        self._viewers = viewers
        self._eraser = eraser
        self._image_writer = image_writer
        self._load_samples = load_samples
        self._known: dict[ViewerId, None] = {}
        self._storing = SemaphoresByKey(1)
        self._failed_at = -_PAUSE_SECONDS

    async def give_samples(self, viewer: Viewer) -> None:
        """Store the sample images for a viewer who is seen for the first time.

        A request never fails because they cannot be stored. Raise Overloaded if the database
        cannot be reached.
        """
        load_samples = self._load_samples
        if load_samples is None or viewer.id in self._known or self._is_pausing():
            return
        if not await self._viewers.is_known(viewer.id):
            async with self._storing.get(viewer.id):
                # Another request of this viewer may have been faster.
                if viewer.id not in self._known and not self._is_pausing():
                    await self._store_samples(viewer.id, load_samples)
                return
        self._remember(viewer.id)

    async def delete(self, viewer: Viewer, raw_viewer_id: str) -> ViewerId:
        """Delete the viewer with all that belongs to them, and stop what is running.

        The id has to be given, so that nobody does this by mistake. What is not done when this
        returns is finished without the request; until then, nothing new can be made.
        """
        if raw_viewer_id != viewer.id:
            message = "This is not your viewer ID. Deleting a viewer needs it as confirmation."
            refuse(UserErrorCode.NOT_FOUND, message, "viewerId")
        await self._eraser.erase(viewer.id)
        self._known.pop(viewer.id, None)
        return viewer.id

    async def _store_samples(
        self, viewer_id: ViewerId, load_samples: Callable[[], Sequence[Sample]]
    ) -> None:
        records: list[ImageRecord] = []
        try:
            async with asyncio.timeout(_STORE_SECONDS):
                for sample in await asyncio.to_thread(load_samples):
                    records.append(await self._store(sample))
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("no sample images", extra={"reason": str(error) or type(error).__name__})
            self._failed_at = monotonic()
            await self._delete_bytes(records)
            return
        if not await self._viewers.welcome(viewer_id, records):
            await self._delete_bytes(records)  # Another process was first.
        self._remember(viewer_id)

    async def _delete_bytes(self, records: Sequence[ImageRecord]) -> None:
        await self._image_writer.delete([key for record in records for key in record.image.keys])

    async def _store(self, sample: Sample) -> ImageRecord:
        image = await self._image_writer.store(
            sample.image,
            origin=ImageOrigin.SAMPLE,
            created_at=datetime.now(UTC),
            model_id=sample.model_id,
        )
        return ImageRecord(image, sample.prompt, ())

    def _is_pausing(self) -> bool:
        return monotonic() - self._failed_at < _PAUSE_SECONDS

    def _remember(self, viewer_id: ViewerId) -> None:
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[viewer_id] = None
