"""Reads JPEG segments and scans, and pads scans to find out whether pixels are missing."""

import re
import struct
from collections.abc import Iterator
from typing import Final

from storage.imaging.container import (
    MAX_PIECES,
    BadContainer,
    Container,
    check_size,
    join_parts,
    orientation_of,
)

EXIF: Final = b"Exif\0\0"
_MAX_SCANS: Final = 64
"""The most scans of a JPEG: the decoder goes over the whole image for each. Ten are usual."""
_ICC: Final = b"ICC_PROFILE\0"
_MARKER: Final = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
_END_OF_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_RESTART: Final = re.compile(rb"\xff([\xd0-\xd7])")
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE: Final = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_ARITHMETIC: Final = frozenset(range(0xC9, 0xD0)) - {0xCC}
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_EXTRANEOUS: Final = 0
"""Not a marker: stands for bytes that belong to no segment, which libjpeg calls extraneous."""
_COEFFICIENTS_PER_BLOCK: Final = 64
_ALL_BITS_MISSING: Final = 16
"""No scan has been read yet: more bits than a scan can leave to later ones."""
_LENGTH_BYTES: Final = 2
"""The length field of a segment: the length counts its own bytes too."""
_IGNORABLE: Final = frozenset((*range(0xE0, 0xF0), 0xFE))
"""Segments that libjpeg can ignore: those of applications, and comments."""
_KEPT: Final = _FRAMES | {0xC4, 0xCC, 0xDA, 0xDB, 0xDC, 0xDD}


def read_jpeg(data: bytes, max_pixels: int) -> Container:
    """Read the segments as libjpeg does: bytes between them are skipped, and the end may be missing
    if every scan is there.
    """
    picture = _Picture()
    for marker, segment, body in _segments(data):
        picture.add(marker, segment, body)
    if picture.size is None:
        raise BadContainer("JPEG without a frame")
    width, height = picture.size
    check_size(width, height, max_pixels)
    picture.check_scans()
    return Container(
        content_type="image/jpeg",
        width=width,
        height=height,
        orientation=orientation_of(picture.exif),
        colour_profile=picture.profile,
        lossless=False,
        tidy=picture.tidy and picture.ended,
        data=join_parts([b"\xff\xd8", *picture.kept, b"\xff\xd9"], data),
    )


