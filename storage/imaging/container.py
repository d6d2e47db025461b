"""What a picture's file says of it, before a pixel is decoded, and why a file is refused."""

import struct
import zlib
from dataclasses import dataclass
from typing import Final

from storage.imaging.colours import Colours

MAX_PROFILE_BYTES: Final = 4_000_000
MAX_PIECES: Final = 20_000
"""More chunks or segments than an honest file of 64 MB has; each costs time, however small."""
_ORIENTATION_TAG: Final = 0x0112


class BadContainer(ValueError):
    """The bytes are not one whole picture of a known format. The text is for the log."""


class WrongSize(BadContainer):
    """The picture has too many pixels, or none."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(f"{width} by {height} pixels")


class SeveralFrames(BadContainer):
    """The file holds a picture that moves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What a file says of its picture, before a pixel has been decoded."""

    content_type: str
    width: int
    height: int
    orientation: int
    """As EXIF counts it: 1 is upright."""
    colour_profile: bytes | None
    colours: Colours | None = None
    """Told by numbers instead of a profile, and not those of sRGB."""
    transparent: tuple[int, ...] | None = None
    """The only colour that can be seen through: one sample, or three of red, green and blue."""
    bits: int = 8
    """Of a sample, as it is stored."""
    lossless: bool
    tidy: bool
    """Whether the file had nothing to repair, so that `data` can be kept as it is."""
    data: bytes
    """The picture without metadata: the very bytes that were read, where they held none."""


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise `WrongSize` for a picture without pixels, or with too many."""
    if not 0 < width * height <= max_pixels:
        raise WrongSize(width, height)


def joined(parts: list[bytes], original: bytes) -> bytes:
    """The parts as one, or the original where it is the same."""
    data = b"".join(parts)
    return original if data == original else data


def inflated(data: bytes, at_most: int) -> bytes | None:
    """What is unpacked, cut off where it is too large; None where it is broken."""
    inflating = zlib.decompressobj()
    try:
        return inflating.decompress(data, at_most)
    except zlib.error:
        return None


def orientation_of(exif: bytes | None) -> int:
    """The orientation in the first directory of EXIF data; 1 where there is none to be found."""
    if exif is None:
        return 1
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, directory)
        for index in range(count):
            tag, kind, _, value = struct.unpack_from(
                f"{order}HHIH", exif, directory + 2 + 12 * index
            )
            if tag == _ORIENTATION_TAG:
                return int(value) if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
