"""Uploads become upright, bare and re-encoded images, or are refused."""

import asyncio
import json
import os
import struct
import sys
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from PIL import Image

from domain.errors import PictureRefused, UserErrorCode
from domain.images import ProcessedImage
from storage.imaging.containers import content_type_of
from storage.imaging.sandbox import UploadSandbox
from storage.imaging.sandbox_child import TOO_LARGE, TOO_SLOW, Limits
from tests.resilience.scale import SEED, THOROUGH
from tests.storage.mutants import assert_opens, mutants
from tests.storage.pictures import (
    CANARY,
    CONTENT_TYPES,
    FORMATS,
    STORED,
    a_picture,
    difference,
    encoded,
    exif,
    jpeg_with_everything,
    opened,
    png_chunk,
    png_with_everything,
    swapped_profile,
    webp_with_everything,
    with_jpeg_segment,
    with_png_chunk,
    with_png_size,
)
from tests.storage.processing import InThisProcess
from tests.storage.sandboxes import LINUX, Processor, process, refusal, slow_and_large

ROOT = Path(__file__).parent.parent.parent
MUTATIONS = int(os.environ.get("DARKROOM_TEST_MUTATIONS", "10000" if THOROUGH else "500"))
MUTATIONS_APART = 50 if THOROUGH else 4
MUTATIONS_SECONDS = 60 + MUTATIONS / 50
ITSELF_BYTES = 100_000_000

pytestmark = pytest.mark.usefixtures("no_process_is_left")


@pytest.fixture
def here() -> InThisProcess:
    """What a child does with a picture, without one. What a child is for has tests of its own."""
    return InThisProcess()


# What is no picture of its type


def zipped() -> bytes:
    written = BytesIO()
    with ZipFile(written, "w") as archive:
        archive.writestr("evil.html", CANARY)
    return written.getvalue()


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
NOT_THESE: dict[str, bytes] = {
    "nothing": b"",
    "HTML": b"<!doctype html><script>alert(1)</script>",
    "SVG": SVG,
    "SVG with XXE": b'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
    "PDF": b"%PDF-1.7\n1 0 obj\n",
    "EPS": encoded(a_picture(), "EPS"),
    "TIFF": encoded(a_picture(), "TIFF"),
    "GIF": encoded(a_picture(), "GIF"),
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "ZIP": zipped(),
    "a RIFF that is no WebP": b"RIFF\x04\0\0\0WAVEfmt ",
}


@pytest.mark.parametrize("row", NOT_THESE)
async def test_a_type_that_is_not_accepted_is_refused(processor: UploadSandbox, row: str) -> None:
    refused = await refusal(processor, NOT_THESE[row])

    assert refused.code is UserErrorCode.UPLOAD_TYPE_UNSUPPORTED


# What is no whole picture within the limits


def moving(image_format: str) -> bytes:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue")]
    return encoded(frames[0], image_format, save_all=True, append_images=frames[1:], duration=100)


def with_jpeg_size(data: bytes, width: int, height: int) -> bytes:
    frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


def with_webp_size(width: int, height: int) -> bytes:
    data = bytearray(encoded(a_picture(), "WEBP"))
    assert data[12:16] == b"VP8 "
    data[26:30] = struct.pack("<HH", width, height)
    return bytes(data)


def with_webp_canvas(width: int, height: int) -> bytes:
    data = bytearray(encoded(a_picture(), "WEBP", exif=exif(1)))
    data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def text_bomb(kind: bytes, head: bytes, size: int = 50_000_000) -> bytes:
    return with_png_chunk(encoded(a_picture()), kind, head + zlib.compress(bytes(size), 9))


def with_webp_profile(size: int) -> bytes:
    return encoded(a_picture(), "WEBP", icc_profile=bytes(size))


def with_jpeg_profile(parts: int) -> bytes:
    data = encoded(a_picture(), "JPEG")
    for part in range(parts):
        data = with_jpeg_segment(
            data, 0xE2, b"ICC_PROFILE\0" + bytes((part + 1, parts)) + bytes(65_000)
        )
    return data


def with_bad_crc() -> bytes:
    data = bytearray(encoded(a_picture()))
    data[-20] ^= 1
    return bytes(data)


def black(width: int, height: int, image_format: str = "PNG") -> bytes:
    return encoded(Image.new("1" if image_format == "PNG" else "L", (width, height)), image_format)