class _Picture:
    """What the segments say, one after the other."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.exif: bytes | None = None
        self.size: tuple[int, int] | None = None
        self.tidy = True
        self.ended = False
        self._profile_parts: dict[int, bytes] = {}
        self._progressive = False
        self._missing: dict[int, list[int]] = {}
        """For each component, the number of bits of each coefficient that are still missing."""

    @property
    def profile(self) -> bytes | None:
        parts = self._profile_parts
        return b"".join(parts[key] for key in sorted(parts)) or None

    def add(self, marker: int, segment: bytes, body: bytes) -> None:
        match marker:
            case _ if marker == _EXTRANEOUS:
                self.tidy = False
            case _ if marker == _END:
                self.ended = True
            case 0xE0 if body.startswith(b"JFIF\0") and len(body) >= 14:
                # Without its thumbnail, if it has one.
                self.kept.append(b"\xff\xe0\x00\x10" + body[:12] + b"\0\0")
            case 0xE1 if body.startswith(EXIF) and self.exif is None:
                self.exif = body[len(EXIF) :]
            case 0xE2 if body.startswith(_ICC) and len(body) > len(_ICC) + 1:
                self._profile_parts[body[len(_ICC)]] = body[len(_ICC) + 2 :]
            case 0xEE if body.startswith(b"Adobe") and len(body) >= 12:
                # It says how the colours are coded.
                self.kept.append(b"\xff\xee\x00\x0e" + body[:12])
            case _ if marker in _KEPT:
                self.kept.append(segment)
                self._note(marker, body)

    def _note(self, marker: int, body: bytes) -> None:
        if marker in _FRAMES and self.size is None:
            height, width = struct.unpack_from(">HH", body, 1)
            self.size = width, height
            self._progressive = marker in _PROGRESSIVE
            components = (body[6 + 3 * index] for index in range(body[5]))
            self._missing = {
                component: [_ALL_BITS_MISSING] * _COEFFICIENTS_PER_BLOCK for component in components
            }
        elif marker == _SCAN:
            first, last, bits = struct.unpack_from(">BBB", body, 1 + 2 * body[0])
            if not self._progressive:
                first, last, bits = 0, _COEFFICIENTS_PER_BLOCK - 1, 0
            for index in range(body[0]):
                missing = self._missing.get(body[1 + 2 * index], [])
                missing[first : last + 1] = [bits & 15] * len(missing[first : last + 1])

    def check_scans(self) -> None:
        """Raise if a component is missing, or if the file ends before its last scan."""
        for missing in self._missing.values():
            if missing[0] == _ALL_BITS_MISSING or (any(missing) and not self.ended):
                raise BadContainer("JPEG without all its scans")


def _segments(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Marker, whole segment and body of each segment, up to the end of the first image.

    The coded pixels belong to the segment that starts their scan. Bytes that libjpeg skips come as
    `_EXTRANEOUS`; a file whose end is missing has no `_END`, but at least one scan.
    """
    position, scans = 2, 0
    for _ in range(MAX_PIECES):
        marker_match = _MARKER.search(data, position)
        segment = _segment(data, marker_match.start()) if marker_match else None
        if marker_match is None or segment is None:
            if scans == 0:
                raise BadContainer("JPEG cut off")
            return
        if data[position : marker_match.start()].strip(b"\xff"):
            yield _EXTRANEOUS, b"", b""
        marker, body, end = segment
        if marker == _SCAN:
            scans += 1
            if scans > _MAX_SCANS:
                raise BadContainer("JPEG with too many scans")
            end_of_scan = _END_OF_SCAN.search(data, end)
            end = end_of_scan.start() if end_of_scan else len(data)
        yield marker, data[marker_match.start() : end], body
        if marker == _END:
            return
        position = end
    raise BadContainer("JPEG in too many pieces")


def _segment(data: bytes, start: int) -> tuple[int, bytes, int] | None:
    """Marker, body and end; None where there is no segment, or it is cut off."""
    marker = data[start + 1]
    if marker == 1 or 0xD0 <= marker <= 0xD7:
        return _EXTRANEOUS, b"", start + 2
    if marker == _END:
        return marker, b"", start + 2
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    if length < _LENGTH_BYTES and marker in _IGNORABLE:
        return _EXTRANEOUS, b"", start + 4
    body = data[start + 4 : start + 2 + length]
    if marker < 0xC0 or marker == _START or len(body) != length - _LENGTH_BYTES:
        return None
    return marker, body, start + 2 + length


def pad_scans(data: bytes, padding: bytes, *, drop_bytes: int = 0) -> bytes:
    """A bare JPEG with other bytes after the coded pixels of each scan, and of each part of a scan.

    They are read as pixels only where pixels are missing: with `drop_bytes`, where the last scan
    has no more than this many bytes to spare. Arithmetic coding is left unchanged, since it may
    omit bytes at its end.
    """
    segments = list(_segments(data))
    if _ARITHMETIC & {marker for marker, _, _ in segments}:
        return data
    parts = [data[:2]]
    last = max(index for index, segment in enumerate(segments) if segment[0] == _SCAN)
    for index, (marker, segment, body) in enumerate(segments):
        if marker == _SCAN:
            head, pixels = segment[: len(body) + 4], segment[len(body) + 4 :]
            if index == last and drop_bytes:
                pixels = pixels[:-drop_bytes]
            parts += [head, *_padded_parts(padding, pixels)]
        else:
            parts.append(segment)
    return b"".join(parts)


def _padded_parts(padding: bytes, pixels: bytes) -> Iterator[bytes]:
    """Each part of a scan, between restart markers, with padding behind it; and one part more."""
    restart = b"\xd7"
    for index, part in enumerate(_RESTART.split(pixels)):
        if index % 2:
            restart = part
            yield b"\xff" + restart
        else:
            # Fill bytes before a marker would turn the bytes after them into a marker.
            yield part.rstrip(b"\xff")
            yield padding
    yield bytes((0xFF, 0xD0 + (restart[0] + 1) % 8))
    yield padding
