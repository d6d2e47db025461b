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
from storage.imaging.decoding import decode, has_surplus
from storage.imaging.srgb import in_srgb, is_plain
from storage.imaging.thumbhash import thumbhash_of

THUMBNAIL_WIDTHS: Final = (256, 512, 1024)
PREVIEW_WIDTH: Final = 512

_MAX_WEBP_SIDE: Final = 16_383
_PLACEHOLDER_SIDE: Final = 32
_THUMBNAIL_QUALITY: Final = 80
_REFERENCE_QUALITY: Final = 90
_ANEW_QUALITY: Final = 92
_ANEW_PNG_LEVEL: Final = 4
_QUICK_LOSSLESS_WEBP: Final[Mapping[str, Any]] = {"lossless": True, "quality": 0, "method": 1}
_PNG: Final = "image/png"
_WEBP: Final = "image/webp"
_JPEG: Final = "image/jpeg"
_FORMATS: Final = {_PNG: "PNG", _JPEG: "JPEG", _WEBP: "WEBP"}
_TURNS: Final = {
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
    picture = _positive(file, container)
    if (
        container.tidy
        and container.orientation == 1
        and is_plain(container)
        and not has_surplus(file, container)
    ):
        original = Rendition(
            data=container.data,
            content_type=container.content_type,
            width=container.width,
            height=container.height,
        )
    else:
        options = _faithful_options(file, container)
        original = _encoded(picture, container.content_type, options)
    return _with_thumbnails(original, picture)


def develop_anew(picture: Image.Image, container: Container) -> ProcessedImage:
    """Process a decoded image; nothing is kept of the bytes that it was decoded from."""
    upright = _positive(picture, container)
    content_type = container.content_type
    if content_type not in _FORMATS:
        content_type = _WEBP if upright.mode == "RGBA" else _JPEG
    original = _encoded(upright, content_type, _safe_options(picture, content_type, container))
    return _with_thumbnails(original, upright)


def keep_losslessly(picture: Image.Image, content_type: str | None) -> ProcessedImage:
    """Every pixel unchanged, in a WebP if that is the type and has room for it, else in a PNG."""
    if content_type != _WEBP or max(picture.size) > _MAX_WEBP_SIDE:
        content_type, options = _PNG, {"compress_level": _ANEW_PNG_LEVEL}
    else:
        options = {**_QUICK_LOSSLESS_WEBP, "exact": True}
    return _with_thumbnails(_encoded(picture, content_type, options), picture)


def _with_thumbnails(original: Rendition, picture: Image.Image) -> ProcessedImage:
    thumbnails: list[Rendition] = []
    for width in reversed(THUMBNAIL_WIDTHS):
        height = max(1, round(original.height * width / original.width))
        if width < original.width and height <= _MAX_WEBP_SIDE:
            picture = _resized(picture, width, height)
            thumbnails.append(_webp(picture))
    return ProcessedImage(
        original=original,
        thumbhash=_placeholder(picture),
        thumbnails=tuple(reversed(thumbnails)),
    )


def preview(container: Container) -> Rendition:
    draft_width = PREVIEW_WIDTH if container.orientation == 1 else None
    picture = _positive(decode(container, draft_width=draft_width), container)
    width, height = picture.size
    scale = min(1, PREVIEW_WIDTH / width, _MAX_WEBP_SIDE / height)
    return _webp(_resized(picture, max(1, round(width * scale)), max(1, round(height * scale))))


def shrink(container: Container, *, max_bytes: int) -> Rendition:
    picture = _positive(decode(container), container)
    scale = 1.0
    while True:
        width, height = (max(1, round(side * scale)) for side in picture.size)
        smaller = _resized(picture, width, height)
        rendition = _png(smaller) if smaller.mode == "RGBA" else _jpeg(smaller)
        if len(rendition.data) <= max_bytes or max(width, height) == 1:
            return rendition
        # The number of bytes is roughly proportional to the area. A little less, so that it ends
        # soon.
        scale *= 0.9 * (max_bytes / len(rendition.data)) ** 0.5


def decode_upright(container: Container) -> Image.Image:
    """The image as it is meant to be seen, in RGB, or in RGBA if it has transparency."""
    return _positive(decode(container), container)


def _positive(picture: Image.Image, container: Container) -> Image.Image:
    """The image as it is meant to be seen: upright, in sRGB."""
    picture = in_srgb(picture, container)
    turn = _TURNS.get(container.orientation)
    return picture if turn is None else picture.transpose(turn)


def _faithful_options(picture: Image.Image, container: Container) -> dict[str, Any]:
    """Encode it with as little change as the format allows."""
    if isinstance(picture, JpegImageFile):
        # With the tables of the first encoder, the second one loses hardly anything.
        sampling = get_sampling(picture)
        options = {"qtables": picture.quantization, "subsampling": sampling}
        return {"quality": 95} | (options if sampling >= 0 else {})
    if container.content_type == _WEBP:
        return {"lossless": container.lossless, "quality": 95, "exact": True}
    return {}


def _safe_options(
    picture: Image.Image, content_type: str, container: Container
) -> Mapping[str, Any]:
    """Encode it without anything from the first encoder into which somebody could have written
    data, not even its tables. 40 megapixels take a few seconds at most.
    """
    if isinstance(picture, JpegImageFile):
        sampling = get_sampling(picture)
        return {"quality": _ANEW_QUALITY} | ({"subsampling": sampling} if sampling >= 0 else {})
    if content_type == _JPEG:
        return {"quality": _ANEW_QUALITY}
    if content_type == _WEBP:
        if container.lossless:
            return _QUICK_LOSSLESS_WEBP
        # With the faster methods a large image can get more modes than a WebP has room for.
        return {"quality": _ANEW_QUALITY, "method": 2}
    return {"compress_level": _ANEW_PNG_LEVEL}


def _encoded(picture: Image.Image, content_type: str, options: Mapping[str, Any]) -> Rendition:
    written = BytesIO()
    image_format = _FORMATS[content_type]
    if image_format == "JPEG":
        picture = picture.convert("RGB")
    picture.save(written, image_format, **options)
    return Rendition(
        data=written.getvalue(),
        content_type=content_type,
        width=picture.width,
        height=picture.height,
    )


def _resized(picture: Image.Image, width: int, height: int) -> Image.Image:
    if picture.size == (width, height):
        return picture
    return picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)


def _jpeg(picture: Image.Image) -> Rendition:
    written = BytesIO()
    picture.save(written, "JPEG", quality=_REFERENCE_QUALITY)
    return Rendition(
        data=written.getvalue(), content_type=_JPEG, width=picture.width, height=picture.height
    )


def _png(picture: Image.Image) -> Rendition:
    written = BytesIO()
    picture.save(written, "PNG")
    return Rendition(
        data=written.getvalue(), content_type=_PNG, width=picture.width, height=picture.height
    )


def _webp(picture: Image.Image) -> Rendition:
    written = BytesIO()
    picture.save(written, "WEBP", quality=_THUMBNAIL_QUALITY)
    return Rendition(
        data=written.getvalue(), content_type=_WEBP, width=picture.width, height=picture.height
    )


def _placeholder(picture: Image.Image) -> str:
    scale = min(1, _PLACEHOLDER_SIDE / max(picture.size))
    width, height = (max(1, round(side * scale)) for side in picture.size)
    small = _resized(picture, width, height).convert("RGBA")
    return b64encode(thumbhash_of(width, height, small.tobytes())).decode()