def without_palette() -> bytes:
    data = encoded(a_picture().quantize(16))
    start = data.index(b"PLTE") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    return data[:start] + data[end:]


INVALID: dict[str, Callable[[], bytes]] = {
    "truncated PNG": lambda: encoded(a_picture())[:-200],
    "truncated JPEG": lambda: encoded(a_picture(), "JPEG")[:-200],
    "truncated WebP": lambda: encoded(a_picture(), "WEBP")[:-200],
    "PNG of nothing but its magic bytes": lambda: b"\x89PNG\r\n\x1a\n",
    "bad CRC": with_bad_crc,
    "PNG without its palette": without_palette,
    "0×0 PNG": lambda: with_png_size(encoded(a_picture()), 0, 0),
    "0×0 JPEG": lambda: with_jpeg_size(encoded(a_picture(), "JPEG"), 0, 0),
    "0×0 WebP": lambda: with_webp_size(0, 0),
    "frames > 1: APNG": lambda: moving("PNG"),
    "frames > 1: WebP": lambda: moving("WEBP"),
    "header lies about the size: higher PNG": lambda: with_png_size(encoded(a_picture()), 300, 201),
    "header lies about the size: far lower PNG": lambda: with_png_size(
        encoded(a_picture(300, 2_000)), 300, 100
    ),
    "header lies about the size: higher JPEG": lambda: with_jpeg_size(
        encoded(a_picture(), "JPEG"), 300, 230
    ),
    "header lies about the size: wider JPEG": lambda: with_jpeg_size(
        encoded(a_picture(), "JPEG", progressive=True), 330, 200
    ),
    "header lies about the size: higher JPEG with restarts": lambda: with_jpeg_size(
        encoded(a_picture(), "JPEG", restart_marker_rows=1), 300, 400
    ),
    "header lies about the size: higher WebP": lambda: with_webp_size(300, 4_000),
    "header lies about the size: larger WebP": lambda: with_webp_canvas(3_000, 200),
    "header lies about the size: smaller WebP": lambda: with_webp_canvas(200, 200),
    "> 40 MP": lambda: black(8_000, 5_001),
    "> 40 MP, JPEG": lambda: black(8_000, 5_001, "JPEG"),
    "> 40 MP, in its header only": lambda: with_png_size(encoded(a_picture()), 8_000, 8_000),
    "657 KB that hold 169 MP": lambda: black(13_000, 13_000),
    "a side > 8,192": lambda: black(8_193, 20),
    "a side > 8,192, JPEG": lambda: black(20, 8_193, "JPEG"),
    "a side > 8,192, WebP": lambda: black(8_193, 20, "WEBP"),
    "a side < 16": lambda: black(15, 100),
    "a side < 16, JPEG": lambda: black(100, 15, "JPEG"),
    "text-chunk bomb": lambda: text_bomb(b"zTXt", b"Comment\0\0"),
    "text-chunk bomb, international": lambda: text_bomb(b"iTXt", b"Comment\0\1\0en\0\0"),
    "text-chunk bomb of many": lambda: (
        encoded(a_picture())[:33]
        + png_chunk(b"zTXt", b"A\0\0" + zlib.compress(bytes(900_000))) * 50
        + encoded(a_picture())[33:]
    ),
    "text-chunk bomb of empty ones": lambda: (
        encoded(a_picture())[:33] + png_chunk(b"tEXt", b"A\0") * 30_000 + encoded(a_picture())[33:]
    ),
    "ICC bomb": lambda: text_bomb(b"iCCP", b"ICC\0\0"),
    "ICC bomb, JPEG": lambda: with_jpeg_profile(60),
    "ICC bomb, WebP": lambda: with_webp_profile(3_900_000),
    "pixels without end": lambda: (
        encoded(a_picture())[:33]
        + png_chunk(b"IDAT", zlib.compress(bytes(100_000_000), 1))
        + png_chunk(b"IEND", b"")
    ),
}


@pytest.mark.parametrize("row", INVALID)
async def test_an_invalid_picture_is_refused(processor: UploadSandbox, row: str) -> None:
    refused = await refusal(processor, INVALID[row]())

    assert refused.code is UserErrorCode.UPLOAD_INVALID


