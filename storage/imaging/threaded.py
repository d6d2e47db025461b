"""Decodes providers' images in threads, so that the event loop stays free.

The modules that compare and mix edits are imported at their first use: numpy takes 22 MB.
"""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import Final, TypeVar

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.images import (
    DigitalSourceType,
    Drift,
    EditedImage,
    ProcessedImage,
    Rendition,
)
from storage.imaging.container import Container
from storage.imaging.containers import read_container
from storage.imaging.content_credentials import ContentCredentials
from storage.imaging.decoding import UNDECODABLE
from storage.imaging.provenance import mark, mark_rendition
from storage.imaging.renditions import (
    decode_upright,
    keep_losslessly,
    preview,
    process,
    shrink,
)

MAX_PIXELS: Final = 100_000_000

_LARGE_PIXELS: Final = 25_000_000

Result = TypeVar("Result")


class ThreadedImageProcessor:
    """An `ImageProcessor` with threads of its own."""

    def __init__(self, *, threads: int = 2, credentials: ContentCredentials | None = None) -> None:
        """With `credentials`, generated images are signed."""
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="imaging")
        self._credentials = credentials
        self._one_large_at_a_time = Lock()

    async def process(
        self, data: bytes, *, source: DigitalSourceType | None = None
    ) -> ProcessedImage:
        """Process a delivered image; its bytes are kept unchanged if they are a bare, upright image
        in sRGB.

        Metadata is removed without touching pixels; only an image that has to be turned, or is in
        another colour space, is encoded again. With a `source`, all renditions are marked, and a
        manifest of provenance is kept; see `provenance.py`.
        """

        def work(container: Container) -> ProcessedImage:
            return self._mark(process(container), source, delivered=data, bare=container.data)

        return await self._run(work, data)

    async def mark(self, processed: ProcessedImage, *, source: DigitalSourceType) -> ProcessedImage:
        """Mark an image that has been decoded and encoded here. No pixel is decoded again."""
        data = processed.original.data
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads,
            lambda: self._mark(processed, source, delivered=data, bare=data),
        )

    async def preview(self, data: bytes, *, source: DigitalSourceType | None = None) -> Rendition:
        """A WebP without metadata except its `source`, at most 512 pixels wide."""

        def work(container: Container) -> Rendition:
            rendition = preview(container)
            return rendition if source is None else mark_rendition(rendition, source)

        return await self._run(work, data)

    async def shrink(self, data: bytes, *, max_bytes: int) -> Rendition:
        """A JPEG, or a PNG if it has transparency, of at most this many bytes. Every provider
        accepts these two.
        """
        return await self._run(functools.partial(shrink, max_bytes=max_bytes), data)

    async def compare(
        self, base: bytes, edited: bytes, *, mask: bytes | None = None, feather: int = 0
    ) -> Drift:
        def work(*files: Container) -> Drift:
            from storage.imaging.edits import DRIFT_SIDE, compare  # noqa: PLC0415
            from storage.imaging.masks import read_mask  # noqa: PLC0415

            base_image, edited_image = (decode_upright(file) for file in files[:2])
            edit_mask = (
                read_mask(files[2], base_image.size, feather=feather) if mask is not None else None
            )
            return compare(base_image, edited_image, edit_mask, side=DRIFT_SIDE)[0]

        return await self._run(work, base, edited, *([mask] if mask is not None else []))

    async def put_back(
        self,
        edited: bytes,
        base: bytes,
        *,
        mask: bytes,
        feather: int,
        content_type: str | None = None,
        source: DigitalSourceType | None = None,
    ) -> EditedImage:
        def work(edited_file: Container, base_file: Container, mask_file: Container) -> EditedImage:
            from storage.imaging.edits import compare, put_back  # noqa: PLC0415
            from storage.imaging.masks import read_mask  # noqa: PLC0415

            base_image = decode_upright(base_file)
            edit_mask = read_mask(mask_file, base_image.size, feather=feather)
            edited_image = decode_upright(edited_file)
            drift, alignment = compare(base_image, edited_image, edit_mask)
            result = put_back(base_image, edited_image, mask=edit_mask, alignment=alignment)
            del base_image, edited_image, edit_mask
            processed = self._mark(
                keep_losslessly(result, content_type),
                source,
                delivered=edited,
                bare=edited_file.data,
            )
            return EditedImage(processed, drift)

        return await self._run(work, edited, base, mask)

    async def make_mask_for_model(
        self, mask: bytes, *, width: int, height: int, feather: int
    ) -> Rendition:
        def work(file: Container) -> Rendition:
            from storage.imaging.masks import mask_for_model, read_mask  # noqa: PLC0415

            return mask_for_model(read_mask(file, (width, height), feather=feather))

        return await self._run(work, mask)

    async def aclose(self) -> None:
        """Wait for the images that are being decoded, and drop those that have not been started."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    def _mark(
        self,
        processed: ProcessedImage,
        source: DigitalSourceType | None,
        *,
        delivered: bytes,
        bare: bytes,
    ) -> ProcessedImage:
        if source is None:
            return processed
        return mark(
            processed, source, delivered=delivered, bare=bare, credentials=self._credentials
        )

    async def _run(self, work: Callable[..., Result], *data: bytes) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._work, work, *data)

    def _work(self, work: Callable[..., Result], *data: bytes) -> Result:
        try:
            containers = [read_container(file, max_pixels=MAX_PIXELS) for file in data]
            with self._memory_for(sum(file.width * file.height for file in containers)):
                return work(*containers)
        except UNDECODABLE as error:
            raise GenerationFailed(
                GenerationErrorCode.PROVIDER_BAD_RESPONSE,
                retryable=False,
                detail=f"undecodable picture: {type(error).__name__}: {error}",
            ) from error

    def _memory_for(self, pixels: int) -> AbstractContextManager[object]:
        """An image of 100 megapixels takes up to 1 GB while it is scaled; two would take twice as
        much.
        """
        return self._one_large_at_a_time if pixels > _LARGE_PIXELS else nullcontext()
