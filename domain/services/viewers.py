"""Viewers: in development, somebody seen for the first time finds a few pictures to begin with."""

import asyncio
import logging
from datetime import UTC, datetime
from time import monotonic
from typing import Final

from domain.errors import GenerationFailed, StoreUnavailable
from domain.execution.image_writer import ImageWriter
from domain.generation import GenerationRequest, SilentWatcher
from domain.ids import ViewerId
from domain.images import ImageOrigin, ImageRecord, ProcessedImage
from domain.models import AspectRatio, ImageModel, Resolution
from domain.ports.imaging import ImageProcessor
from domain.ports.providers import Provider
from domain.ports.repositories import ViewerRepository
from domain.viewers import Viewer

log = logging.getLogger(__name__)

_SAMPLES: Final = (
    ("A city at night in the rain", AspectRatio(4, 5)),
    ("A field of poppies on a clear morning", AspectRatio(1, 1)),
    ("Snowy mountains and a forest under the moon", AspectRatio(3, 2)),
    ("A lighthouse above the sea at sunset", AspectRatio(16, 9)),
)
_REMEMBERED: Final = 10_000
_PATIENCE_SECONDS: Final = 6.0
"""Less than a request has."""
_PAUSE_SECONDS: Final = 30.0
"""After a failure, before samples are tried again: requests would wait for each trial."""


class SampleMaker:
    """Makes the sample pictures, once in the life of a process."""

    def __init__(
        self, provider: Provider, models: tuple[ImageModel, ...], image_processor: ImageProcessor
    ) -> None:
        self._provider = provider
        self._models = models
        self._image_processor = image_processor
        self._lock = asyncio.Lock()
        self._made: list[tuple[str, ImageModel, ProcessedImage]] = []

    async def samples(self) -> list[tuple[str, ImageModel, ProcessedImage]]:
        async with self._lock:
            while len(self._made) < len(_SAMPLES):
                prompt, ratio = _SAMPLES[len(self._made)]
                # The newest, which people see first, is by the first model.
                model = self._models[(len(_SAMPLES) - len(self._made) - 1) % len(self._models)]
                delivery = await self._provider.generate(
                    _request(prompt, ratio, model), SilentWatcher()
                )
                processed = await self._image_processor.process(delivery.images[0].data)
                self._made.append((prompt, model, processed))
        return self._made


class ViewerService:
    def __init__(
        self, viewers: ViewerRepository, image_writer: ImageWriter, sample_maker: SampleMaker | None
    ) -> None:
        self._viewers = viewers
        self._image_writer = image_writer
        self._sample_maker = sample_maker
        self._known: dict[ViewerId, None] = {}
        self._welcoming: dict[ViewerId, asyncio.Task[None]] = {}
        self._failed_at = -_PAUSE_SECONDS

    async def greet(self, viewer: Viewer) -> None:
        """Give the viewer sample pictures, unless seen before or there are none to give.

        Where making them takes long, they come later: no request fails for want of a sample. Raise
        Overloaded if the database is away.
        """
        if self._sample_maker is None or viewer.id in self._known:
            return
        began = monotonic()
        if began - self._failed_at < _PAUSE_SECONDS:
            return
        if await self._viewers.is_known(viewer.id):
            self._remember(viewer.id)
            return
        task = self._welcoming.get(viewer.id)
        if task is None:
            task = asyncio.create_task(self._welcome(viewer, self._sample_maker), name="welcome")
            self._welcoming[viewer.id] = task
            task.add_done_callback(lambda ended: self._welcomed(viewer.id, ended))
        left = _PATIENCE_SECONDS - (monotonic() - began)
        done, _ = await asyncio.wait([task], timeout=max(left, 0))
        if done:
            task.result()

    def _welcomed(self, viewer_id: ViewerId, task: asyncio.Task[None]) -> None:
        del self._welcoming[viewer_id]
        if not task.cancelled():
            task.exception()  # whoever waited has been told

    def _remember(self, viewer_id: ViewerId) -> None:
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[viewer_id] = None

    async def _welcome(self, viewer: Viewer, maker: SampleMaker) -> None:
        try:
            records = [
                await self._keep(prompt, model, processed)
                for prompt, model, processed in await maker.samples()
            ]
        except (GenerationFailed, StoreUnavailable) as error:
            log.warning("no sample pictures", extra={"reason": str(error)})
            self._failed_at = monotonic()
            return
        if not await self._viewers.welcome(viewer.id, records):
            # Another process came first.
            await self._image_writer.delete(
                [key for record in records for key in record.image.keys]
            )
        self._remember(viewer.id)

    async def _keep(self, prompt: str, model: ImageModel, processed: ProcessedImage) -> ImageRecord:
        image = await self._image_writer.store(
            processed,
            origin=ImageOrigin.SAMPLE,
            created_at=datetime.now(UTC),
            model_id=model.id,
        )
        return ImageRecord(image, prompt, ())


def _request(prompt: str, ratio: AspectRatio, model: ImageModel) -> GenerationRequest:
    return GenerationRequest(
        attempt=1,
        model=model,
        prompt=prompt,
        references=(),
        aspect_ratio=ratio,
        resolution=Resolution.ONE_K,
        seconds_left=model.deadline.total_seconds(),
    )