async def test_decoding_for_more_than_5_s_is_refused() -> None:
    limits = Limits(decoding_seconds=0.02)
    processor = UploadSandbox(limits=limits)

    refused = await refusal(processor, slow_and_large())

    assert refused.code is UserErrorCode.UPLOAD_INVALID
    assert str(refused) == TOO_SLOW


async def test_decoding_and_encoding_for_more_than_8_s_is_refused() -> None:
    processor = UploadSandbox(limits=Limits(seconds=0.05))

    assert str(await refusal(processor, slow_and_large())) == TOO_SLOW


@pytest.mark.parametrize("image_format", FORMATS)
@LINUX
async def test_decoding_with_more_than_512_mb_is_refused(image_format: str) -> None:
    processor = UploadSandbox(limits=Limits(decoding_bytes=20_000_000))
    data = encoded(a_picture(4_000, 3_000), image_format)

    refused = await refusal(processor, data)

    assert refused.code is UserErrorCode.UPLOAD_INVALID
    assert image_format != "PNG" or str(refused) == TOO_LARGE


@LINUX
async def test_a_picture_that_needs_too_much_memory_after_decoding_is_refused() -> None:
    processor = UploadSandbox(limits=Limits(memory_bytes=60_000_000))

    refused = await refusal(processor, encoded(a_picture(4_000, 3_000), "JPEG", exif=exif(6)))

    assert refused.code is UserErrorCode.UPLOAD_INVALID


# What is kept


async def made_of(
    processor: Processor, data: bytes, *never: bytes
) -> tuple[ProcessedImage, Image.Image]:
    """What it becomes, whole and with none of these bytes in any rendition; and the picture."""
    processed = await process(processor, data)
    for rendition in (processed.original, *processed.thumbnails):
        opened(rendition)
        for canary in never:
            assert canary not in rendition.data
    assert processed.original.content_type == content_type_of(data)
    return processed, opened(processed.original)


@pytest.mark.parametrize("image_format", FORMATS)
async def test_a_picture_is_kept_in_its_format_with_thumbnails(
    processor: UploadSandbox, image_format: str
) -> None:
    picture = a_picture(1_100, 700)

    processed, kept = await made_of(processor, encoded(picture, image_format))

    assert difference(kept, picture) < 3
    assert [thumbnail.width for thumbnail in processed.thumbnails] == [256, 512, 1024]
    for thumbnail in processed.thumbnails:
        shown = opened(thumbnail)
        assert difference(shown, picture.resize(shown.size)) < 4
    assert len(processed.thumbhash) > 20


POLYGLOTS: dict[str, Callable[[], bytes]] = {
    "JPEG+ZIP": lambda: encoded(a_picture(), "JPEG") + zipped(),
    "JPEG+HTML": lambda: encoded(a_picture(), "JPEG") + b"<script>" + CANARY + b"</script>",
    "PNG+HTML": lambda: encoded(a_picture()) + b"<script>" + CANARY + b"</script>",
    "script in a comment": lambda: encoded(a_picture(), "JPEG", comment=b"<script>" + CANARY),
    "script in EXIF": lambda: encoded(a_picture(), "JPEG", exif=exif(1)),
    "script in the tables": lambda: jpeg_with_tables(b"<script>alert(1)" + CANARY[:16]),
    "script behind the pixels": lambda: png_with_a_tail(b"<script>" + CANARY),
}


def jpeg_with_tables(text: bytes) -> bytes:
    """With words where the quantisation stands, which bare JPEGs have as well."""
    data = encoded(a_picture(), "JPEG")
    table = data.index(b"\xff\xdb") + 5
    return data[:table] + text + data[table + len(text) :]


def png_with_a_tail(text: bytes) -> bytes:
    data = encoded(a_picture())
    return data[:-12] + png_chunk(b"IDAT", text) + data[-12:]


@pytest.mark.parametrize("row", POLYGLOTS)
async def test_a_polyglot_file_loses_its_foreign_part(here: InThisProcess, row: str) -> None:
    data = POLYGLOTS[row]()
    words = (CANARY[:16], b"<script>", b"PK\x03\x04", b"evil.html")
    assert any(word in data for word in words)

    processed, _ = await made_of(here, data, *words)

    assert processed.original.data != data


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("orientation", range(2, 9))
async def test_exif_orientation_is_applied(
    here: InThisProcess, image_format: str, orientation: int
) -> None:
    upright = a_picture()
    data = encoded(upright.transpose(STORED[orientation]), image_format, exif=exif(orientation))

    processed, kept = await made_of(here, data, CANARY)

    assert difference(kept, upright) < 3
    assert difference(opened(processed.thumbnails[0]), upright.resize((256, 171))) < 4
    assert not kept.getexif()


