"""The references of a run in the form that providers take: as bytes, and never as a link to this
server.

A folder's links lead to this machine, where no provider can fetch them; and files in a provider's
own store can be seen by anyone who learns their address.
"""

from base64 import b64encode
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final

from domain.generation import Mask
from domain.images import Image
from domain.ports.imaging import ImageProcessor
from domain.ports.objects import ObjectStore
from providers.failures import REJECTED_INPUT

MAX_TOGETHER_BYTES: Final = 64 * 2**20
"""The size of all references of a run: they are in memory together while they are sent."""
_MAX_MASK_BYTES: Final = 4_000_000
"""What OpenAI takes."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An encoded image, complete."""

    data: bytes
    content_type: str
    width: int
    height: int
    mask: "Reference | None" = None
    """A PNG of the same size that is transparent where the image may change."""

    def as_base64(self) -> str:
        return b64encode(self.data).decode()

    def as_link(self) -> str:
        """A `data:` URI."""
        return f"data:{self.content_type};base64,{self.as_base64()}"


@dataclass(frozen=True, slots=True)
class References:
    """Reads references, and converts those that a provider would not accept."""

    store: ObjectStore
    image_processor: ImageProcessor
    max_together: int = MAX_TOGETHER_BYTES

    async def read(
        self,
        images: Iterable[Image],
        *,
        max_bytes: int | None = None,
        content_types: Collection[str] | None = None,
        mask: Mask | None = None,
    ) -> list[Reference]:
        """Read references in their order, each with at most this many bytes; convert those of other
        types to PNG or JPEG. The first one gets the mask.

        Raise `GenerationFailed` with PROVIDER_REJECTED_INPUT where they are too large together.
        """
        read: list[Reference] = []
        for image in images:
            data = await self.store.get(image.key)
            reference = Reference(data, image.content_type, image.width, image.height)
            most = self.max_together if max_bytes is None else max_bytes
            is_foreign = content_types is not None and reference.content_type not in content_types
            if is_foreign or (max_bytes is not None and len(reference.data) > max_bytes):
                other = await self.image_processor.shrink(reference.data, max_bytes=most)
                reference = Reference(other.data, other.content_type, other.width, other.height)
            if mask is not None and not read:
                reference = replace(reference, mask=await self._fit(mask, image, reference))
            read.append(reference)
            if sum(len(earlier.data) for earlier in read) > self.max_together:
                raise REJECTED_INPUT.failure("the references are too large together")
        return read

    async def _fit(self, mask: Mask, image: Image, reference: Reference) -> Reference:
        """The mask in the size in which the reference is sent."""
        width, height = reference.width, reference.height
        fitted = await self.image_processor.make_mask_for_model(
            await self.store.get(mask.image.key),
            width=width,
            height=height,
            feather=round(mask.feather * width / image.width),
        )
        if len(fitted.data) > _MAX_MASK_BYTES:
            raise REJECTED_INPUT.failure("the mask is too large")
        return Reference(fitted.data, fitted.content_type, width, height)


def fair_share(images: Iterable[Image], together: int) -> int:
    """How many bytes each may have, so that all have no more than `together`. What small ones do
    not need is shared among the large ones.
    """
    share = together
    sizes = sorted(image.byte_size for image in images)
    for index, size in enumerate(sizes):
        share = together // (len(sizes) - index)
        if size > share:
            break
        together -= size
    return share
