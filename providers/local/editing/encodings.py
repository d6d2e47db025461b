"""Bytes to pictures and back."""

import io
from typing import Final

from PIL import Image, ImageOps, UnidentifiedImageError

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.models import ImageFormat
from providers.local.editing.textures import Size

_LARGEST_PIXELS: Final = 64_000_000
_PAPER: Final = (250, 249, 245)
_WAYS: Final[dict[ImageFormat, dict[str, int]]] = {
    ImageFormat.JPEG: {"quality": 90, "subsampling": 0},
    ImageFormat.WEBP: {"quality": 88, "method": 3},
    ImageFormat.PNG: {"compress_level": 4},
}


def decode(data: bytes, *, at_least: Size) -> Image.Image:
    """The picture upright, in RGB, on white where it is transparent.

    It may come back smaller than it was, though not below `at_least`. Raise `GenerationFailed`
    where the bytes are no picture that can be worked on.
    """
    try:
        picture = Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP"))
        if picture.width * picture.height > _LARGEST_PIXELS:
            raise _rejected(f"{picture.width} x {picture.height} pixels are too many")
        if picture.format == "JPEG":
            # Twice what is needed is enough, and much cheaper to decode and to keep.
            picture.draft("RGB", (2 * at_least[0], 2 * at_least[1]))
        picture.load()
        upright = ImageOps.exif_transpose(picture)
    except (
        OSError,
        SyntaxError,
        ValueError,
        UnidentifiedImageError,
        Image.DecompressionBombError,
    ) as error:
        raise _rejected(str(error)) from error
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        paper = Image.new("RGB", upright.size, _PAPER)
        paper.paste(upright, (0, 0), upright.getchannel("A"))
        return paper
    return upright.convert("RGB")


def encode(picture: Image.Image, format: ImageFormat) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format.value, **_WAYS[format])
    return buffer.getvalue()


def encode_small(picture: Image.Image) -> bytes:
    """For partial images, which are looked at for a moment."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=78)
    return buffer.getvalue()


def _rejected(detail: str) -> GenerationFailed:
    return GenerationFailed(
        GenerationErrorCode.PROVIDER_REJECTED_INPUT, retryable=False, detail=f"reference: {detail}"
    )
