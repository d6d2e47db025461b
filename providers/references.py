"""The references of a run as providers take them: bytes of ours, and never a link to us.

A folder's links lead to this machine, where no provider can fetch them; and what is put into a
provider's own store can be seen by whoever gets to know its address.
"""

from base64 import b64encode
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.images import Image
from domain.ports.imaging import ImageProcessor
from domain.ports.objects import ObjectStore

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
    """Reads references, and makes others of those that a provider would not take."""

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
        """In their order, each of at most so many bytes, and PNG or JPEG where it is none of these
        types.

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
                raise GenerationFailed(
                    GenerationErrorCode.PROVIDER_REJECTED_INPUT,
                    retryable=False,
                    detail="the references are too large together",
                )
        return read


def fair_share(images: Iterable[Image], together: int) -> int:
    """How many bytes each may have at most, so that all of them have no more than so many together.

    What small ones leave over goes to the large ones.
    """
    share = together
    sizes = sorted(image.byte_size for image in images)
    for place, size in enumerate(sizes):
        share = together // (len(sizes) - place)
        if size > share:
            break
        together -= size
    return share
