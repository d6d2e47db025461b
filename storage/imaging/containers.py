"""PNG, JPEG and WebP from the outside: what a file says of its picture, and the bare picture.

Only what is needed to paint the pixels is carried over, piece by piece. Everything else is left
out, known or not: EXIF, XMP, comments, manifests of provenance, thumbnails, whatever stands behind
the end. No pixel is changed by it.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_MAX_PROFILE_BYTES: Final = 4_000_000
_MAX_PIECES: Final = 20_000
"""More chunks or segments than an honest file of 64 MB has; each costs time, however small."""
_MAX_SCANS: Final = 64
"""Of a JPEG: the decoder goes over the whole picture for each. Ten are usual."""
_PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT: Final = frozenset(
    (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"sBIT")
)
_PNG_PACKED_TEXTS: Final = {
    b"zTXt": re.compile(rb"[^\0]*\0\0(.*)", re.DOTALL),
    b"iTXt": re.compile(rb"[^\0]*\0\x01\0[^\0]*\0[^\0]*\0(.*)", re.DOTALL),
}
"""What stands before texts that are packed."""
_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_PASSES: Final = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""Of an interlaced PNG: the first column and row of each pass, and the steps between them."""
_INFLATED_AT_ONCE: Final = 16 * 1024
_JPEG_ICC: Final = b"ICC_PROFILE\0"
_JPEG_EXIF: Final = b"Exif\0\0"
_JPEG_MARKER: Final = re.compile(rb"\xff+([^\xff])", re.DOTALL)
_JPEG_END_OF_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_KEPT: Final = _JPEG_FRAMES | {0xC4, 0xCC, 0xDA, 0xDB, 0xDC, 0xDD}
_WEBP_ALPHA_FLAG: Final = 0x10
_WEBP_KEPT: Final = frozenset((b"VP8 ", b"VP8L", b"ALPH"))
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
    lossless: bool
    data: bytes
    """The picture without metadata: the very bytes that were read, where they held none."""


def content_type_of(data: bytes) -> str | None:
    """What the first bytes say; None where it is none of the three."""
    if data.startswith(_PNG_MAGIC):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def read_container(data: bytes, *, max_pixels: int, max_metadata_bytes: int = 0) -> Container:
    """Read the file from beginning to end, or raise `BadContainer`.

    Nothing is unpacked of a picture that says to be larger than `max_pixels`. With
    `max_metadata_bytes`, texts and a colour profile of more bytes, once unpacked, are refused;
    otherwise no text is unpacked.
    """
    try:
        match content_type_of(data):
            case "image/png":
                container = _read_png(data, max_pixels, max_metadata_bytes)
            case "image/jpeg":
                container = _read_jpeg(data, max_pixels)
            case "image/webp":
                container = _read_webp(data, max_pixels)
            case _:
                raise BadContainer("neither PNG nor JPEG nor WebP")
    except (struct.error, IndexError) as error:
        raise BadContainer("cut off") from error
    if 0 < max_metadata_bytes < len(container.colour_profile or b""):
        raise BadContainer("a colour profile without end")
    return container


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if not 0 < width * height <= max_pixels:
        raise WrongSize(width, height)