def camera_exif() -> Image.Exif:
    found = exif(1)
    found[0x010F] = "Canary Cameras"
    found.get_ifd(0x8769)[0xA431] = "SERIAL-0815-4711"
    found.get_ifd(0x8825).update({1: "N", 2: (51.0, 30.0, 26.0), 29: "GPS-1851:05:01"})
    return found


METADATA: dict[str, Callable[[str], bytes]] = {
    "GPS": lambda image_format: encoded(a_picture(), image_format, exif=camera_exif()),
    "serial numbers": lambda image_format: encoded(a_picture(), image_format, exif=camera_exif()),
    "XMP": lambda image_format: (
        encoded(a_picture(), image_format, xmp=b"<x:xmpmeta>" + CANARY)
        if image_format != "PNG"
        else png_with_everything()
    ),
    "thumbnails": lambda image_format: encoded(
        a_picture(),
        image_format,
        exif=b"Exif\0\0" + exif(1).tobytes()[6:] + encoded(a_picture(64, 48), "JPEG") + CANARY,
    ),
    "everything": lambda image_format: {
        "PNG": png_with_everything,
        "JPEG": jpeg_with_everything,
        "WEBP": webp_with_everything,
    }[image_format](),
}


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("row", METADATA)
async def test_metadata_is_removed(here: InThisProcess, image_format: str, row: str) -> None:
    data = METADATA[row](image_format)
    words = (
        CANARY,
        b"SERIAL-0815",
        b"GPS-1851",
        b"Canary Cameras",
        b"xmpmeta",
        b"Exif",
        b"\xff\xd8\xff\xe0\0\x10JFIF",
    )
    assert any(word in data for word in words)

    _, kept = await made_of(here, data, *(words if image_format != "JPEG" else words[:-1]))

    assert difference(kept, a_picture()) < 3
    assert not {"exif", "xmp", "comment", "Comment", "icc_profile", "dpi"} & set(kept.info)


@pytest.mark.parametrize("image_format", FORMATS)
async def test_icc_profiles_are_converted_to_srgb(here: InThisProcess, image_format: str) -> None:
    """By a profile in which red and blue are swapped, so that the effect is obvious."""
    data = encoded(a_picture(), image_format, icc_profile=swapped_profile())
    red, green, blue = a_picture().split()

    processed, kept = await made_of(here, data, b"swap".decode().encode("utf-16-be"))

    assert "icc_profile" not in kept.info
    assert difference(kept, Image.merge("RGB", (blue, green, red))) < 4
    assert opened(processed.thumbnails[0]).info.get("icc_profile") is None


@pytest.mark.parametrize(
    ("image_format", "options"),
    [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("WEBP", {"quality": 95})],
)
async def test_transparency_is_kept(
    here: InThisProcess, image_format: str, options: dict[str, Any]
) -> None:
    picture = a_picture(600, 400, "RGBA")
    data = encoded(picture, image_format, **options)

    processed, kept = await made_of(here, data)

    assert kept.mode == "RGBA"
    before = Image.open(BytesIO(data)).getchannel("A").convert("RGB")
    assert difference(kept.getchannel("A").convert("RGB"), before) < 1
    assert all(opened(thumbnail).mode == "RGBA" for thumbnail in processed.thumbnails)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
async def test_every_kind_of_png_is_accepted(here: InThisProcess, mode: str) -> None:
    grey = Image.linear_gradient("L").resize((400, 400))
    shown = grey if mode == "I;16" else grey.convert(mode)
    if mode == "I;16":
        grey = grey.convert("I").point(lambda value: value * 257)

    _, kept = await made_of(here, encoded(grey.convert(mode), "PNG"))

    assert difference(kept.convert("RGB"), shown.convert("RGB")) < 1


