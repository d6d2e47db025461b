"""The references of a run as providers take them: as bytes, and never as a link to us.

A folder's links lead to this machine, where no provider can fetch them; and what is put into a
provider's own store can be seen by anyone who learns its address.
"""

from base64 import b64encode
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from domain.images import Image
from domain.ports.imaging import ImageProcessor
from domain.ports.objects import ObjectStore
from providers.failures import REJECTED_INPUT

MAX_TOGETHER_BYTES: Final = 64 * 2**20
"""Of all references of a run: they are in memory together while they are sent."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An encoded picture, whole."""

    data: bytes
    content_type: str

    def as_base64(self) -> str:
        return b64encode(self.data).decode()

    def as_link(self) -> str:
        """A `data:` URI."""
        return f"data:{self.content_type};base64,{self.as_base64()}"


@dataclass(frozen=True, slots=True)
class References:
    """Reads references, and converts those that a provider would not take."""

    store: ObjectStore
    image_processor: ImageProcessor
    max_together: int = MAX_TOGETHER_BYTES

    async def read(
        self,
        images: Iterable[Image],
        *,
        max_bytes: int | None = None,
        content_types: Collection[str] | None = None,
    ) -> list[Reference]:
        """Read them in their order, each with at most so many bytes; convert to PNG or JPEG those
        that have none of these types.

        Raise `GenerationFailed` with PROVIDER_REJECTED_INPUT where they are too large together.
        """
        read: list[Reference] = []
        for image in images:
            reference = Reference(await self.store.get(image.key), image.content_type)
            most = self.max_together if max_bytes is None else max_bytes
            is_foreign = content_types is not None and reference.content_type not in content_types
            if is_foreign or (max_bytes is not None and len(reference.data) > max_bytes):
                other = await self.image_processor.shrink(reference.data, max_bytes=most)
                reference = Reference(other.data, other.content_type)
            read.append(reference)
            if sum(len(one.data) for one in read) > self.max_together:
                raise REJECTED_INPUT.failure("the references are too large together")
        return read


def fair_share(images: Iterable[Image], together: int) -> int:
    """How many bytes each may have, so that all together have no more than `together`.

    What small ones do not need is shared among the large ones.
    """
    share = together
    sizes = sorted(image.byte_size for image in images)
    for index, size in enumerate(sizes):
        share = together // (len(sizes) - index)
        if size > share:
            break
        together -= size
    return share
