"""Decoding and encoding images, off the event loop."""

from typing import Protocol

from domain.images import DigitalSourceType, ProcessedImage, Rendition


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


class UploadProcessor(Protocol):
    async def process_upload(self, data: bytes) -> ProcessedImage:
        """What a client has sent, turned upright, without metadata, encoded again in its format.

        The format is what the bytes are, whatever was declared: browsers take a type from a file's
        name. Raise `PictureRefused` where it is not one picture within the limits.
        """
