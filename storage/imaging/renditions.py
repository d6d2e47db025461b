"""The darkroom proper: decodes pictures, checks them, and makes what is shown in their place.

The bytes that were given reach Pillow only once they have been reduced to a bare picture of a size
that fits, and what is kept is what was decoded. Where and within which limits it runs is up to
`developers.py`.
"""

import struct
import zlib
from base64 import b64encode
from functools import lru_cache
from hashlib import sha256
from io import BytesIO
from itertools import chain, product
from typing import Any, Final

from PIL import Image, ImageChops, ImageCms, WebPImagePlugin  # noqa: F401 - it encodes WebP
from PIL._webp import WebPAnimDecoder
from PIL.JpegImagePlugin import JpegImageFile, get_sampling
from PIL.PngImagePlugin import PngImageFile

from domain.images import ProcessedImage, Rendition
from storage.imaging.container import BadContainer, Container
from storage.imaging.jpeg import with_more_pixels
from storage.imaging.thumbhash import thumbhash_of

THUMBNAIL_WIDTHS: Final = (256, 512, 1024)
PREVIEW_WIDTH: Final = 512

_MAX_WEBP_SIDE: Final = 16_383
_PLACEHOLDER_SIDE: Final = 32
_THUMBNAIL_QUALITY: Final = 80
_REFERENCE_QUALITY: Final = 90
_ANEW_QUALITY: Final = 92
_ANEW_PNG_LEVEL: Final = 4
_SAMPLES: Final = bytes(chain.from_iterable(product((0, 64, 128, 191, 255), repeat=3)))
"""Colours from all over the cube."""
_UNSEEN: Final = 4
_OTHER_PIXELS: Final = sha256(b"other pixels").digest().replace(b"\xff", b"") * 2
"""What a JPEG would show where its own pixels are missing: noise."""
_SURPLUS_BYTES: Final = 16
_ROWS_AT_ONCE: Final = 256
_PNG: Final = "image/png"
_WEBP: Final = "image/webp"
_JPEG: Final = "image/jpeg"
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
UNDECODABLE: Final = (
    BadContainer,
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What reading and decoding are known to raise over bytes that are no picture."""


def process(container: Container) -> ProcessedImage:
    """Keep the bytes as they are if they are a tidy, upright picture in sRGB."""
    profile = _foreign_profile(container.colour_profile)
    file = decode(container)
    if (
        container.tidy
        and container.orientation == 1
        and profile is None
        and not _has_surplus(file, container)
    ):
        picture = _displayable(file)
        original = Rendition(
            data=container.data,
            content_type=container.content_type,
            width=container.width,
            height=container.height,
        )
    else:
        picture = _positive(file, container.orientation, profile)
        original = _encoded(picture, container, _faithful_options(file, container))
    return _with_thumbnails(original, picture)


def develop_anew(picture: Image.Image, container: Container) -> ProcessedImage:
    """Of a picture that has been decoded: keep nothing of the bytes that it was decoded from."""
    profile = _foreign_profile(container.colour_profile)
    upright = _positive(picture, container.orientation, profile)
    original = _encoded(upright, container, _safe_options(picture, container))
    return _with_thumbnails(original, upright)


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
    profile = _foreign_profile(container.colour_profile)
    draft_width = PREVIEW_WIDTH if container.orientation == 1 else None
    picture = _positive(decode(container, draft_width=draft_width), container.orientation, profile)
    width, height = picture.size
    scale = min(1, PREVIEW_WIDTH / width, _MAX_WEBP_SIDE / height)
    return _webp(_resized(picture, max(1, round(width * scale)), max(1, round(height * scale))))


def shrink(container: Container, *, max_bytes: int) -> Rendition:
    profile = _foreign_profile(container.colour_profile)
    picture = _positive(decode(container), container.orientation, profile)
    scale = 1.0
    while True:
        width, height = (max(1, round(side * scale)) for side in picture.size)
        smaller = _resized(picture, width, height)
        rendition = _png(smaller) if smaller.mode == "RGBA" else _jpeg(smaller)
        if len(rendition.data) <= max_bytes or max(width, height) == 1:
            return rendition
        # Bytes go roughly with the area: a little less than that, so that it ends soon.
        scale *= 0.9 * (max_bytes / len(rendition.data)) ** 0.5


def decode(container: Container, *, draft_width: int | None = None) -> Image.Image:
    """The picture with all its pixels, as they are stored; with a draft width a JPEG may come out
    smaller, but no narrower.

    Not through `Image.open`: that warns of large pictures, by a limit that is global as is what
    becomes of warnings. The size has been checked before, against Darkroom's own limit.
    """
    if container.content_type == _WEBP:
        return _decoded_webp(container)
    if container.content_type == _JPEG:
        return _decoded_jpeg(container, draft_width)
    file = PngImageFile(BytesIO(container.data))
    _check_size(file.size, container)
    file.load()
    if file.mode == "P" and file.palette is None:
        raise BadContainer("colours that are not described")
    return file


def _decoded_jpeg(container: Container, draft_width: int | None) -> Image.Image:
    """libjpeg shows grey where coded pixels are missing, and says so in a warning that Pillow does
    not pass on. But with other bytes behind the coded pixels it shows something else there.
    """
    with_others = with_more_pixels(container.data, _OTHER_PIXELS)
    expected = _checksum(_loaded_jpeg(with_others, container, draft_width))
    picture = _loaded_jpeg(container.data, container, draft_width)
    if _checksum(picture) != expected:
        raise BadContainer("JPEG with pixels missing")
    return picture


def _has_surplus(picture: Image.Image, container: Container) -> bool:
    """Whether a JPEG, decoded in full, has coded pixels enough without its last bytes. Where the
    picture is plain at its end, it may be True without any surplus.
    """
    if container.content_type != _JPEG:
        return False
    with_less = with_more_pixels(container.data, _OTHER_PIXELS, less_bytes=_SURPLUS_BYTES)
    return _checksum(_loaded_jpeg(with_less, container, None)) == _checksum(picture)


def _loaded_jpeg(data: bytes, container: Container, draft_width: int | None) -> JpegImageFile:
    file = JpegImageFile(BytesIO(data))
    _check_size(file.size, container)
    if draft_width is not None:
        file.draft(None, (draft_width, 1))
    file.load()
    return file


def _checksum(picture: Image.Image) -> int:
    """Of its pixels, in parts, as a copy of all would take as much memory again."""
    checksum = 0
    for top in range(0, picture.height, _ROWS_AT_ONCE):
        bottom = min(picture.height, top + _ROWS_AT_ONCE)
        rows = picture.crop((0, top, picture.width, bottom))
        checksum = zlib.crc32(rows.tobytes(), checksum)
    return checksum


def _decoded_webp(container: Container) -> Image.Image:
    """As `WebPImageFile` does it, but without holding on to the decoder, which has two more
    canvases: of 40 megapixels it takes 480 MB, and leaves 160 MB, instead of 640 and 480.
    """
    decoder = WebPAnimDecoder(container.data)
    size, _, _, _, mode = decoder.get_info()
    _check_size(size, container)
    frame = decoder.get_next()
    if frame is None:
        raise BadContainer("WebP that cannot be decoded")
    del decoder
    return Image.frombytes("RGB" if mode == "RGBX" else mode, size, frame[0], "raw", mode)


def _check_size(size: tuple[int, int], container: Container) -> None:
    if size != (container.width, container.height):
        raise BadContainer(f"{size} instead of {container.width, container.height}")


def _positive(
    picture: Image.Image, orientation: int, profile: ImageCms.ImageCmsProfile | None
) -> Image.Image:
    """The picture as it is meant to be seen: upright, in sRGB."""
    if profile is not None:
        picture = _in_srgb(picture, profile)
    picture = _displayable(picture)
    return picture.transpose(_TURNS[orientation]) if orientation in _TURNS else picture


def _foreign_profile(data: bytes | None) -> ImageCms.ImageCmsProfile | None:
    """The colour profile, unless it is sRGB, which is what a picture without one is taken for."""
    if data is None:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(data))
    except OSError:
        return None
    return None if _is_srgb(data) else profile


@lru_cache(maxsize=16)
def _is_srgb(profile: bytes) -> bool:
    """Whether it changes no colour that anybody would see: names alone say little."""
    opened = ImageCms.ImageCmsProfile(BytesIO(profile))
    if "sRGB" not in (opened.profile.profile_description or ""):
        return False
    samples = Image.frombytes("RGB", (len(_SAMPLES) // 3, 1), _SAMPLES)
    converted = _in_srgb(samples, opened)
    return max(ImageChops.difference(samples, converted).tobytes()) <= _UNSEEN


def _in_srgb(picture: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    if picture.mode not in ("L", "RGB", "RGBA", "CMYK"):
        picture = _displayable(picture)
    try:
        converted = ImageCms.profileToProfile(
            picture,
            profile,
            ImageCms.createProfile("sRGB"),
            outputMode="RGBA" if picture.mode == "RGBA" else "RGB",
        )
    except ImageCms.PyCMSError:
        # A profile that does not fit its picture says nothing about it.
        return picture
    assert converted is not None
    del converted.info["icc_profile"]
    return converted


def _displayable(picture: Image.Image) -> Image.Image:
    """In RGB, or RGBA where something can be seen through."""
    if picture.mode in ("RGB", "RGBA") and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith("I"):
        # Sixteen bits of grey: Pillow would cut off whatever is above 255.
        picture = picture.convert("I").point(lambda grey: grey * (1 / 257)).convert("L")
        picture.info.pop("transparency", None)
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


def _faithful_options(picture: Image.Image, container: Container) -> dict[str, Any]:
    """As little is changed as the format allows."""
    if isinstance(picture, JpegImageFile):
        # With the tables of the first encoder hardly anything is lost by the second.
        sampling = get_sampling(picture)
        options = {"qtables": picture.quantization, "subsampling": sampling}
        return {"quality": 95} | (options if sampling >= 0 else {})
    if container.content_type == _WEBP:
        return {"lossless": container.lossless, "quality": 95, "exact": True}
    return {}


def _safe_options(picture: Image.Image, container: Container) -> dict[str, Any]:
    """Nothing is taken over from the first encoder that somebody could have written something
    into, not even tables, and 40 megapixels take a few seconds at most.
    """
    if isinstance(picture, JpegImageFile):
        sampling = get_sampling(picture)
        return {"quality": _ANEW_QUALITY} | ({"subsampling": sampling} if sampling >= 0 else {})
    if container.content_type == _WEBP:
        if container.lossless:
            return {"lossless": True, "quality": 0, "method": 1}
        # By the quicker methods a large picture can get more modes than a WebP has room for.
        return {"quality": _ANEW_QUALITY, "method": 2}
    return {"compress_level": _ANEW_PNG_LEVEL}


def _encoded(picture: Image.Image, container: Container, options: dict[str, Any]) -> Rendition:
    """In the format that it had."""
    written = BytesIO()
    image_format = {_PNG: "PNG", _JPEG: "JPEG", _WEBP: "WEBP"}[container.content_type]
    if image_format == "JPEG":
        picture = picture.convert("RGB")
    picture.save(written, image_format, **options)
    return Rendition(
        data=written.getvalue(),
        content_type=container.content_type,
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
