"""Checks images, and makes their renditions.

What is stored has been decoded. `threaded.py` and `sandbox.py` decide where this runs, and within
which limits.
"""

from base64 import b64encode
from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final

from PIL import Image, WebPImagePlugin  # noqa: F401 - it encodes WebP
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

from domain.images import ProcessedImage, Rendition
from storage.imaging.container import Container
from storage.imaging.decoding import decode, may_look_different
from storage.imaging.srgb import is_plain_srgb, to_srgb
from storage.imaging.thumbhash import thumbhash_of

THUMBNAIL_WIDTHS: Final = (256, 512, 1024)
PREVIEW_WIDTH: Final = 512

_MAX_WEBP_SIDE: Final = 16_383
_PLACEHOLDER_SIDE: Final = 32
_THUMBNAIL_QUALITY: Final = 80
_REFERENCE_QUALITY: Final = 90
_REENCODED_QUALITY: Final = 92
_PNG_COMPRESSION_LEVEL: Final = 4
_FAST_LOSSLESS_WEBP: Final[Mapping[str, Any]] = {"lossless": True, "quality": 0, "method": 1}
_PNG: Final = "image/png"
_WEBP: Final = "image/webp"
_JPEG: Final = "image/jpeg"
_FORMATS: Final = {_PNG: "PNG", _JPEG: "JPEG", _WEBP: "WEBP"}
_TRANSPOSITIONS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def process(container: Container) -> ProcessedImage:
    """Process an image; its bytes are kept unchanged if they are a tidy, upright image in sRGB."""
    file = decode(container)
    picture = _to_upright_srgb(file, container)
    if (
        container.tidy
        and container.orientation == 1
        and is_plain_srgb(container)
        and not may_look_different(file, container)
    ):
        original = Rendition(
            data=container.data,
            content_type=container.content_type,
            width=container.width,
            height=container.height,
        )
    else:
        options = _options_like_the_file(file, container)
        original = _encode(picture, container.content_type, options)
    return _add_thumbnails(original, picture)


def reencode(picture: Image.Image, container: Container) -> ProcessedImage:
    """Process a decoded image; nothing is kept of the bytes that it was decoded from."""
    upright = _to_upright_srgb(picture, container)
    content_type = container.content_type
    if content_type not in _FORMATS:
        content_type = _WEBP if upright.mode == "RGBA" else _JPEG
    original = _encode(
        upright, content_type, _options_without_the_file(picture, content_type, container)
    )
    return _add_thumbnails(original, upright)


def keep_losslessly(picture: Image.Image, content_type: str | None) -> ProcessedImage:
    """Every pixel unchanged, in a WebP if that is the type and has room for it, else in a PNG."""
    if content_type != _WEBP or max(picture.size) > _MAX_WEBP_SIDE:
        content_type, options = _PNG, {"compress_level": _PNG_COMPRESSION_LEVEL}
    else:
        options = {**_FAST_LOSSLESS_WEBP, "exact": True}
    return _add_thumbnails(_encode(picture, content_type, options), picture)


def _add_thumbnails(original: Rendition, picture: Image.Image) -> ProcessedImage:
    thumbnails: list[Rendition] = []
    for width in reversed(THUMBNAIL_WIDTHS):
        height = max(1, round(original.height * width / original.width))
        if width < original.width and height <= _MAX_WEBP_SIDE:
            picture = _resize(picture, width, height)
            thumbnails.append(_encode_thumbnail(picture))
    return ProcessedImage(
        original=original,
        thumbhash=_placeholder(picture),
        thumbnails=tuple(reversed(thumbnails)),
    )


def preview(container: Container) -> Rendition:
    draft_width = PREVIEW_WIDTH if container.orientation == 1 else None
    picture = _to_upright_srgb(decode(container, draft_width=draft_width), container)
    width, height = picture.size
    scale = min(1, PREVIEW_WIDTH / width, _MAX_WEBP_SIDE / height)
    return _encode_thumbnail(
        _resize(picture, max(1, round(width * scale)), max(1, round(height * scale)))
    )


