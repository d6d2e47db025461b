"""Reads WebP chunks, and the only frame of an animation."""

import struct
from collections.abc import Iterable, Iterator
from typing import Final

from storage.imaging.container import (
    MAX_PIECES,
    MAX_PROFILE_BYTES,
    BadContainer,
    Container,
    SeveralFrames,
    check_size,
    join_parts,
    orientation_of,
)
from storage.imaging.jpeg import EXIF

ALPHA_FLAG: Final = 0x10
_ANIMATION_FLAG: Final = 0x02
_EXIF_FLAG: Final = 0x08
_PROFILE_FLAG: Final = 0x20
_FRAME_HEADER: Final = 16
_KEPT: Final = frozenset((b"VP8 ", b"VP8L", b"ALPH"))


def read_webp(data: bytes, max_pixels: int) -> Container:
    """Read the chunks, up to one that is cut off after the image."""
    (size,) = struct.unpack_from("<I", data, 4)
    picture = _Picture()
    for kind, body in _chunks(data[12 : 8 + size]):
        picture.add(kind, body)
    if picture.canvas is None or not picture.kept:
        raise BadContainer("WebP without a picture")
    width, height = picture.canvas
    check_size(width, height, max_pixels)
    return Container(
        content_type="image/webp",
        width=width,
        height=height,
        orientation=orientation_of(picture.exif),
        colour_profile=picture.profile,
        lossless=picture.lossless,
        tidy=picture.tidy and 8 + size <= len(data),
        data=join_parts([webp_file(b"".join(picture.bare_chunks()))], data),
    )


class _Picture:
    """What the chunks say, one after the other."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.exif: bytes | None = None
        self.profile: bytes | None = None
        self.canvas: tuple[int, int] | None = None
        self.lossless = False
        self.tidy = True
        self._header: bytes | None = None
        self._frame: bytes | None = None

    def add(self, kind: bytes, body: bytes | None) -> None:
        if kind == b"ANMF" and self.kept:
            raise SeveralFrames("WebP with several frames")
        if body is None:
            if not self.kept:
                raise BadContainer("WebP cut off")
            self.tidy = False
        elif kind == b"VP8X" and self.canvas is None:
            self.canvas, self._header = _size_at(body, 4), body[:10]
        elif kind == b"EXIF" and self._announces(_EXIF_FLAG):
            self.exif = body.removeprefix(EXIF)
        elif kind == b"ICCP" and self._announces(_PROFILE_FLAG):
            self.profile = body[:MAX_PROFILE_BYTES]
        elif kind == b"ANMF":
            self.tidy, self._frame = False, body[:_FRAME_HEADER]
            self._add_picture(_chunks(body[_FRAME_HEADER:]))
        elif kind in _KEPT:
            if self._frame is not None:
                raise SeveralFrames("WebP with a frame and a picture")
            self._add_picture([(kind, body)])

    def _announces(self, flag: int) -> bool:
        """Whether the header announces chunks of this kind. Decoders skip others."""
        return self._header is not None and bool(self._header[0] & flag)

    def _add_picture(self, chunks: Iterable[tuple[bytes, bytes | None]]) -> None:
        for kind, body in chunks:
            if body is None:
                raise BadContainer("WebP cut off")
            if kind in _KEPT:
                self.kept.append(webp_chunk(kind, body))
                if kind != b"ALPH":
                    self.lossless = kind == b"VP8L"
                    if self._frame is None:
                        self.canvas = self.canvas or _size(self.lossless, body)

    def bare_chunks(self) -> list[bytes]:
        """The chunks that are needed to show the image; a frame stays a frame, since it may not
        fill the canvas.
        """
        if self._header is None:
            return self.kept
        flags, kept = self._header[0] & ALPHA_FLAG, self.kept
        if self._frame is not None:
            flags |= _ANIMATION_FLAG
            if _size_at(self._frame, 6) != self.canvas:
                # The part that the frame leaves free is transparent.
                flags |= ALPHA_FLAG
            kept = [
                webp_chunk(b"ANIM", bytes(6)),
                webp_chunk(b"ANMF", self._frame + b"".join(kept)),
            ]
        return [webp_chunk(b"VP8X", bytes([flags]) + self._header[1:]), *kept]


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """Kind and body of each chunk; the last body is None where it is cut off."""
    position = 0
    for _ in range(MAX_PIECES):
        if position + 8 > len(data):
            return
        kind, length = struct.unpack_from("<4sI", data, position)
        body = data[position + 8 : position + 8 + length]
        yield kind, body if len(body) == length else None
        position += 8 + length + length % 2
    raise BadContainer("WebP in too many pieces")


def _size_at(header: bytes, at: int) -> tuple[int, int]:
    width, height = header[at : at + 3], header[at + 3 : at + 6]
    return 1 + int.from_bytes(width, "little"), 1 + int.from_bytes(height, "little")


def webp_file(chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def webp_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _size(lossless: bool, body: bytes) -> tuple[int, int]:
    if lossless:
        (bits,) = struct.unpack_from("<I", body, 1)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", body, 6)
    return width & 0x3FFF, height & 0x3FFF
