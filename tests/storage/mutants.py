"""Damaged pictures, and a process that develops many of them as a child would develop one.

`python -m tests.storage.mutants SEED COUNT` writes a line of JSON with how they ended. A
process of its own for each would take ten times as long, most of it to start. The limits of time
end this process, and with it the test, as no mutant may take so long.
"""

import json
import random
import resource
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageCms, PngImagePlugin

from domain.errors import UserErrorCode
from storage.imaging.containers import content_type_of
from storage.imaging.sandbox_child import (
    Limits,
    Refusal,
    encode_answer,
    memory_in_use,
    process_within_limits,
)

CONTENT_TYPES = ("image/png", "image/jpeg", "image/webp")


@cache
def whole_files() -> Sequence[bytes]:
    """Small files with everything in them that a decoder may stumble over."""
    across = Image.linear_gradient("L").rotate(90).resize((96, 64))
    down = Image.linear_gradient("L").resize((96, 64))
    colour = Image.merge("RGB", (across, down, Image.effect_noise((96, 64), 60)))
    clear = colour.copy()
    clear.putalpha(down)
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace("sRGB".encode("utf-16-be"), "ours".encode("utf-16-be"))
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", "packed " * 50, zip=True)
    made: tuple[tuple[Image.Image, str, dict[str, Any]], ...] = (
        (colour, "PNG", {"pnginfo": texts, "icc_profile": profile}),
        (clear, "PNG", {"exif": exif}),
        (colour.quantize(16), "PNG", {"transparency": 3}),
        (down.convert("I").point(lambda grey: grey * 257).convert("I;16"), "PNG", {}),
        (colour, "JPEG", {"exif": exif, "icc_profile": profile, "comment": b"hello"}),
        (colour, "JPEG", {"progressive": True, "quality": 60}),
        (colour.convert("CMYK"), "JPEG", {"subsampling": 0, "restart_marker_blocks": 4}),
        (down, "JPEG", {}),
        (colour, "WEBP", {"exif": exif, "icc_profile": profile}),
        (clear, "WEBP", {"quality": 60}),
        (clear, "WEBP", {"lossless": True, "xmp": b"<x/>"}),
    )
    files = []
    for picture, image_format, options in made:
        written = BytesIO()
        picture.save(written, image_format, **options)
        files.append(written.getvalue())
    return files


def mutants(seed: str, count: int) -> Iterator[bytes]:
    """The given number of damaged files, the same ones for the same seed."""
    chance = random.Random(seed)
    for _ in range(count):
        data = bytearray(chance.choice(whole_files()))
        for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
            data = _damaged(data, chance) or bytearray(1)
        if chance.random() < 0.8:
            # As attackers do: with wrong checksums hardly anything of a PNG is ever reached.
            data = _with_checksums(data)
        yield bytes(data)


def _damaged(data: bytearray, chance: random.Random) -> bytearray:
    place = chance.randrange(len(data))
    length = chance.choice((1, 2, 4, 16, 100, 1000))
    match chance.choice(
        ("bit", "bit", "cut", "insert", "repeat", "delete", "length", "header", "splice", "value")
    ):
        case "bit":
            data[place] ^= 1 << chance.randrange(8)
        case "cut":
            data = data[:place]
        case "insert":
            data[place:place] = chance.randbytes(length)
        case "repeat":
            data[place:place] = data[place : place + length] * chance.choice((1, 2, 50))
        case "delete":
            del data[place : place + length]
        case "length":
            data = _with_another_length(data, chance)
        case "header":
            data = _with_another_size(data, chance)
        case "splice":
            other = chance.choice(whole_files())
            data = data[:place] + other[chance.randrange(len(other)) :]
        case "value":
            data[place : place + 4] = struct.pack(
                chance.choice("<>") + "I", chance.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x10000))
            )
    return data


def _with_another_length(data: bytearray, chance: random.Random) -> bytearray:
    """Of a chunk or segment that begins somewhere in the file."""
    names = (b"IHDR", b"IDAT", b"iCCP", b"zTXt", b"PLTE", b"tRNS", b"VP8 ", b"VP8L", b"ALPH")
    place = data.find(chance.choice((*names, b"\xff\xc4", b"\xff\xdb", b"\xff\xda", b"\xff\xe1")))
    if place >= 4:
        new = chance.choice((0, 1, 3, 64, 5_000, 2**31, 2**32 - 1)).to_bytes(4, "big")
        if data[place] == 0xFF:
            data[place + 2 : place + 4] = new[2:]
        elif data[:4] == b"RIFF":
            data[place + 4 : place + 8] = new[::-1]
        else:
            data[place - 4 : place] = new
    return data


def _with_another_size(data: bytearray, chance: random.Random) -> bytearray:
    width, height = (chance.choice((0, 1, 15, 16, 63, 97, 640, 6_000, 65_535)) for _ in range(2))
    if data[1:4] == b"PNG":
        data[16:24] = struct.pack(">II", width, height)
    elif data[:4] == b"RIFF":
        data[24:30] = width.to_bytes(3, "little") + height.to_bytes(3, "little")
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        place = data.find(marker)
        if place > 0:
            data[place + 5 : place + 9] = struct.pack(">HH", height, width)
    return data


def _with_checksums(data: bytearray) -> bytearray:
    position = 8
    while data[1:4] == b"PNG" and position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 12 + length
        if end > len(data):
            break
        data[end - 4 : end] = struct.pack(">I", zlib.crc32(data[position + 4 : end - 4]))
        position = end
    return data


def assert_opens(data: bytes, content_type: str, width: int, height: int) -> None:
    picture = Image.open(BytesIO(data))
    picture.load()
    assert (picture.get_format_mimetype(), picture.size) == (content_type, (width, height))


def most_memory_bytes() -> int:
    """The most that this process has ever had in memory; on macOS, that its parent had as well."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


def main(seed: str, count: int) -> None:
    memory_before, outcomes, slowest = memory_in_use(), Counter[str](), 0.0
    for number, data in enumerate(mutants(seed, count)):
        content_type = content_type_of(data)
        if content_type is None:
            outcomes[UserErrorCode.UPLOAD_TYPE_UNSUPPORTED] += 1
            continue
        started = time.process_time()
        try:
            answer = process_within_limits(data, Limits(), memory_before=memory_before)
            encode_answer(answer)
            slowest = max(slowest, time.process_time() - started)
            if isinstance(answer, Refusal):
                outcomes[answer.code] += 1
                continue
            outcomes["accepted"] += 1
            for rendition in (answer.original, *answer.thumbnails):
                assert_opens(
                    rendition.data, rendition.content_type, rendition.width, rendition.height
                )
        except Exception as error:
            raise AssertionError(f"mutant {number} of seed {seed}") from error
    most = most_memory_bytes() // 1_000_000
    facts = {"outcomes": outcomes, "slowest_seconds": round(slowest, 3), "most_megabytes": most}
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
