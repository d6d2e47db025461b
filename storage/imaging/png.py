"""Reads PNG chunks, and checks that all pixels are there."""

import re
import struct
import zlib
from collections.abc import Collection, Iterator
from typing import Final

from storage.imaging.colours import Colours, colours_of_code_points, colours_of_gamma
from storage.imaging.container import (
    MAX_PIECES,
    MAX_PROFILE_BYTES,
    BadContainer,
    Container,
    SeveralFrames,
    check_size,
    inflate,
    join_parts,
    orientation_of,
)

PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
_SURPLUS_BYTES: Final = 64 * 1024
"""Unpacked bytes after the pixels: up to this many, or as many as the pixels have, are
tolerated.
"""
_COLOURS: Final = frozenset((b"gAMA", b"cHRM", b"sRGB", b"cICP"))
_KEPT: Final = _COLOURS | {b"IHDR", b"PLTE", b"tRNS", b"sBIT"}
_BEFORE_PIXELS: Final = _KEPT | {b"iCCP", b"acTL"}
_GAMMAS: Final = range(1_000, 10_000_000)
"""In 100,000ths. Others are taken as damage."""
_RGB_MATRIX: Final = 0
_LENGTHS: Final = {b"acTL": 8, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4}
"""Other decoders ignore a chunk of these kinds if it has another length."""
_PACKED_TEXTS: Final = {
    b"zTXt": re.compile(rb"[^\0]*\0\0(.*)", re.DOTALL),
    b"iTXt": re.compile(rb"[^\0]*\0\x01\0[^\0]*\0[^\0]*\0(.*)", re.DOTALL),
}
"""The bytes before texts that are compressed."""
_PACKED_PROFILE: Final = re.compile(rb"[^\0]{1,79}\0\0(.*)", re.DOTALL)
"""After a name of an accepted length: the only compression method."""
_ANCILLARY: Final = 0x20
"""A bit in the first letter of a chunk's name: set where decoders may ignore the chunk."""
_GREY, _RGB, _PALETTE = 0, 2, 3
_CHANNELS: Final = {_GREY: 1, _RGB: 3, _PALETTE: 1, 4: 2, 6: 4}
_PASSES: Final = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""Of an interlaced PNG: the first column and row of each pass, and the steps between pixels."""
_PIECE_BYTES: Final = 16 * 1024
_STREAM_HEADER_BYTES: Final = 2


def read_png(data: bytes, max_pixels: int, max_text_bytes: int) -> Container:
    """Read the chunks as common decoders do: a missing end, or a wrong checksum of a chunk that is
    left out anyway, are tolerated.
    """
    chunks = _read_chunks(data)
    _check_texts(chunks.texts, max_text_bytes)
    width, height = struct.unpack_from(">II", data, 16)
    check_size(width, height, max_pixels)
    # Pillow reads too few rows if the image is black below.
    pixels = _repair_pixels(chunks.packed, _size_of_rows(data), checked=chunks.checked)
    found = chunks.found
    bits, colour_type = data[24], data[25]
    profile, colours = _colours(found)
    if profile is not None:
        chunks.drop(_COLOURS)  # The profile has precedence, and is not kept.
    packed = chunks.packed if pixels is None else [pixels]
    kept = [*chunks.kept, *(png_chunk(b"IDAT", part) for part in packed), png_chunk(b"IEND", b"")]
    return Container(
        content_type="image/png",
        width=width,
        height=height,
        orientation=orientation_of(found.get(b"eXIf")),
        colour_profile=profile,
        colours=colours,
        transparent=_transparent(found.get(b"tRNS"), bits, colour_type),
        bits=bits,
        lossless=True,
        tidy=chunks.tidy and pixels is None,
        data=join_parts([PNG_MAGIC, *kept], data),
    )


def _read_chunks(data: bytes) -> "_Chunks":
    chunks = _Chunks()
    position = len(PNG_MAGIC)
    for _ in range(MAX_PIECES):
        if chunks.packed and position + 8 > len(data):
            chunks.tidy = False
            return chunks
        length, kind = struct.unpack_from(">I4s", data, position)
        if position == len(PNG_MAGIC) and (kind, length) != (b"IHDR", 13):
            raise BadContainer("PNG does not begin with its header")
        end = position + 12 + length
        body = memoryview(data)[position + 8 : position + 8 + length]
        checksum = zlib.crc32(body, zlib.crc32(kind)).to_bytes(4, "big")
        chunks.add(
            kind, body, correct=checksum == data[end - 4 : end], is_complete=end <= len(data)
        )
        position = end
        if chunks.ended:
            return chunks
    raise BadContainer("PNG in too many pieces")


class _Chunks:
    """What has been read of a file so far."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.packed: list[memoryview] = []
        self.texts: list[tuple[bytes, memoryview]] = []
        self.found: dict[bytes, bytes] = {}
        """The first chunk of each other kind."""
        self.tidy = True
        self.checked = True
        """Whether the checksums of all pixels were right."""
        self.ended = False

    def add(self, kind: bytes, body: memoryview, *, correct: bool, is_complete: bool) -> None:
        self.tidy &= correct
        if kind == b"IEND":
            self.ended = True
            return
        if not correct and kind != b"IDAT":
            # Other decoders ignore such a chunk, or stop here with all the pixels.
            if not (is_complete and kind[0] & _ANCILLARY):
                if not self.packed:
                    raise BadContainer("PNG with a wrong checksum")
                self.ended = True
            return
        if kind == b"fdAT" and b"acTL" in self.found:
            raise SeveralFrames("PNG with several frames")
        if kind == b"IDAT":
            # The stream that it is a part of ends with a checksum, too.
            self.checked &= correct
            self.packed.append(body)
            return
        if kind == b"PLTE" and len(body) % 3:
            self.tidy = False  # libpng does not show it.
        if (self.packed and kind in _BEFORE_PIXELS) or not self._fits(kind, body):
            # Other decoders skip what follows the pixels, or does not fit them.
            return
        if kind in _KEPT and kind in self.found:
            # If two of them differ, decoders take either one.
            self.tidy = False
            return
        if kind in _PACKED_TEXTS:
            self.texts.append((kind, body))
        else:
            self.found.setdefault(kind, bytes(body))
        if kind in _KEPT:
            self.kept.append(png_chunk(kind, body))

    def drop(self, kinds: Collection[bytes]) -> None:
        self.kept = [chunk for chunk in self.kept if chunk[4:8] not in kinds]

    def _fits(self, kind: bytes, body: memoryview) -> bool:
        """Whether a chunk is possible for its kind, and for the image's."""
        if len(body) != _LENGTHS.get(kind, len(body)):
            return False
        if kind == b"gAMA":
            return int.from_bytes(body, "big") in _GAMMAS
        if kind == b"cICP":
            return body[2] == _RGB_MATRIX  # Browsers do not show an image with another one.
        if kind != b"tRNS":
            return True
        colour_type = self.found[b"IHDR"][9]
        if colour_type == _PALETTE:
            # It follows the palette, and has at most its number of colours, of which a pixel's bits
            # can name so many.
            colours = min(len(self.found.get(b"PLTE", b"")) // 3, 1 << self.found[b"IHDR"][8])
            return 0 < len(body) <= colours
        return len(body) == 2 * _CHANNELS[colour_type] if colour_type in (_GREY, _RGB) else False


def png_chunk(kind: bytes, body: bytes | memoryview) -> bytes:
    checksum = zlib.crc32(body, zlib.crc32(kind))
    return b"".join((struct.pack(">I4s", len(body), kind), body, struct.pack(">I", checksum)))


def _colours(found: dict[bytes, bytes]) -> tuple[bytes | None, Colours | None]:
    """The profile or the numbers of the colours: the chunk that has precedence."""
    colours = None
    if len(code_points := found.get(b"cICP", b"")) == 4:
        primaries, transfer, _, full_range = code_points
        colours = colours_of_code_points(primaries, transfer, full_range=full_range != 0)
    if colours is None and (packed := _PACKED_PROFILE.fullmatch(found.get(b"iCCP", b""))):
        profile = inflate(packed[1], MAX_PROFILE_BYTES)
        if profile is not None:
            return profile, None
    if colours is None and b"sRGB" not in found:
        gamma = _fractions(found.get(b"gAMA"), 1)
        colours = colours_of_gamma(gamma[0] if gamma else None, _fractions(found.get(b"cHRM"), 8))
    return None, None if colours is None or colours.is_srgb else colours


def _fractions(body: bytes | None, count: int) -> tuple[float, ...] | None:
    if body is None or len(body) != 4 * count:
        return None
    return tuple(number / 100_000 for number in struct.unpack(f">{count}I", body))


def _transparent(body: bytes | None, bits: int, colour_type: int) -> tuple[int, ...] | None:
    """The transparent colour in `tRNS`, if there is one: only as many bits as a sample
    has count.
    """
    count = {_GREY: 1, _RGB: 3}.get(colour_type, 0)
    if body is None or count == 0 or len(body) != 2 * count:
        return None
    return tuple(sample & ((1 << bits) - 1) for sample in struct.unpack(f">{count}H", body))


def _check_texts(texts: list[tuple[bytes, memoryview]], max_bytes: int) -> None:
    if max_bytes == 0:
        return
    for kind, body in texts:
        text = _PACKED_TEXTS[kind].match(bytes(body))
        max_bytes -= len(inflate(text[1], 1 + max_bytes) or b"") if text else 0
        if max_bytes < 0:
            raise BadContainer("PNG with texts without end")


def _size_of_rows(data: bytes) -> int:
    """The number of bytes of the rows, unpacked: each row has one more for its filter."""
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    bits = depth * _CHANNELS.get(colour, 0)
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    size = 0
    for column, row, column_step, row_step in passes:
        columns = -((column - width) // column_step)
        rows = -((row - height) // row_step)
        if columns > 0 and rows > 0:
            size += rows * (1 + (columns * bits + 7) // 8)
    return size


def _repair_pixels(packed: list[memoryview], expected: int, *, checked: bool) -> bytes | None:
    """The compressed rows with a correct end, or None where they have it. Raise unless all rows are
    there, and either their chunks have been checked or the checksum at the end is right.
    """
    unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
    size, checksum, at_most = 0, 1, expected + max(expected, _SURPLUS_BYTES)
    stream_bytes, trailer = _STREAM_HEADER_BYTES, b""
    parts = _split_stream(packed)
    for part in parts:
        try:
            rows = unpacking.decompress(part)
        except zlib.error as error:
            raise BadContainer("PNG that cannot be unpacked") from error
        size, checksum = size + len(rows), zlib.adler32(rows, checksum)
        if size > at_most:
            raise BadContainer("PNG with far more pixels than it says")
        stream_bytes += len(part) - len(unpacking.unused_data)
        if unpacking.eof:
            trailer = unpacking.unused_data + bytes(next(parts, b""))
            break
    end = checksum.to_bytes(4, "big")
    if size < expected or not (checked or trailer.startswith(end)):
        raise BadContainer("PNG with pixels missing")
    if size == expected and trailer == end:
        return None
    if not unpacking.eof:
        # All rows are there; only the mark that no more follow is missing.
        return b"".join(packed)
    return b"".join(packed)[:stream_bytes] + end


def _split_stream(packed: list[memoryview]) -> Iterator[memoryview]:
    """The compressed data after the header of a stream."""
    skipped = _STREAM_HEADER_BYTES
    for chunk in packed:
        for start in range(min(skipped, len(chunk)), len(chunk), _PIECE_BYTES):
            yield chunk[start : start + _PIECE_BYTES]
        skipped -= min(skipped, len(chunk))
