"""Untidy but complete pictures, each with what common decoders show of it."""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any

from PIL import Image

from tests.storage.pictures import (
    CANARY,
    a_picture,
    encoded,
    png_chunk,
    with_jpeg_segment,
    with_png_chunk,
)

LOSSLESS, LOSSY = 0.0, 3.0
END_OF_PNG = 12
END_OF_JPEG = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Untidy:
    """A file, and what it shows."""

    make: Callable[[], bytes]
    shown: Callable[[], Image.Image] = a_picture
    image_format: str
    apart: float = LOSSLESS
    """How far what is kept may be apart from it, as a mean of 255."""


def png(make: Callable[[], bytes], shown: Callable[[], Image.Image] = a_picture) -> Untidy:
    return Untidy(make=make, shown=shown, image_format="PNG")


def jpeg(make: Callable[[], bytes], shown: Callable[[], Image.Image] = a_picture) -> Untidy:
    return Untidy(make=make, shown=shown, image_format="JPEG", apart=LOSSY)


def webp(
    make: Callable[[], bytes],
    shown: Callable[[], Image.Image] = a_picture,
    apart: float = LOSSY,
) -> Untidy:
    return Untidy(make=make, shown=shown, image_format="WEBP", apart=apart)


# PNG


def a_png(**options: Any) -> bytes:
    return encoded(a_picture(), **options)


def without_end(data: bytes, bytes_more: int = 0) -> bytes:
    return data[: len(data) - END_OF_PNG - bytes_more]


def with_wrong_checksum(data: bytes, kind: bytes, *, at: int = 0) -> bytes:
    """The chunk of this kind gets a checksum that is wrong; only the checksum."""
    start = data.index(kind, at) - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    return data[: end - 1] + bytes([data[end - 1] ^ 0x55]) + data[end:]


def with_a_text(kind: bytes, head: bytes, megabytes: float) -> bytes:
    text = zlib.compress((CANARY * 1_000_000)[: int(megabytes * 1_000_000)], 9)
    return with_png_chunk(a_png(), kind, head + text)


def repacked(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """With one chunk of pixels, whose packed bytes have been changed."""
    start, end = data.index(b"IDAT"), data.rindex(b"IEND") - 4
    length = int.from_bytes(data[start - 4 : start], "big")
    assert start + 8 + length == end, "one chunk of pixels"
    packed = change(data[start + 4 : start + 4 + length])
    return data[: start - 4] + png_chunk(b"IDAT", packed) + data[end:]


def in_two_chunks() -> bytes:
    """The first with a wrong checksum; the pixels have one of their own, behind them."""
    data = a_png()
    start, end = data.index(b"IDAT") + 4, data.rindex(b"IEND") - 8
    one, two = data[start : start + 100], data[start + 100 : end]
    broken = with_wrong_checksum(png_chunk(b"IDAT", one), b"IDAT")
    return data[: start - 8] + broken + png_chunk(b"IDAT", two) + data[-END_OF_PNG:]


def with_surplus_rows(rows: int) -> bytes:
    surplus = (b"\0" + bytes(900)) * rows
    return repacked(a_png(), lambda packed: zlib.compress(zlib.decompress(packed) + surplus))


def with_palette(change: Callable[[bytes], bytes]) -> bytes:
    data = encoded(a_picture().quantize(16))
    start = data.index(b"PLTE") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    return data[:start] + png_chunk(b"PLTE", change(data[start + 8 : end - 4])) + data[end:]


def endless(packed: bytes) -> bytes:
    packing = zlib.compressobj()
    return packing.compress(zlib.decompress(packed)) + packing.flush(zlib.Z_SYNC_FLUSH)


def animated_png() -> bytes:
    """As it is written by those who know of animations only: of one frame."""
    control = struct.pack(">IIIIIHHBB", 0, 300, 200, 0, 0, 1, 10, 0, 0)
    data = with_png_chunk(a_png(), b"fcTL", control)
    return with_png_chunk(data, b"acTL", struct.pack(">II", 1, 0))


# JPEG


def a_jpeg(**options: Any) -> bytes:
    return encoded(a_picture(), "JPEG", **options)


def shown_of(**options: Any) -> Image.Image:
    return Image.open(BytesIO(a_jpeg(**options))).convert("RGB")


def with_stray(stray: bytes, data: bytes, *markers: int) -> bytes:
    """These bytes in front of each segment with one of these markers."""
    for marker in markers:
        place = data.index(bytes((0xFF, marker)))
        data = data[:place] + stray + data[place:]
    return data


def with_stray_everywhere(stray: bytes) -> bytes:
    return with_stray(stray, a_jpeg(), 0xE0, 0xDB, 0xC0, 0xC4, 0xDA)


def cut_in_a_segment_behind_the_scan() -> bytes:
    return a_jpeg()[:-END_OF_JPEG] + b"\xff\xfe\x01\x00only half"


SCANS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "grey": {},
    "with restarts": {"restart_marker_blocks": 3},
    "progressive with restarts": {"progressive": True, "restart_marker_rows": 1},
    "for print": {},
}
MODES = {"grey": "L", "for print": "CMYK"}