@pytest.mark.parametrize("mode", ["L", "CMYK"])
async def test_every_kind_of_jpeg_is_accepted(here: InThisProcess, mode: str) -> None:
    data = encoded(a_picture(mode=mode), "JPEG", exif=exif(6))

    _, kept = await made_of(here, data, CANARY)

    expected = Image.open(BytesIO(data)).convert("RGB").transpose(Image.Transpose.ROTATE_270)
    assert difference(kept, expected) < 4


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("size", [(16, 16), (8_192, 16), (16, 8_192)])
async def test_the_smallest_and_the_longest_pictures_are_accepted(
    here: InThisProcess, image_format: str, size: tuple[int, int]
) -> None:
    _, kept = await made_of(here, encoded(Image.new("RGB", size, "#808080"), image_format))

    assert kept.size == size


ODD_SCANS: dict[str, Callable[[], bytes]] = {
    "fewer rows than coded": lambda: with_jpeg_size(encoded(a_picture(), "JPEG"), 300, 150),
    "surplus data behind the pixels": lambda: (
        encoded(a_picture(), "JPEG")[:-2] + CANARY * 50 + b"\xff\xd9"
    ),
    "fill bytes before the end": lambda: encoded(a_picture(), "JPEG")[:-2] + b"\xff" * 9 + b"\xd9",
}


@pytest.mark.parametrize("row", ODD_SCANS)
async def test_a_jpeg_with_too_many_coded_pixels_is_re_encoded(
    here: InThisProcess, row: str
) -> None:
    data = ODD_SCANS[row]()

    _, kept = await made_of(here, data, CANARY)

    assert difference(kept, Image.open(BytesIO(data))) < 4


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 5}])
@pytest.mark.parametrize("colour", ["white", "black", "#808080", "#123456"])
async def test_a_jpeg_of_one_colour_is_accepted(
    here: InThisProcess, colour: str, options: dict[str, Any]
) -> None:
    plain = Image.new("RGB", (700, 700), colour)

    _, kept = await made_of(here, encoded(plain, "JPEG", **options))

    assert difference(kept, plain) < 2


# WebP takes the most time and memory.
@pytest.mark.parametrize("image_format", FORMATS if THOROUGH else ["WEBP"])
async def test_40_megapixels_are_accepted(processor: UploadSandbox, image_format: str) -> None:
    options = {"PNG": {"compress_level": 1}, "WEBP": {"method": 0}}.get(image_format, {})
    data = encoded(a_picture(8_000, 5_000), image_format, **options)

    processed = await process(processor, data)

    assert (processed.original.width, processed.original.height) == (8_000, 5_000)


# Damaged files


async def test_damaged_files_are_refused_or_decoded_completely() -> None:
    """Thousands, by the same code and with the same limits, but not in processes of their own."""
    print(f"\nDARKROOM_TEST_SEED={SEED}")  # noqa: T201 - to repeat it
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.storage.mutants", SEED, str(MUTATIONS)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(MUTATIONS_SECONDS):
        output, complaints = await process.communicate()

    assert process.returncode == 0, f"{process.returncode}: {complaints.decode()[-2_000:]}"
    facts = json.loads(output)
    print(facts)  # noqa: T201 - published by each run
    assert sum(facts["outcomes"].values()) == MUTATIONS
    assert set(facts["outcomes"]) <= {"accepted", "UPLOAD_INVALID", "UPLOAD_TYPE_UNSUPPORTED"}
    assert facts["outcomes"]["accepted"] > MUTATIONS / 50
    assert facts["outcomes"]["UPLOAD_INVALID"] > MUTATIONS / 4
    # A decoder takes what it may: 2,556 bytes of WebP have been seen to make it ask for 412 MB.
    assert facts["most_megabytes"] * 1_000_000 < Limits().decoding_bytes + ITSELF_BYTES


async def test_damaged_files_in_sandboxes_are_refused_or_decoded_completely(
    processor: UploadSandbox,
) -> None:
    print(f"\nDARKROOM_TEST_SEED={SEED}")  # noqa: T201 - to repeat it
    outcomes = set[str]()

    for data in mutants(SEED, MUTATIONS_APART):
        try:
            original = (await processor.process_upload(data)).original
        except PictureRefused as refused:
            outcomes.add(refused.code)
        else:
            outcomes.add(original.content_type)
            assert original.content_type == content_type_of(data)
            assert_opens(original.data, original.content_type, original.width, original.height)

    assert outcomes <= {
        *CONTENT_TYPES.values(),
        UserErrorCode.UPLOAD_INVALID,
        UserErrorCode.UPLOAD_TYPE_UNSUPPORTED,
    }
