"""Decodes and encodes images, off the event loop."""

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
    """Decodes images, off the event loop. Raises `GenerationFailed` for what is not an image."""

    async def process(
        self, data: bytes, *, source: DigitalSourceType | None = None
    ) -> ProcessedImage:
        """Make all renditions. With `source`, their metadata says how the image was made."""

    async def preview(self, data: bytes, *, source: DigitalSourceType | None = None) -> Rendition:
        """A small WebP of a partial image."""

    async def shrink(self, data: bytes, *, max_bytes: int) -> Rendition:
        """The same image as a PNG or JPEG, scaled down until it has at most this many bytes."""

    async def compare(
        self, base: bytes, edited: bytes, *, mask: bytes | None = None, feather: int = 0
    ) -> Drift:
        """Measure how much of a base has been changed. Thumbnails are enough: finer detail is not
        compared.

        `mask`: any image of the base's aspect ratio, where white areas may change and black and
        transparent ones may not. `feather`: the width of the mask's soft edge, outwards, in pixels
        of the base as it is given here.
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
        """The base, in its size, with the edit aligned and blended in where the mask allows it.

        Pixels outside of the mask and its feather are the base's own. The result is a lossless WebP
        if that is the `content_type`, else a PNG.
        """

    async def make_mask_for_model(
        self, mask: bytes, *, width: int, height: int, feather: int
    ) -> Rendition:
        """A PNG of this size that is transparent wherever something may change, even partly."""


class ImageMarker(Protocol):
    async def mark(self, processed: ProcessedImage, *, source: DigitalSourceType) -> ProcessedImage:
        """Write into all renditions, which have no metadata, how the image was made."""


HEIC_UNSUPPORTED: Final = (
    "HEIC images cannot be read here. Convert the photo to JPEG, or choose Settings > Camera > "
    "Formats > Most Compatible on an iPhone."
)


class UploadProcessor(Protocol):
    content_types: Collection[str]
    """The content types that can be decoded on this machine: HEIC needs a library that may be
    missing.
    """

    async def process_upload(self, data: bytes) -> ProcessedImage:
        """Decode a file from a client: turned upright, without metadata, and encoded again in its
        format.

        HEIC becomes a JPEG, or a WebP if it has transparency. The bytes decide about the format,
        not the declared type: browsers derive that from the file's name. Raise `PictureRefused`
        where it is not a single image within the limits.
        """