def _read_png(data: bytes, max_pixels: int, max_metadata_bytes: int) -> Container:
    kept = [_PNG_MAGIC]
    packed: list[memoryview] = []
    texts: list[tuple[bytes, memoryview]] = []
    exif = profile = None
    position = len(_PNG_MAGIC)
    for _ in range(_MAX_PIECES):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if position == len(_PNG_MAGIC) and (kind, length) != (b"IHDR", 13):
            raise BadContainer("PNG does not begin with its header")
        body = memoryview(data)[position + 8 : end - 4]
        if zlib.crc32(body, zlib.crc32(kind)) != struct.unpack_from(">I", data, end - 4)[0]:
            raise BadContainer("PNG with a wrong checksum")
        if kind == b"fdAT" or (kind == b"acTL" and struct.unpack_from(">I", body)[0] > 1):
            raise SeveralFrames("PNG with several frames")
        if kind == b"eXIf":
            exif = bytes(body)
        elif kind == b"iCCP":
            profile = _inflated(bytes(body).partition(b"\0")[2][1:], _MAX_PROFILE_BYTES)
        elif kind == b"IDAT":
            packed.append(body)
        elif kind in _PNG_PACKED_TEXTS:
            texts.append((kind, body))
        if kind in _PNG_KEPT:
            kept.append(data[position:end])
        position = end
        if kind == b"IEND":
            break
    else:
        raise BadContainer("PNG in too many pieces")
    _check_texts(texts, max_metadata_bytes)
    width, height = struct.unpack_from(">II", data, 16)
    _check_size(width, height, max_pixels)
    # Pillow takes too few rows for a picture that is black below.
    expected = _png_size(data)
    if _unpacked_size(packed, at_most=expected) != expected:
        raise BadContainer("PNG with more or less pixels than it says")
    return Container(
        content_type="image/png",
        width=width,
        height=height,
        orientation=_orientation(exif),
        colour_profile=profile,
        lossless=True,
        data=_joined(kept, data),
    )


def _check_texts(texts: list[tuple[bytes, memoryview]], max_bytes: int) -> None:
    if max_bytes == 0:
        return
    for kind, body in texts:
        text = _PNG_PACKED_TEXTS[kind].match(bytes(body))
        max_bytes -= len(_inflated(text[1], 1 + max_bytes) or b"") if text else 0
        if max_bytes < 0:
            raise BadContainer("PNG with texts without end")


