"""HEIC for tests, as phones write it, and broken in some ways."""

import struct
from io import BytesIO
from typing import Any

import pillow_heif
from PIL import Image

from tests.storage.pictures import a_picture


def heic(
    picture: Image.Image | None = None,
    *more: Image.Image,
    code_points: tuple[int, int] | None = None,
    **options: Any,
) -> bytes:
    """Of one picture, or of several with the first as the primary one."""
    file = pillow_heif.HeifFile()  # type: ignore[no-untyped-call]
    for one in (picture or a_picture(), *more):
        file.add_from_pillow(one)
    written = BytesIO()
    options = {"quality": 90, "chroma": 444, "primary_index": 0} | options
    file.save(written, enc_params={"preset": "ultrafast"}, **options)
    return with_code_points(written.getvalue(), *code_points) if code_points else written.getvalue()


def in_tiles(picture: Image.Image) -> bytes:
    """As phones write large pictures."""
    before = pillow_heif.options.GRID_TILE_SIZE
    pillow_heif.options.GRID_TILE_SIZE = 256
    try:
        return heic(picture)
    finally:
        pillow_heif.options.GRID_TILE_SIZE = before


def with_grid(data: bytes, columns: int, rows: int, width: int, height: int) -> bytes:
    """With other numbers of tiles, and another size of the whole."""
    place = data.index(b"idat") + 4
    grid = struct.pack(">4B2H", 0, 0, rows - 1, columns - 1, width, height)
    return data[:place] + grid + data[place + len(grid) :]


def with_code_points(data: bytes, primaries: int, transfer: int) -> bytes:
    """With other numbers for its colours; the pixels stay what they are."""
    place = data.index(b"colrnclx") + 8
    return data[:place] + struct.pack(">HH", primaries, transfer) + data[place + 4 :]


def with_size(data: bytes, width: int, height: int) -> bytes:
    """With another size in its properties, whatever its pixels are."""
    parts = data.split(b"ispe")
    new = bytes(4) + struct.pack(">II", width, height)
    return b"ispe".join([parts[0], *(new + part[12:] for part in parts[1:])])


def with_brand(data: bytes, brand: bytes) -> bytes:
    length = int.from_bytes(data[:4], "big")
    return data[:8] + brand + data[12:16] + brand * ((length - 16) // 4) + data[length:]


def with_box(data: bytes, name: bytes, body: bytes) -> bytes:
    return data + struct.pack(">I4s", 8 + len(body), name) + body
