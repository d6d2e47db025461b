"""What an image file says before a pixel is decoded, and why a file is refused."""

import struct
import zlib
from dataclasses import dataclass
from typing import Final

from storage.imaging.colours import Colours

MAX_PROFILE_BYTES: Final = 4_000_000
MAX_PIECES: Final = 20_000
"""More chunks or segments than a regular file of 64 MB has. Each costs time, however
small it is.
"""
_ORIENTATION_TAG: Final = 0x0112
_VALUES: Final = {3: "H", 4: "I"}
"""The formats of the two kinds of numbers that an orientation may be: two bytes, which is usual, or
four.
"""


class BadContainer(ValueError):
    """The bytes are not one complete image of a known format. The text is for the log."""


class WrongSize(BadContainer):
    """The image has too many pixels, or none."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(f"{width} by {height} pixels")


class SeveralFrames(BadContainer):
    """The file contains an animation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What a file says about its image, before a pixel has been decoded."""

    content_type: str
    width: int
    height: int
    orientation: int
    """The orientation in EXIF's numbers: 1 is upright."""
    colour_profile: bytes | None
    colours: Colours | None = None
    """The colours, where numbers describe them instead of a profile; None for those of sRGB."""
    transparent: tuple[int, ...] | None = None
    """The only colour that is transparent: one sample, or three of red, green and blue."""
    bits: int = 8
    """The bits of a stored sample."""
    lossless: bool
    tidy: bool
    """Whether nothing in the file had to be repaired, so that `data` can be kept unchanged."""
    data: bytes
    """The image without metadata: the bytes that were read, if they had none."""


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise `WrongSize` for a picture without pixels, or with too many."""
    if not 0 < width * height <= max_pixels:
        raise WrongSize(width, height)


def joined(parts: list[bytes], original: bytes) -> bytes:
    """The parts as one, or the original where it is the same."""
    data = b"".join(parts)
    return original if data == original else data


def inflated(data: bytes, at_most: int) -> bytes | None:
    """The unpacked data, cut off where it is too large; None where it is broken."""
    inflating = zlib.decompressobj()
    try:
        return inflating.decompress(data, at_most)
    except zlib.error:
        return None


def orientation_of(exif: bytes | None) -> int:
    """The orientation in the first directory of EXIF data; 1 if there is none."""
    if exif is None:
        return 1
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, directory)
        for index in range(count):
            entry = directory + 2 + 12 * index
            tag, kind, values = struct.unpack_from(f"{order}HHI", exif, entry)
            if tag == _ORIENTATION_TAG:
                if kind not in _VALUES or values != 1:
                    return 1
                (value,) = struct.unpack_from(f"{order}{_VALUES[kind]}", exif, entry + 8)
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
