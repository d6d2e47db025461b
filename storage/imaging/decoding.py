"""Decodes a bare image to its pixels, all of them, as they are stored.

Only bare images of a permitted size reach Pillow.
"""

import struct
import zlib
from hashlib import sha256
from io import BytesIO
from typing import Final

from PIL import Image
from PIL._webp import WebPAnimDecoder
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from storage.imaging.container import BadContainer, Container
from storage.imaging.heif import HEIC, decode_heif
from storage.imaging.jpeg import pad_scans
from storage.imaging.webp import ALPHA_FLAG

_NOISE_PIXELS: Final = sha256(b"other pixels").digest().replace(b"\xff", b"") * 2
"""Coded noise, which a JPEG shows where its own pixels are missing."""
_SURPLUS_BYTES: Final = 16
_ROWS_PER_STRIP: Final = 256
_COLOUR_TYPE_OFFSET, _GREY_ALPHA = 25, 4
_WEBP: Final = "image/webp"
_JPEG: Final = "image/jpeg"
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
"""The exceptions that reading and decoding raise for bytes that are not an image."""


def decode(container: Container, *, draft_width: int | None = None) -> Image.Image:
    """Decode all pixels as they are stored. With a draft width, a JPEG may come out smaller, but no
    narrower.

    `Image.open` is not used: it warns of large images, by a limit that is global, as is the
    handling of warnings. The size has been checked before, against Darkroom's own limit.
    """
    if container.content_type == HEIC:
        picture = decode_heif(container.data)
        _check_size(picture.size, container)
        return picture
    if container.content_type == _WEBP:
        return _decode_webp(container)
    if container.content_type == _JPEG:
        return _decode_jpeg(container, draft_width)
    return _load_png(container)


def _decode_jpeg(container: Container, draft_width: int | None) -> Image.Image:
    """Raise if coded pixels of a JPEG are missing.

    libjpeg shows grey there, and reports it in a warning that Pillow does not pass on. With other
    bytes after the coded pixels, however, it shows something else there.
    """
    padded = pad_scans(container.data, _NOISE_PIXELS)
    expected = _checksum_of(_load_jpeg(padded, container, draft_width))
    picture = _load_jpeg(container.data, container, draft_width)
    if _checksum_of(picture) != expected:
        raise BadContainer("JPEG with pixels missing")
    return picture


def may_look_different(picture: Image.Image, container: Container) -> bool:
    """Whether other decoders may show other pixels: where a PNG uses colours that are not in its
    palette, a WebP has alpha that it does not announce, or a JPEG has enough coded pixels even
    without its last bytes. Where the end of a JPEG is plain, this may be True without a surplus.
    """
    if isinstance(picture, PngImageFile) and picture.mode == "P" and picture.palette is not None:
        used = picture.histogram()
        return any(used[len(picture.palette.palette) // len("RGB") :])
    if container.content_type == _WEBP and _ignores_alpha(container):
        *_, mode = WebPAnimDecoder(container.data).get_info()
        return bool(mode == "RGBA")
    if container.content_type != _JPEG:
        return False
    truncated = pad_scans(container.data, _NOISE_PIXELS, drop_bytes=_SURPLUS_BYTES)
    return _checksum_of(_load_jpeg(truncated, container, None)) == _checksum_of(picture)


def _load_jpeg(data: bytes, container: Container, draft_width: int | None) -> JpegImageFile:
    file = JpegImageFile(BytesIO(data))
    _check_size(file.size, container)
    if draft_width is not None:
        file.draft(None, (draft_width, 1))
    file.load()
    return file


def _load_png(container: Container, *, low_bytes: bool = False) -> Image.Image:
    file = PngImageFile(BytesIO(container.data))
    _check_size(file.size, container)
    if low_bytes:
        # Pillow takes the first byte of a sample; in the other byte order that would be the last
        # one.
        file.tile = [tile._replace(args=str(tile.args).replace("16B", "16L")) for tile in file.tile]
    file.load()
    if file.mode == "P" and file.palette is None:
        raise BadContainer("PNG without its palette")
    if file.mode != "P":
        # This is the size of a stored sample, which may differ from a decoded one.
        file.info.pop("transparency", None)
    return file.convert("LA") if container.data[_COLOUR_TYPE_OFFSET] == _GREY_ALPHA else file


def decode_low_bytes(container: Container) -> Image.Image:
    """The lower bits of a decoded PNG with 16 bits for each colour, which Pillow drops, as an
    image.
    """
    return _load_png(container, low_bytes=True)


def _checksum_of(picture: Image.Image) -> int:
    """Of its pixels, in parts, as a copy of all would take as much memory again."""
    checksum = 0
    for top in range(0, picture.height, _ROWS_PER_STRIP):
        bottom = min(picture.height, top + _ROWS_PER_STRIP)
        rows = picture.crop((0, top, picture.width, bottom))
        checksum = zlib.crc32(rows.tobytes(), checksum)
    return checksum


def _decode_webp(container: Container) -> Image.Image:
    """Decode as `WebPImageFile` does, but without keeping the decoder, which has two more canvases:
    an image of 40 megapixels takes 480 MB, and leaves 160 MB, instead of 640 and 480.
    """
    decoder = WebPAnimDecoder(container.data)
    size, _, _, _, mode = decoder.get_info()
    _check_size(size, container)
    frame = decoder.get_next()
    if frame is None:
        raise BadContainer("WebP that cannot be decoded")
    del decoder
    if _ignores_alpha(container):
        mode = "RGBX"
    return Image.frombytes("RGB" if mode == "RGBX" else mode, size, frame[0], "raw", mode)


def _ignores_alpha(container: Container) -> bool:
    """Browsers and libvips ignore alpha that is not announced."""
    return container.data[12:16] == b"VP8X" and not container.data[20] & ALPHA_FLAG


def _check_size(size: tuple[int, int], container: Container) -> None:
    if size != (container.width, container.height):
        raise BadContainer(f"{size} instead of {container.width, container.height}")
