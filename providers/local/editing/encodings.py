"""Decodes and encodes pictures."""

import io
from typing import Final

from PIL import Image, ImageOps, UnidentifiedImageError

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.models import ImageFormat
from providers.local.editing.textures import Size

_MAX_PIXELS: Final = 64_000_000
_PAPER: Final = (250, 249, 245)
_ENCODER_OPTIONS: Final[dict[ImageFormat, dict[str, int]]] = {
    ImageFormat.JPEG: {"quality": 90, "subsampling": 0},
    ImageFormat.WEBP: {"quality": 88, "method": 3},
    ImageFormat.PNG: {"compress_level": 4},
}


def decode(data: bytes, *, at_least: Size) -> Image.Image:
    """The picture upright, in RGB, on white where it is transparent.

    It may be smaller than the original, but not below `at_least`. Raise `GenerationFailed` if the
    bytes are not a picture that can be edited.
    """
    try:
        picture = Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP"))
        if picture.width * picture.height > _MAX_PIXELS:
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
    picture.save(buffer, format.value, **_ENCODER_OPTIONS[format])
    return buffer.getvalue()


def encode_small(picture: Image.Image) -> bytes:
    """Encode a preview, which is shown for a moment, at a lower quality."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=78)
    return buffer.getvalue()


def _rejected(detail: str) -> GenerationFailed:
    return GenerationFailed(
        GenerationErrorCode.PROVIDER_REJECTED_INPUT, retryable=False, detail=f"reference: {detail}"
    )
