"""Decoding and encoding images, off the event loop."""

from collections.abc import Collection
from typing import Final, Protocol

from domain.images import (
    DigitalSourceType,
    Drift,
    EditedImage,
    ProcessedImage,
    Rendition,
)


class ImageProcessor(Protocol):
    """Decodes pictures, off the event loop. Raises `GenerationFailed` where they are none."""

    async def process(
        self, data: bytes, *, source: DigitalSourceType | None = None
    ) -> ProcessedImage:
        """All renditions. They say how the picture was made, if `source` does."""

    async def preview(self, data: bytes, *, source: DigitalSourceType | None = None) -> Rendition:
        """A small WebP of a partial image."""

    async def shrink(self, data: bytes, *, max_bytes: int) -> Rendition:
        """The same picture as a PNG or JPEG, scaled down until it has at most so many bytes."""

    async def compare(
        self, base: bytes, edited: bytes, *, mask: bytes | None = None, feather: int = 0
    ) -> Drift:
        """How much of a base has been changed. Thumbnails are enough: no finer detail is compared.

        `mask`: any picture of the base's shape, where white may change and black may not; clear
        parts count as black. `feather`: over how many pixels of the base as it is given here the
        mask's edges fade outwards.
        """

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
        """The base, in its size, with the edit aligned and mixed in as far as the mask says.

        Pixels outside of the mask and its feather are the base's own. It is a lossless WebP if that
        is the `content_type`, else a PNG.
        """

    async def mask_for_model(
        self, mask: bytes, *, width: int, height: int, feather: int
    ) -> Rendition:
        """A PNG of this size in which all that may change, even partly, is clear."""


HEIC_UNSUPPORTED: Final = (
    "HEIC images cannot be read here. Convert the photo to JPEG, or choose Settings > Camera > "
    "Formats > Most Compatible on an iPhone."
)


class UploadProcessor(Protocol):
    content_types: Collection[str]
    """What can be decoded on this machine: HEIC needs a library that not every machine has."""

    async def process_upload(self, data: bytes) -> ProcessedImage:
        """What a client has sent, turned upright, without metadata, encoded again in its format.

        HEIC becomes a JPEG, or a WebP where something can be seen through.
        The format is what the bytes are, whatever was declared: browsers take a type from a file's
        name. Raise `PictureRefused` where it is not one picture within the limits.
        """
