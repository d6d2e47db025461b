"""Makes the images of an import: decodes several at a time, and writes several at once.

At most the files of `_AT_ONCE` images and the renditions of one group are in memory.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from domain.batches import finish_in_parallel, in_batches
from domain.errors import Overloaded
from domain.execution.export_check import CheckedExport
from domain.execution.image_writer import ImageWriter, new_image
from domain.execution.leases import LeaseLost
from domain.ids import ImageId
from domain.images import Image, ImageRecord, ProcessedImage
from domain.import_format.reader import ImportedImage
from domain.jobs import Import, JobClaim
from domain.ports.images import ImageRepository
from domain.ports.imaging import ImageMarker, UploadProcessor
from domain.ports.jobs import ImportRepository
from domain.ports.objects import ArchiveStore
from domain.retries import RetryPolicy, retry

_BATCH_SIZE: Final = 100
_AT_ONCE: Final = 3
"""One more than the sandbox decodes, so that it does not wait for what reads and writes."""
GROUP_SIZE: Final = 5
_GROUP_BYTES: Final = 16_000_000
"""A group is written once it has as many images or bytes."""
_STORED_AT_ONCE: Final = 4
_SANDBOX_BUSY: Final = RetryPolicy(first_pause_seconds=0.5, longest_pause_seconds=4.0, max_tries=8)


@dataclass(frozen=True, slots=True)
class _Decoded:
    imported: ImportedImage
    image: Image
    processed: ProcessedImage

    @property
    def byte_size(self) -> int:
        renditions = (self.processed.original, *self.processed.thumbnails)
        return sum(len(rendition.data) for rendition in renditions)


class ImageImports:
    def __init__(
        self,
        imports: ImportRepository,
        images: ImageRepository,
        objects: ArchiveStore,
        *,
        upload_processor: UploadProcessor,
        image_marker: ImageMarker,
    ) -> None:
        self._imports = imports
        self._images = images
        self._upload_processor = upload_processor
        self._image_marker = image_marker
        self._writer = ImageWriter(objects)

    async def make(
        self,
        claim: JobClaim[Import],
        export: CheckedExport,
        *,
        renew: Callable[[float], Awaitable[None]],
    ) -> Mapping[ImageId, Image]:
        """Make those that no earlier try has made, and return all. `renew` gets the progress.
        Raise PictureRefused or NotAnExport where one of them is no image.
        """
        images: dict[ImageId, Image] = {}
        imported = list(export.images.values())

        async def keep_lease() -> None:
            await renew(len(images) / len(imported))

        for batch in in_batches(imported, _BATCH_SIZE):
            known = await self._images.get_many(claim.job.owner_id, [image.id for image in batch])
            images.update((image_id, record.image) for image_id, record in known.items())
            group: list[_Decoded] = []
            async with aclosing(
                self._decode(export, [image for image in batch if image.id not in images])
            ) as all_decoded:
                async for decoded in all_decoded:
                    group.append(decoded)
                    images[decoded.image.id] = decoded.image
                    if _is_full(group):
                        await self._store(claim, export, group, keep_lease=keep_lease)
                        group.clear()
                    await keep_lease()
            await self._store(claim, export, group, keep_lease=keep_lease)
        return images

    def _decode(
        self, export: CheckedExport, images: Iterable[ImportedImage]
    ) -> AsyncGenerator[_Decoded, None]:
        reading = asyncio.Lock()

        async def decode(imported: ImportedImage) -> _Decoded:
            # One after the other: they share the blocks that are read from the store.
            async with reading:
                data = await asyncio.to_thread(export.read_file, imported)
            return await self._decode_one(imported, data)

        return finish_in_parallel(decode, images, at_once=_AT_ONCE)

    async def _decode_one(self, imported: ImportedImage, data: bytes) -> _Decoded:
        async def process() -> ProcessedImage:
            return await self._upload_processor.process_upload(data)

        processed = await retry(process, on=Overloaded, policy=_SANDBOX_BUSY)
        if imported.source is not None:
            processed = await self._image_marker.mark(processed, source=imported.source)
        image = new_image(
            processed,
            origin=imported.origin,
            created_at=imported.created_at,
            model_id=imported.model_id,
            seed=imported.seed,
            output_id=imported.output_id,
        )
        return _Decoded(imported, replace(image, id=imported.id), processed)

    async def _store(
        self,
        claim: JobClaim[Import],
        export: CheckedExport,
        group: Sequence[_Decoded],
        *,
        keep_lease: Callable[[], Awaitable[None]],
    ) -> None:
        """Write the bytes, and then the records in one transaction."""
        if not group:
            return
        keys = [key for decoded in group for key in decoded.image.keys]
        # If this process dies before the records are written, the next process deletes the bytes.
        if not await self._imports.expect_bytes(claim, keys):
            raise LeaseLost
        try:
            await self._put(group, keep_lease)
            if not await self._imports.add_images(claim, [_record(one, export) for one in group]):
                raise LeaseLost
        except LeaseLost:
            await self._writer.delete(keys)
            raise

    async def _put(
        self, group: Sequence[_Decoded], keep_lease: Callable[[], Awaitable[None]]
    ) -> None:
        async def put(decoded: _Decoded) -> None:
            await self._writer.put(decoded.image, decoded.processed)

        async with aclosing(finish_in_parallel(put, group, at_once=_STORED_AT_ONCE)) as written:
            async for _ in written:
                await keep_lease()  # A slow store takes longer for all of them than the lease.


def _is_full(group: Sequence[_Decoded]) -> bool:
    return len(group) >= GROUP_SIZE or sum(decoded.byte_size for decoded in group) >= _GROUP_BYTES


def _record(decoded: _Decoded, export: CheckedExport) -> ImageRecord:
    imported = decoded.imported
    return ImageRecord(
        decoded.image,
        prompt=imported.prompt,
        made_from=tuple(image_id for image_id in imported.made_from if image_id in export.images),
        favourite=imported.favourite,
    )