def shrink(container: Container, *, max_bytes: int) -> Rendition:
    picture = _to_upright_srgb(decode(container), container)
    scale = 1.0
    while True:
        width, height = (max(1, round(side * scale)) for side in picture.size)
        smaller = _resize(picture, width, height)
        if smaller.mode == "RGBA":
            rendition = _encode(smaller, _PNG, {})
        else:
            rendition = _encode(smaller, _JPEG, {"quality": _REFERENCE_QUALITY})
        if len(rendition.data) <= max_bytes or max(width, height) == 1:
            return rendition
        # The number of bytes is roughly proportional to the area. A little less, so that it ends
        # soon.
        scale *= 0.9 * (max_bytes / len(rendition.data)) ** 0.5


def decode_upright(container: Container) -> Image.Image:
    """The image as it is meant to be seen, in RGB, or in RGBA if it has transparency."""
    return _to_upright_srgb(decode(container), container)


def _to_upright_srgb(picture: Image.Image, container: Container) -> Image.Image:
    """The image as it is meant to be seen: upright, in sRGB."""
    picture = to_srgb(picture, container)
    transposition = _TRANSPOSITIONS.get(container.orientation)
    return picture if transposition is None else picture.transpose(transposition)


def _options_like_the_file(picture: Image.Image, container: Container) -> dict[str, Any]:
    """Encode it with as little change as the format allows."""
    if isinstance(picture, JpegImageFile):
        # With the tables of the first encoder, the second one loses hardly anything.
        sampling = get_sampling(picture)
        options = {"qtables": picture.quantization, "subsampling": sampling}
        return {"quality": 95} | (options if sampling >= 0 else {})
    if container.content_type == _WEBP:
        return {"lossless": container.lossless, "quality": 95, "exact": True}
    return {}


def _options_without_the_file(
    picture: Image.Image, content_type: str, container: Container
) -> Mapping[str, Any]:
    """Encode it without anything from the first encoder into which an attacker could have written
    data, not even its tables. 40 megapixels take a few seconds at most.
    """
    if isinstance(picture, JpegImageFile):
        sampling = get_sampling(picture)
        return {"quality": _REENCODED_QUALITY} | (
            {"subsampling": sampling} if sampling >= 0 else {}
        )
    if content_type == _JPEG:
        return {"quality": _REENCODED_QUALITY}
    if content_type == _WEBP:
        if container.lossless:
            return _FAST_LOSSLESS_WEBP
        # With the faster methods a large image can get more modes than a WebP has room for.
        return {"quality": _REENCODED_QUALITY, "method": 2}
    return {"compress_level": _PNG_COMPRESSION_LEVEL}


def _encode(picture: Image.Image, content_type: str, options: Mapping[str, Any]) -> Rendition:
    buffer = BytesIO()
    image_format = _FORMATS[content_type]
    if image_format == "JPEG" and picture.mode != "RGB":
        picture = picture.convert("RGB")
    picture.save(buffer, image_format, **options)
    return Rendition(
        data=buffer.getvalue(),
        content_type=content_type,
        width=picture.width,
        height=picture.height,
    )


def _resize(picture: Image.Image, width: int, height: int) -> Image.Image:
    if picture.size == (width, height):
        return picture
    return picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)


def _encode_thumbnail(picture: Image.Image) -> Rendition:
    return _encode(picture, _WEBP, {"quality": _THUMBNAIL_QUALITY})


def _placeholder(picture: Image.Image) -> str:
    scale = min(1, _PLACEHOLDER_SIDE / max(picture.size))
    width, height = (max(1, round(side * scale)) for side in picture.size)
    small = _resize(picture, width, height).convert("RGBA")
    return b64encode(thumbhash_of(width, height, small.tobytes())).decode()