def a_jpeg_of(name: str) -> bytes:
    return encoded(a_picture(mode=MODES.get(name, "RGB")), "JPEG", **SCANS[name])


def without_jpeg_end(name: str, more: bytes = b"") -> bytes:
    return a_jpeg_of(name)[:-END_OF_JPEG] + more


def jpeg_of(name: str) -> Image.Image:
    return Image.open(BytesIO(a_jpeg_of(name))).convert("RGB")


# WebP


def a_webp(**options: Any) -> bytes:
    return encoded(a_picture(), "WEBP", **options)


def webp_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def riff(*chunks: bytes, surplus: int = 0) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) + surplus) + body


def animated_webp(
    picture: Image.Image,
    *,
    canvas: tuple[int, int] | None = None,
    at: tuple[int, int] = (0, 0),
    frames: int = 1,
    **options: Any,
) -> bytes:
    """An animation of one frame, or of the same one several times."""
    still = encoded(picture, "WEBP", **options)
    inner = still[12:]
    if inner.startswith(b"VP8X"):
        inner = inner[18:]
    size, area = picture.size, canvas or picture.size
    header = b"".join(
        number.to_bytes(3, "little")
        for number in (at[0] // 2, at[1] // 2, size[0] - 1, size[1] - 1, 100)
    )
    alpha = 0x10 if picture.mode == "RGBA" else 0
    extended = bytes((0x02 | alpha, 0, 0, 0)) + b"".join(
        (side - 1).to_bytes(3, "little") for side in area
    )
    frame = webp_chunk(b"ANMF", header + b"\0" + inner)
    return riff(
        webp_chunk(b"VP8X", extended),
        webp_chunk(b"ANIM", bytes(6)),
        *(frame for _ in range(frames)),
    )


def on_a_canvas() -> Image.Image:
    shown = Image.new("RGBA", (400, 300))
    shown.paste(a_picture().convert("RGBA"), (60, 40))
    return shown


UNTIDY: dict[str, Untidy] = {
    "PNG without IEND": png(lambda: without_end(a_png())),
    "PNG with half of IEND": png(lambda: a_png()[:-6]),
    "PNG without IEND and the last checksum": png(lambda: without_end(a_png(), 4)),
    "PNG without IEND and half of a checksum": png(lambda: without_end(a_png(), 2)),
    "PNG without IEND, and a chunk cut off": png(
        lambda: without_end(a_png()) + png_chunk(b"tEXt", b"Comment\0" + CANARY)[:-9]
    ),
    "PNG without IEND, and something else": png(lambda: without_end(a_png()) + CANARY * 3),
    "PNG with a wrong checksum of IEND": png(lambda: with_wrong_checksum(a_png(), b"IEND")),
    **{
        f"PNG with a wrong checksum of {kind.decode()}": png(
            partial(with_wrong_checksum, with_png_chunk(a_png(), kind, body), kind)
        )
        for kind, body in (
            (b"tEXt", b"Comment\0hello"),
            (b"eXIf", b"MM\0*" + CANARY),
            (b"iCCP", b"ICC\0\0" + zlib.compress(CANARY)),
            (b"tIME", bytes(7)),
            (b"gAMA", (100_000).to_bytes(4, "big")),
            (b"acTL", struct.pack(">II", 3, 0)),
            (b"caBX", CANARY),
        )
    },
    **{
        f"PNG with a {kind.decode()} of {len(body)} bytes": png(
            partial(with_png_chunk, a_png(), kind, body)
        )
        for kind, body in (
            (b"gAMA", b"\0\1"),
            (b"cHRM", bytes(31)),
            (b"sRGB", b""),
            (b"cICP", b"\x0c\x0d\0"),
            (b"cICP", b"\x01\x0d\x01\x01"),
        )
    },
    "PNG with two bytes more in its palette": png(
        lambda: with_palette(lambda colours: colours + b"ab"),
        lambda: a_picture().quantize(16).convert("RGB"),
    ),
    "PNG with colours that are not in its palette": png(
        lambda: with_palette(lambda colours: colours[:24]),
        lambda: Image.open(BytesIO(with_palette(lambda colours: colours[:24]))).convert("RGB"),
    ),
    "PNG with a wrong checksum of its pixels' chunk": png(
        lambda: with_wrong_checksum(a_png(), b"IDAT")
    ),
    "PNG with a wrong checksum of its pixels' first chunk": png(in_two_chunks),
    "PNG with a wrong checksum at the end of its pixels": png(
        lambda: repacked(a_png(), lambda packed: packed[:-1] + bytes([packed[-1] ^ 1]))
    ),
    "PNG with one row more": png(lambda: with_surplus_rows(1)),
    "PNG with 200 rows more": png(lambda: with_surplus_rows(200)),
    "PNG with something behind its pixels": png(
        lambda: repacked(a_png(), lambda packed: packed + CANARY * 50)
    ),
    "PNG with a packed text of 4 MB": png(lambda: with_a_text(b"zTXt", b"Comment\0\0", 4)),
    "PNG with a packed text of 20 MB": png(lambda: with_a_text(b"zTXt", b"Comment\0\0", 20)),
    "PNG with an international text of 9 MB": png(
        lambda: with_a_text(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0", 9)
    ),
    "PNG, an animation of one frame": png(animated_png),
    "PNG, an animation of no frame": png(
        lambda: with_png_chunk(a_png(), b"acTL", struct.pack(">II", 0, 0))
    ),
    "PNG, an animation that does not say of how many frames": png(
        lambda: with_png_chunk(a_png(), b"acTL", b"\0")
    ),
    "PNG, an animation of two frames without its second": png(
        lambda: with_png_chunk(a_png(), b"acTL", struct.pack(">II", 2, 0))
    ),
    "PNG with a frame of no animation": png(
        lambda: with_png_chunk(a_png(), b"fdAT", b"\0\0\0\1frame")
    ),
    "PNG that says behind its pixels that it moves": png(
        lambda: (
            without_end(a_png())
            + png_chunk(b"acTL", struct.pack(">II", 2, 0))
            + png_chunk(b"fdAT", b"\0\0\0\1frame")
            + a_png()[-END_OF_PNG:]
        )
    ),
    "PNG whose pixels do not say that no more follow": png(lambda: repacked(a_png(), endless)),
    "interlaced PNG with alpha without IEND": png(
        lambda: without_end(encoded(a_picture(mode="RGBA"))), lambda: a_picture(mode="RGBA")
    ),
    **{
        f"{name} JPEG without an end": jpeg(partial(without_jpeg_end, name), partial(jpeg_of, name))
        for name in SCANS
    },
    **{
        f"{name} JPEG with something behind its pixels": jpeg(
            partial(without_jpeg_end, name, CANARY * 50 + b"\xff\xd9"),
            partial(jpeg_of, name),
        )
        for name in SCANS
    },
    "JPEG with half of an end": jpeg(lambda: a_jpeg()[:-1], shown_of),
    "JPEG without an end, and fill": jpeg(lambda: a_jpeg()[:-2] + b"\xff" * 7, shown_of),
    "JPEG without an end, and zeros": jpeg(lambda: a_jpeg()[:-2] + bytes(100), shown_of),
    "JPEG cut in a segment behind its scan": jpeg(cut_in_a_segment_behind_the_scan, shown_of),
    "JPEG with fill between its segments": jpeg(
        lambda: with_stray(b"\xff" * 9, a_jpeg(), 0xDB, 0xC0, 0xC4, 0xDA, 0xD9), shown_of
    ),
    **{
        f"JPEG with {name} between its segments": jpeg(
            partial(with_stray_everywhere, stray), shown_of
        )
        for name, stray in {
            "zeros": bytes(4),
            "words": CANARY,
            "escaped bytes": b"\xff\0\xff\0x",
            "restart markers": b"\xff\xd3\xff\xd4",
            "8 KB": CANARY * 430,
        }.items()
    },
    **{
        f"JPEG with {name} of {length} bytes": jpeg(
            partial(with_stray, bytes((0xFF, marker, 0, length)), a_jpeg(), 0xDB), shown_of
        )
        for name, marker in (("a comment", 0xFE), ("data of an application", 0xED))
        for length in (0, 1)
    },
    "JPEG with a part of a profile that has no number": jpeg(
        lambda: with_jpeg_segment(a_jpeg(), 0xE2, b"ICC_PROFILE\0"), shown_of
    ),
    "JPEG with something in front of its end": jpeg(
        lambda: a_jpeg()[:-2] + with_jpeg_segment(b"\xff\xd8", 0xFE, CANARY)[2:] + b"\0\0\xff\xd9",
        shown_of,
    ),
    "JPEG with fewer rows than are coded": jpeg(
        lambda: with_jpeg_height(a_jpeg(), 150), lambda: a_picture().crop((0, 0, 300, 150))
    ),
    "WebP, an animation of one frame": webp(lambda: animated_webp(a_picture())),
    "WebP, a lossless animation of one frame": webp(
        lambda: animated_webp(a_picture(), lossless=True), apart=LOSSLESS
    ),
    "WebP, an animation of one frame with alpha": webp(
        lambda: animated_webp(a_picture(mode="RGBA"), quality=95), lambda: a_picture(mode="RGBA")
    ),
    "WebP, one frame on a larger canvas": webp(
        lambda: animated_webp(a_picture(), canvas=(400, 300), at=(60, 40), lossless=True),
        on_a_canvas,
        apart=LOSSLESS,
    ),
    "WebP that says to be longer": webp(
        lambda: riff(a_webp()[12:], surplus=100),
    ),
    "WebP cut in a chunk behind its picture": webp(
        lambda: encoded(a_picture(), "WEBP", xmp=CANARY * 100)[:-50]
    ),
}
"""By what is untidy in each."""


def with_jpeg_height(data: bytes, height: int) -> bytes:
    frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    return data[: frame + 5] + struct.pack(">H", height) + data[frame + 7 :]


def cut_jpeg(name: str, percent: int, end: bytes) -> bytes:
    data = a_jpeg_of(name)
    return data[: len(data) * percent // 100] + end


def without_scan(data: bytes, index: int = -1) -> bytes:
    """A progressive JPEG without one of its scans, closed as if nothing were missing."""
    places = []
    place = data.find(b"\xff\xda")
    while place >= 0:
        places.append(place)
        place = data.find(b"\xff\xda", place + 2)
    return data[: places[index]]


INCOMPLETE: dict[str, Callable[[], bytes]] = {
    "PNG cut before the end of its pixels": lambda: without_end(a_png(), 8),
    "PNG without its last row": lambda: repacked(
        a_png(), lambda packed: zlib.compress(zlib.decompress(packed)[:-901])
    ),
    "PNG without its last byte of pixels": lambda: repacked(
        a_png(), lambda packed: zlib.compress(zlib.decompress(packed)[:-1])
    ),
    "PNG with a changed pixel": lambda: repacked_wrongly(a_png()),
    "PNG with a wrong checksum of its header": lambda: with_wrong_checksum(a_png(), b"IHDR"),
    "PNG with a wrong checksum of its palette": lambda: with_wrong_checksum(
        encoded(a_picture().quantize(16)), b"PLTE"
    ),
    "PNG with pixels without end": lambda: repacked(
        a_png(), lambda _: zlib.compress(bytes(50_000_000))
    ),
    **{
        f"{name} JPEG cut at {percent} %{closed}": (partial(cut_jpeg, name, percent, end))
        for name in SCANS
        for percent in (20, 50, 75, 95)
        for closed, end in (("", b""), (", closed", b"\xff\xd9"))
    },
    "JPEG without its last ten bytes of pixels": lambda: a_jpeg()[:-12],
    "JPEG with more rows than are coded": lambda: with_jpeg_height(a_jpeg(), 230),
    "JPEG with a few more rows than are coded": lambda: with_jpeg_height(a_jpeg(), 209),
    "JPEG without its last scan": lambda: without_scan(a_jpeg(progressive=True)),
    "JPEG without scans": lambda: without_scan(a_jpeg()) + b"\xff\xd9",
    "WebP cut in its picture": lambda: a_webp()[:-20],
    "WebP cut in its frame": lambda: animated_webp(a_picture())[:-20],
    "WebP whose frame has no picture": lambda: animated_webp(a_picture()).replace(b"VP8 ", b"VPx "),
}
"""Pictures of which something is missing, by what that is."""

SEVERAL_FRAMES: dict[str, Callable[[], bytes]] = {
    "WebP of two frames": lambda: animated_webp(a_picture(), frames=2),
    "WebP of two frames, the second cut off": lambda: animated_webp(a_picture(), frames=2)[:-100],
    "WebP of a frame and a picture": lambda: riff(animated_webp(a_picture())[12:], a_webp()[12:]),
    "PNG of two frames": lambda: encoded(
        a_picture(), save_all=True, append_images=[Image.new("RGB", (300, 200))]
    ),
    "PNG of a picture and a frame": lambda: with_png_chunk(
        with_png_chunk(a_png(), b"fdAT", b"\0\0\0\1frame"), b"acTL", struct.pack(">II", 1, 0)
    ),
}


def repacked_wrongly(data: bytes) -> bytes:
    """A bit of the packed pixels has been flipped, so that both checksums are wrong."""
    place = data.index(b"IDAT") + 100
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
