"""Writes into a file that a model has made the image: IPTC's digital source type, as XMP.

A manifest of provenance from the provider (C2PA, in a JUMBF box) is signed for the exact bytes of
its file. If it says the same, and nothing else has to be removed, the file is kept byte for byte.
Otherwise the manifest stays beside what is added, unless the image had to be encoded again. No
pixel is changed here.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Final, NamedTuple

from domain.images import DigitalSourceType, ProcessedImage, Provenance, Rendition
from storage.imaging.content_credentials import ContentCredentials
from storage.imaging.png import png_chunk
from storage.imaging.webp import ALPHA_FLAG, webp_chunk, webp_file

_PNG_HEADER_END: Final = 33
_XMP_KEYWORD: Final = b"XML:com.adobe.xmp"
_JPEG_XMP: Final = b"http://ns.adobe.com/xap/1.0/\0"
_JPEG_BOX: Final = b"JP"
"""The beginning of an APP11 segment with a part of a JUMBF box."""
_WEBP_XMP_FLAG: Final = 0x04
_SOURCE_TERM: Final = re.compile(
    rb"digitalsourcetype/(trainedAlgorithmicMedia|compositeWithTrainedAlgorithmicMedia)"
)
"""IPTC's term in a manifest's actions: CBOR and JSON contain text unchanged."""
_PACKET: Final = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
    "<Iptc4xmpExt:DigitalSourceType>"
    "http://cv.iptc.org/newscodes/digitalsourcetype/{}"
    "</Iptc4xmpExt:DigitalSourceType>"
    '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def mark(
    processed: ProcessedImage,
    source: DigitalSourceType,
    *,
    delivered: bytes,
    bare: bytes,
    credentials: ContentCredentials | None = None,
) -> ProcessedImage:
    """The image with the mark in every rendition.

    `delivered` is the provider's file, and `bare` is what is left of it without metadata. With
    `credentials`, an original that is not kept unchanged is signed.
    """
    original, manifest, named, signed = processed.original, b"", None, None
    if original.data == bare:  # Otherwise it has been encoded again.
        pieces = list(_pieces(delivered, original.content_type))
        manifest = b"".join(piece.data for piece in pieces if piece.kind == "manifest")
        if _without_marks(pieces, original.content_type) == bare:
            named = _named_source(manifest)
    if named is not None:
        original, source = replace(original, data=delivered), named
    else:
        signed = credentials and credentials.sign(
            mark_rendition(original, source), source, delivered=delivered if manifest else None
        )
        original = signed or mark_rendition(original, source, manifest=manifest)
    return replace(
        processed,
        original=original,
        thumbnails=tuple(mark_rendition(thumbnail, source) for thumbnail in processed.thumbnails),
        provenance=Provenance(source, content_credentials=bool(manifest or signed)),
    )


def mark_rendition(
    rendition: Rendition, source: DigitalSourceType, *, manifest: bytes = b""
) -> Rendition:
    """The rendition, which has no metadata, with the mark and with additional pieces of
    its format.
    """
    xmp = _packet(source)
    data = rendition.data
    match rendition.content_type:
        case "image/png":
            text = png_chunk(b"iTXt", _XMP_KEYWORD + b"\0\0\0\0\0" + xmp)
            data = data[:_PNG_HEADER_END] + text + manifest + data[_PNG_HEADER_END:]
        case "image/jpeg":
            body = _JPEG_XMP + xmp
            segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
            # The segment of JFIF has to be the first one.
            start = 4 + struct.unpack_from(">H", data, 4)[0] if data[2:4] == b"\xff\xe0" else 2
            data = data[:start] + segment + manifest + data[start:]
        case "image/webp":
            data = _extended_webp(rendition, webp_chunk(b"XMP ", xmp) + manifest)
    return replace(rendition, data=data)


def _named_source(manifest: bytes) -> DigitalSourceType | None:
    """How the picture was made, as the manifest itself says."""
    term = _SOURCE_TERM.search(manifest)
    return DigitalSourceType(term[1].decode()) if term else None


class _Piece(NamedTuple):
    kind: str
    """`manifest`, `xmp`, or anything else."""
    data: bytes


@lru_cache
def _packet(source: DigitalSourceType) -> bytes:
    return _PACKET.format(source.value).encode()


def _pieces(data: bytes, content_type: str) -> Iterator[_Piece]:
    """The pieces of an image in a file that has been read before. Bytes after its end
    are left out.
    """
    split = {"image/png": _png_pieces, "image/jpeg": _jpeg_pieces, "image/webp": _webp_pieces}
    position = 0
    for kind, end in split[content_type](data):
        yield _Piece(kind, data[position:end])
        position = end
    if content_type == "image/jpeg":  # The scans are behind all segments.
        yield _Piece("rest", data[position:])


def _png_pieces(data: bytes) -> Iterator[tuple[str, int]]:
    """The kind and the end of each piece."""
    position = 8
    yield "magic", position
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        is_xmp = kind == b"iTXt" and data.startswith(_XMP_KEYWORD + b"\0", position + 8)
        position += 12 + length
        yield "manifest" if kind == b"caBX" else "xmp" if is_xmp else "chunk", position
        if kind == b"IEND":
            return


def _jpeg_pieces(data: bytes) -> Iterator[tuple[str, int]]:
    position = 2
    yield "magic", position
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker, length = struct.unpack_from(">xBH", data, position)
        if not 0xE0 <= marker <= 0xFE and marker not in (0xC0, 0xC1, 0xC2, 0xC4, 0xDB, 0xDD):
            return
        is_box = marker == 0xEB and data.startswith(_JPEG_BOX, position + 4)
        is_xmp = marker == 0xE1 and data.startswith(_JPEG_XMP, position + 4)
        position += 2 + length
        yield "manifest" if is_box else "xmp" if is_xmp else "segment", position


def _webp_pieces(data: bytes) -> Iterator[tuple[str, int]]:
    position, end = 12, min(len(data), 8 + struct.unpack_from("<I", data, 4)[0])
    yield "magic", position
    while position + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, position)
        position += 8 + length + length % 2
        yield {b"C2PA": "manifest", b"XMP ": "xmp"}.get(kind, "chunk"), position


def _without_marks(pieces: list[_Piece], content_type: str) -> bytes:
    rest = b"".join(piece.data for piece in pieces if piece.kind not in ("manifest", "xmp"))
    if content_type != "image/webp":
        return rest
    chunks = bytearray(rest[12:])
    if chunks.startswith(b"VP8X"):
        chunks[8] &= ~_WEBP_XMP_FLAG
    return webp_file(bytes(chunks))


def _extended_webp(rendition: Rendition, added: bytes) -> bytes:
    """A WebP in the extended format, the only one that has room for more chunks."""
    chunks = rendition.data[12:]
    if chunks.startswith(b"VP8X"):
        header, chunks = bytearray(chunks[8:18]), chunks[18:]
    else:
        header = bytearray(10)
        header[4:7] = (rendition.width - 1).to_bytes(3, "little")
        header[7:10] = (rendition.height - 1).to_bytes(3, "little")
        # A lossless image says itself whether it has transparency.
        if chunks.startswith(b"VP8L") and chunks[12] & 0x10:
            header[0] = ALPHA_FLAG
    header[0] |= _WEBP_XMP_FLAG
    return webp_file(webp_chunk(b"VP8X", bytes(header)) + chunks + added)
