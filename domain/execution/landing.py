"""Lands the images of one output: stores their bytes, then writes what refers to them.

If the output has several runs, the images of each one land as they come. A failure of the database
never loses a delivered result.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

from domain.claims import Claim
from domain.errors import GenerationFailed, NotBegun, Overloaded, StoreUnavailable
from domain.execution.clock import Clock
from domain.execution.database_retries import persist
from domain.execution.image_writer import ImageWriter
from domain.execution.leases import LeaseLost
from domain.execution.run_progress import RunProgress
from domain.generation import Delivery
from domain.images import DigitalSourceType, Drift, Image, ImageRecord, ProcessedImage
from domain.models import ImageFormat
from domain.outputs import Report, Run
from domain.ports.execution import ClaimRepository
from domain.ports.images import ImageRepository
from domain.ports.imaging import ImageProcessor
from domain.retries import RetryPolicy, retry

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_WEBP: Final = "image/webp"
_COMPARED_WIDTH: Final = 512
"""The width of the thumbnails by which images are compared."""
_STORE_RETRIES: Final = RetryPolicy(
    first_pause_seconds=0.5, longest_pause_seconds=0.5, max_seconds=60
)


@dataclass(slots=True, kw_only=True)
class Landing:
    """The images of one claim, from their delivery to their records."""

    claim: Claim
    claims: ClaimRepository
    images: ImageRepository
    image_writer: ImageWriter
    image_processor: ImageProcessor
    progress: RunProgress
    clock: Clock
    _stored: list[ImageRecord] = field(default_factory=list)
    """Images that are stored, and that no record can refer to yet."""
    _drift: Drift | None = None
    """How far the output's first image differs from its base."""
    _landed: bool = False
    _landed_count: int = 0
    """How many images the output has already."""

    def __post_init__(self) -> None:
        self._landed_count, self._drift = len(self.claim.output.images), self.claim.output.drift

    async def store(self, delivery: Delivery) -> Sequence[ImageRecord]:
        """Process and store each delivered image. Leave broken ones out if another is intact."""
        output = self.claim.output
        made_from = tuple(reference.image.id for reference in output.references)
        source = DigitalSourceType.of_model(edited=bool(made_from))
        broken: GenerationFailed | None = None
        records: list[ImageRecord] = []
        for delivered in delivery.images:
            try:
                processed = await self._process(delivered.data, source, delivery)
            except GenerationFailed as failure:
                broken = failure
                continue
            image = await self._retry(
                partial(self._store, processed, self.clock.now(), delivered.seed)
            )
            records.append(ImageRecord(image, self.claim.parent.user_message, made_from))
            self._stored.append(records[-1])
        if broken is not None and not records:
            raise broken
        return records

    async def add(
        self, records: Sequence[ImageRecord], report: Report, *, runs: Sequence[Run]
    ) -> None:
        """Write some of the stored images, while the output goes on running. Raise LeaseLost where
        the claim has ended.
        """
        report = replace(report, drift=self._drift)
        await self._write_references(
            records, lambda: self.claims.add_images(self.claim, records, report, runs=runs)
        )
        self._landed_count += len(records)

    async def land(self, report: Report) -> None:
        """Write the stored images, and end the output. Raise LeaseLost where the claim
        has ended.
        """
        records, report = tuple(self._stored), replace(report, drift=self._drift)
        await self._write_references(
            records,
            lambda: self.claims.land(self.claim, records, report, landed=self._landed_count),
        )
        self._landed = True

    async def _write_references(
        self, records: Sequence[ImageRecord], write: Callable[[], Awaitable[bool]]
    ) -> None:
        # The database may commit a write although its answer is lost, and a read may not show it
        # yet: the bytes have to stay until the outcome is certain.
        self._stored = [record for record in self._stored if record not in records]
        is_certain = True

        async def write_once() -> bool:
            nonlocal is_certain
            try:
                return await write()
            except NotBegun:
                raise
            except Overloaded:
                is_certain = False
                raise

        is_written = await persist(write_once)
        if not is_written and is_certain:
            self._stored += records  # Every write was rejected, so nothing refers to the bytes.
        elif not is_written:
            is_written = await persist(lambda: self._has_landed(records))
        if not is_written:
            raise LeaseLost

    async def delete_unused_bytes(self) -> None:
        """Delete bytes that nothing refers to: old previews, images that did not land."""
        keys = [key for record in self._stored for key in record.image.keys]
        keys.extend(self.progress.old_previews)
        if self._landed:
            keys.extend(self.progress.shown_previews)
        await self.image_writer.delete(keys)

    @property
    def _is_first(self) -> bool:
        return not self._landed_count and not self._stored

    async def _process(
        self, data: bytes, source: DigitalSourceType, delivery: Delivery
    ) -> ProcessedImage:
        """Put the base back where a mask protects it, and measure how much has been changed."""
        options, references = self.claim.parent.options, self.claim.output.references
        base, mask = references[0].image if references else None, options.mask
        if base is None or mask is None or (delivery.heeds_mask and not options.keep_outside):
            processed = await self.image_processor.process(data, source=source)
            if base is not None and self._is_first:
                self._drift = await self._compare(base, processed)
            return processed
        edited = await self.image_processor.put_back(
            data,
            await self._retry(partial(self.image_writer.objects.get, base.key)),
            mask=await self._retry(partial(self.image_writer.objects.get, mask.key)),
            feather=options.feather or 0,
            content_type=_WEBP if options.format is ImageFormat.WEBP else None,
            source=source,
        )
        if self._is_first:
            self._drift = edited.drift
        return edited.processed

    async def _compare(self, base: Image, processed: ProcessedImage) -> Drift | None:
        """Read the base; None where it cannot be read, which does not cost the image."""
        options, get = self.claim.parent.options, self.image_writer.objects.get
        widths = [width for width in base.rendition_widths if width >= _COMPARED_WIDTH]
        width = min(widths, default=base.width)
        large_enough = [
            thumbnail for thumbnail in processed.thumbnails if thumbnail.width >= _COMPARED_WIDTH
        ]
        edited = large_enough[0] if large_enough else processed.original
        try:
            return await self.image_processor.compare(
                await get(base.key_at_least(width)),
                edited.data,
                mask=await get(options.mask.key) if options.mask is not None else None,
                feather=round((options.feather or 0) * width / base.width),
            )
        except (StoreUnavailable, GenerationFailed) as reason:
            facts = {"output_id": self.claim.output.id, "reason": str(reason)}
            log.warning("drift not measured", extra=facts)
            return None

    async def _store(
        self, processed: ProcessedImage, created_at: datetime, seed: str | None
    ) -> Image:
        output = self.claim.output
        return await self.image_writer.store(
            processed,
            origin=self.claim.parent.image_origin,
            created_at=created_at,
            model_id=output.model_id,
            seed=seed,
            output_id=output.id,
        )

    async def _retry(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Retry while the store is unavailable, if something may have been billed."""
        if not self.progress.has_asked:
            return await work()
        return await retry(work, on=StoreUnavailable, policy=_STORE_RETRIES)

    async def _has_landed(self, records: Sequence[ImageRecord]) -> bool:
        return await self.images.any_refers_to(
            self.claim.parent.owner_id, [record.image.id for record in records]
        )
