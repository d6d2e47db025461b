"""Storing images: every rendition's bytes go to the object store before a record refers to them."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from domain.errors import StoreUnavailable
from domain.ids import ModelId, OutputId, new_image_id
from domain.images import Image, ImageOrigin, ProcessedImage, new_key, rendition_key
from domain.ports.objects import ObjectStore
from domain.retries import RetryPolicy, retry

_STORE_AWAY: Final = RetryPolicy(first_pause_seconds=0.2, longest_pause_seconds=0.8, max_tries=4)
_DELETE_SECONDS: Final = 3.0
"""The request that waits for a deletion has done its work, and has to be answered in time."""


@dataclass(frozen=True, slots=True)
class ImageWriter:
    objects: ObjectStore

    async def store(
        self,
        processed: ProcessedImage,
        *,
        origin: ImageOrigin,
        created_at: datetime,
        model_id: ModelId | None = None,
        seed: str | None = None,
        output_id: OutputId | None = None,
    ) -> Image:
        """Store the original and its thumbnails under a new key, and return their facts.

        Raise StoreUnavailable after several tries. Nothing is left of an image that is not
        returned: no record could lead to its bytes.
        """
        image = new_image(
            processed,
            origin=origin,
            created_at=created_at,
            model_id=model_id,
            seed=seed,
            output_id=output_id,
        )
        try:
            await self.put(image, processed)
        except BaseException:
            await self.delete(image.keys)
            raise
        return image

    async def put(self, image: Image, processed: ProcessedImage) -> None:
        """Store the original and its thumbnails. Raise StoreUnavailable after several tries."""
        for thumbnail in processed.thumbnails:
            await self._put(rendition_key(image.key, thumbnail.width), thumbnail.data)
        await self._put(image.key, processed.original.data)

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete orphaned objects. Those that take too long are left to orphan collection."""
        with suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(_DELETE_SECONDS):
                await self.objects.delete(keys)

    async def _put(self, key: str, data: bytes) -> None:
        put = partial(self.objects.put, key, data)
        await retry(put, on=StoreUnavailable, policy=_STORE_AWAY)


def new_image(
    processed: ProcessedImage,
    *,
    origin: ImageOrigin,
    created_at: datetime,
    model_id: ModelId | None,
    seed: str | None,
    output_id: OutputId | None,
) -> Image:
    """The facts of an image that is to be stored, with a new id and a new key."""
    original = processed.original
    return Image(
        id=new_image_id(),
        key=new_key("images", original.content_type),
        width=original.width,
        height=original.height,
        content_type=original.content_type,
        byte_size=len(original.data),
        thumbhash=processed.thumbhash,
        rendition_widths=tuple(thumbnail.width for thumbnail in processed.thumbnails),
        origin=origin,
        model_id=model_id,
        seed=seed,
        output_id=output_id,
        created_at=created_at,
        provenance=processed.provenance,
    )