def _png_size(data: bytes) -> int:
    """How many bytes the rows take, unpacked: each has one more for its filter."""
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    bits = depth * _PNG_CHANNELS.get(colour, 0)
    passes = _PNG_PASSES if interlaced else ((0, 0, 1, 1),)
    size = 0
    for column, row, column_step, row_step in passes:
        columns = -((column - width) // column_step)
        rows = -((row - height) // row_step)
        if columns > 0 and rows > 0:
            size += rows * (1 + (columns * bits + 7) // 8)
    return size


def _unpacked_size(packed: list[memoryview], *, at_most: int) -> int:
    unpacking = zlib.decompressobj()
    size = 0
    try:
        for part in packed:
            for start in range(0, len(part), _INFLATED_AT_ONCE):
                size += len(unpacking.decompress(part[start : start + _INFLATED_AT_ONCE]))
                if unpacking.eof or size > at_most:
                    return size
    except zlib.error as error:
        raise BadContainer("PNG that cannot be unpacked") from error
    return size


def _read_jpeg(data: bytes, max_pixels: int) -> Container:
    kept = [b"\xff\xd8"]
    exif: bytes | None = None
    profile_parts: dict[int, bytes] = {}
    size: tuple[int, int] | None = None
    for marker, segment, body in _jpeg_segments(data):
        if marker in _JPEG_FRAMES and size is None:
            height, width = struct.unpack_from(">HH", body, 1)
            size = width, height
        if marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14:
            # With its thumbnail, if it has one, taken out.
            kept.append(b"\xff\xe0\x00\x10" + body[:12] + b"\0\0")
        elif marker == 0xE1 and body.startswith(_JPEG_EXIF) and exif is None:
            exif = body[len(_JPEG_EXIF) :]
        elif marker == 0xE2 and body.startswith(_JPEG_ICC):
            profile_parts[body[len(_JPEG_ICC)]] = body[len(_JPEG_ICC) + 2 :]
        elif marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            # It tells how the colours are coded.
            kept.append(b"\xff\xee\x00\x0e" + body[:12])
        elif marker in _JPEG_KEPT:
            kept.append(segment)
    if size is None:
        raise BadContainer("JPEG without a frame")
    _check_size(*size, max_pixels)
    kept.append(b"\xff\xd9")
    return Container(
        content_type="image/jpeg",
        width=size[0],
        height=size[1],
        orientation=_orientation(exif),
        colour_profile=b"".join(profile_parts[key] for key in sorted(profile_parts)) or None,
        lossless=False,
        data=_joined(kept, data),
    )


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Marker, whole segment and body of each, up to the end of the first picture.

    The coded pixels belong to the segment that starts their scan.
    """
    position, scans = 2, 0
    for _ in range(_MAX_PIECES):
        found = _JPEG_MARKER.match(data, position)
        if found is None:
            raise BadContainer("JPEG cut off, or with something between its segments")
        position, marker = found.end() - 2, found[1][0]
        if marker == 0xD9:
            return
        if marker < 0xC0 or 0xD0 <= marker <= 0xD8:
            raise BadContainer("JPEG with a marker out of place")
        (length,) = struct.unpack_from(">H", data, position + 2)
        end = position + 2 + length
        body = data[position + 4 : end]
        if length < 2 or len(body) != length - 2:
            raise BadContainer("JPEG cut off")
        if marker == 0xDA:
            scans += 1
            if scans > _MAX_SCANS:
                raise BadContainer("JPEG with too many scans")
            end_of_scan = _JPEG_END_OF_SCAN.search(data, end)
            if end_of_scan is None:
                raise BadContainer("JPEG cut off")
            end = end_of_scan.start()
        yield marker, data[position:end], body
        position = end
    raise BadContainer("JPEG in too many pieces")


def _read_webp(data: bytes, max_pixels: int) -> Container:
    (size,) = struct.unpack_from("<I", data, 4)
    end = 8 + size
    if end > len(data):
        raise BadContainer("WebP cut off")
    kept: list[bytes] = []
    exif = profile = canvas = header = None
    lossless, position, pieces = False, 12, 0
    while position + 8 <= end:
        pieces += 1
        if pieces > _MAX_PIECES:
            raise BadContainer("WebP in too many pieces")
        kind, length = struct.unpack_from("<4sI", data, position)
        body = data[position + 8 : position + 8 + length]
        if position + 8 + length > end:
            raise BadContainer("WebP cut off")
        if kind in (b"ANIM", b"ANMF"):
            raise SeveralFrames("WebP with frames")
        if kind == b"VP8X" and position == 12:
            canvas = (
                1 + int.from_bytes(body[4:7], "little"),
                1 + int.from_bytes(body[7:10], "little"),
            )
            header = bytes([body[0] & _WEBP_ALPHA_FLAG]) + body[1:10]
        elif kind == b"EXIF":
            exif = body.removeprefix(_JPEG_EXIF)
        elif kind == b"ICCP":
            profile = body[:_MAX_PROFILE_BYTES]
        elif kind in _WEBP_KEPT:
            kept.append(_webp_chunk(kind, body))
            if kind != b"ALPH":
                lossless = kind == b"VP8L"
                canvas = canvas or _webp_size(lossless, body)
        position += 8 + length + length % 2
    if canvas is None:
        raise BadContainer("WebP without a picture")
    _check_size(*canvas, max_pixels)
    if header is not None:
        kept.insert(0, _webp_chunk(b"VP8X", header))
    chunks = b"WEBP" + b"".join(kept)
    return Container(
        content_type="image/webp",
        width=canvas[0],
        height=canvas[1],
        orientation=_orientation(exif),
        colour_profile=profile,
        lossless=lossless,
        data=_joined([b"RIFF", struct.pack("<I", len(chunks)), chunks], data),
    )


def _webp_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _webp_size(lossless: bool, body: bytes) -> tuple[int, int]:
    if lossless:
        (bits,) = struct.unpack_from("<I", body, 1)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", body, 6)
    return width & 0x3FFF, height & 0x3FFF


def _joined(parts: list[bytes], original: bytes) -> bytes:
    joined = b"".join(parts)
    return original if joined == original else joined


def _inflated(data: bytes, at_most: int) -> bytes | None:
    """What is unpacked, cut off where it is too large; None where it is broken."""
    inflating = zlib.decompressobj()
    try:
        return inflating.decompress(data, at_most)
    except zlib.error:
        return None


def _orientation(exif: bytes | None) -> int:
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
