"""Pictures for tests, complete and with everything that a file can contain."""

import struct
import zlib
from functools import cache
from io import BytesIO
from typing import Any

from PIL import Image, ImageChops, ImageCms, ImageStat, PngImagePlugin

from domain.images import Rendition

CONTENT_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
FORMATS = list(CONTENT_TYPES)
CANARY = b"51.5007 N, 0.1246 W"


STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How an upright picture lies in a file of each orientation."""


@cache
def a_picture(width: int = 300, height: int = 200, mode: str = "RGB") -> Image.Image:
    """Red at the left, blue at the right, brighter below; with alpha clear at the top."""
    across = Image.linear_gradient("L").rotate(90).resize((width, height))
    down = Image.linear_gradient("L").resize((width, height))
    picture = Image.merge("RGB", (ImageChops.invert(across), down, across))
    if mode == "RGBA":
        picture.putalpha(down)
    return picture if picture.mode == mode else picture.convert(mode)


def encoded(picture: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    written = BytesIO()
    picture.save(written, image_format, **options)
    return written.getvalue()


def opened(rendition: Rendition) -> Image.Image:
    picture = Image.open(BytesIO(rendition.data))
    assert CONTENT_TYPES[str(picture.format)] == rendition.content_type
    assert picture.size == (rendition.width, rendition.height)
    picture.load()
    return picture


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean of how far two pictures are apart, of 255."""
    assert one.size == other.size
    mode = "RGBA" if "RGBA" in (one.mode, other.mode) else "RGB"
    channels = ImageStat.Stat(ImageChops.difference(one.convert(mode), other.convert(mode))).mean
    return max(channels)


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[0x0112] = orientation
    data[0x010E] = CANARY.decode()
    return data


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(kind + body))


def with_png_chunk(data: bytes, kind: bytes, body: bytes) -> bytes:
    """With one chunk more, straight behind the header."""
    return data[:33] + png_chunk(kind, body) + data[33:]


def with_png_size(data: bytes, width: int, height: int) -> bytes:
    header = struct.pack(">II", width, height) + data[24:29]
    return data[:8] + png_chunk(b"IHDR", header) + data[33:]


def with_jpeg_segment(data: bytes, marker: int, body: bytes) -> bytes:
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + data[2:]


def png_with_everything() -> bytes:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", CANARY.decode())
    texts.add_text("Packed", CANARY.decode() * 100, zip=True)
    texts.add_itxt("XML:com.adobe.xmp", CANARY.decode())
    data = encoded(a_picture(), "PNG", pnginfo=texts, exif=exif(1), dpi=(72, 72))
    return with_png_chunk(data, b"caBX", CANARY) + CANARY


def jpeg_with_everything() -> bytes:
    data = encoded(a_picture(), "JPEG", exif=exif(1), comment=CANARY, dpi=(72, 72))
    for marker in (0xE1, 0xE2, 0xEB, 0xED, 0xEE):
        data = with_jpeg_segment(data, marker, CANARY)
    return data + CANARY


def webp_with_everything() -> bytes:
    data = encoded(a_picture(), "WEBP", exif=exif(1), xmp=CANARY)
    chunks = data[12:] + b"CANA" + struct.pack("<I", len(CANARY)) + CANARY + b"\0"
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks + CANARY


def swapped_profile(name: str = "swap") -> bytes:
    """A profile in which red and blue have changed places, so that nobody can overlook it; the name
    has four letters.
    """
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", data, 128)
    places = {bytes(data[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, blue = places[b"rXYZ"], places[b"bXYZ"]
    data[red + 4 : red + 12], data[blue + 4 : blue + 12] = (
        data[blue + 4 : blue + 12],
        data[red + 4 : red + 12],
    )
    return bytes(data).replace("sRGB".encode("utf-16-be"), name.encode("utf-16-be"))
