"""Small pictures for simulators: made once in each shape, and easy to distinguish."""

import hashlib
import io
import struct
import zlib
from functools import lru_cache
from typing import Final

from PIL import Image, ImageDraw

LONG_SIDE: Final = 64
_JPEG_HEAD_LENGTH: Final = 2


def picture(name: str, *, format: str = "png", ratio: float = 1.0) -> bytes:
    """A valid picture that no other name has: PNGs by their colours, the others by a remark."""
    shape = _shape(ratio)
    mark = hashlib.sha256(name.encode()).digest()
    if format == "jpeg":
        return _with_remark(_drawn(shape, "JPEG"), mark)
    if format == "webp":
        return _filled(shape, mark)
    return _with_palette(_drawn(shape, "PNG"), mark)


def black(*, format: str = "png", ratio: float = 1.0) -> bytes:
    """What is delivered instead of a picture that must not be shown."""
    written = io.BytesIO()
    Image.new("RGB", _shape(ratio)).save(
        written, {"webp": "WEBP", "jpeg": "JPEG"}.get(format, "PNG")
    )
    return written.getvalue()


def padded(png: bytes, byte_count: int) -> bytes:
    """The same PNG, valid and of this length in bytes, by a chunk that decoders ignore."""
    padding = b"\0" * max(0, byte_count - len(png) - 12)
    return png[:-12] + _chunk(b"puFf", padding) + png[-12:]


def _shape(ratio: float) -> tuple[int, int]:
    if ratio >= 1:
        return LONG_SIDE, max(1, round(LONG_SIDE / ratio))
    return max(1, round(LONG_SIDE * ratio)), LONG_SIDE


@lru_cache(maxsize=64)
def _drawn(shape: tuple[int, int], format: str) -> bytes:
    drawn = Image.new("P", shape, 0)
    drawn.putpalette([40, 60, 90, 220, 190, 120])
    margin = min(8, min(shape) // 3)
    right, bottom = shape[0] - margin - 1, shape[1] - margin - 1
    ImageDraw.Draw(drawn).ellipse((margin, margin, right, bottom), fill=1)
    written = io.BytesIO()
    (drawn if format == "PNG" else drawn.convert("RGB")).save(written, format)
    return written.getvalue()


def _with_palette(png: bytes, mark: bytes) -> bytes:
    start = png.index(b"PLTE")
    (length,) = struct.unpack(">I", png[start - 4 : start])
    colours = mark[:6].ljust(length, b"\0")[:length]
    return png[: start - 4] + _chunk(b"PLTE", colours) + png[start + 8 + length :]


def _with_remark(jpeg: bytes, mark: bytes) -> bytes:
    remark = b"\xff\xfe" + struct.pack(">H", len(mark) + 2) + mark
    return jpeg[:_JPEG_HEAD_LENGTH] + remark + jpeg[_JPEG_HEAD_LENGTH:]


def _filled(shape: tuple[int, int], mark: bytes) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", shape, (mark[0], mark[1], mark[2])).save(written, "WEBP", lossless=True)
    return written.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
