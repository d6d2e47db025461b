"""Uploads become upright, bare and re-encoded images, or are refused; no process is left behind."""

import asyncio
import json
import os
import struct
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from PIL import Image

from domain.errors import Overloaded, PictureRefused, UserErrorCode
from domain.images import ProcessedImage
from storage.imaging import sandbox as upload_processor
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
from tests.waits import PATIENCE_SECONDS, eventually

Processor = UploadSandbox | InThisProcess

ROOT = Path(__file__).parent.parent.parent
MUTATIONS = int(os.environ.get("DARKROOM_TEST_MUTATIONS", "10000" if THOROUGH else "1500"))
MUTATIONS_APART = 50 if THOROUGH else 12
MUTATIONS_SECONDS = 60 + MUTATIONS / 50
ITSELF_BYTES = 100_000_000

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
async def processor() -> AsyncIterator[UploadSandbox]:
    processor = UploadSandbox(max_wait_seconds=PATIENCE_SECONDS, max_child_seconds=60)
    yield processor
    await processor.aclose()


@pytest.fixture
def here() -> InThisProcess:
    """What a child does with a picture, without one. What a child is for has tests of its own."""
    return InThisProcess()


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    before = our_processes()
    yield
    assert our_processes() <= before


def our_processes() -> set[int]:
    """Processes that this one has started, also those that are dead and not forgotten yet."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = stat.read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if int(parent) == os.getpid():
            found.add(int(stat.parent.name))
    return found


async def process(processor: Processor, data: bytes) -> ProcessedImage:
    return await processor.process_upload(data)


async def refusal(processor: Processor, data: bytes) -> PictureRefused:
    with pytest.raises(PictureRefused) as refused:
        await processor.process_upload(data)
    assert str(refused.value).endswith(".")
    return refused.value


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
        + png_chunk(b"IDAT", zlib.compress(bytes(400_000_000), 9))
        + png_chunk(b"IEND", b"")
    ),
}


@pytest.mark.parametrize("row", INVALID)
async def test_an_invalid_picture_is_refused(processor: UploadSandbox, row: str) -> None:
    refused = await refusal(processor, INVALID[row]())

    assert refused.code is UserErrorCode.UPLOAD_INVALID


@cache
def slow_and_large() -> bytes:
    return encoded(a_picture(4_000, 3_000), "JPEG", progressive=True)


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


@pytest.mark.parametrize("image_format", FORMATS)
async def test_40_megapixels_are_accepted(processor: UploadSandbox, image_format: str) -> None:
    options = {"PNG": {"compress_level": 1}, "WEBP": {"method": 0}}.get(image_format, {})
    data = encoded(a_picture(8_000, 5_000), image_format, **options)

    processed = await process(processor, data)

    assert (processed.original.width, processed.original.height) == (8_000, 5_000)


# Processes


async def until_running(count: int, before: set[int]) -> None:
    await eventually(
        lambda: len(our_processes() - before) >= count, what=f"{count} are running", every=0.01
    )


@LINUX
async def test_two_files_are_decoded_at_once_and_the_others_in_order(
    processor: UploadSandbox,
) -> None:
    before, most, ended = our_processes(), 0, []
    data = encoded(a_picture(900, 600), "JPEG")

    async def one(number: int) -> None:
        await process(processor, data)
        ended.append(number)

    working = asyncio.gather(*(one(number) for number in range(8)))
    while not working.done():
        most = max(most, len(our_processes() - before))
        await asyncio.sleep(0.005)
    await working

    assert most == 2
    assert all(abs(place - number) <= 1 for place, number in enumerate(ended))


async def test_files_beyond_the_waiting_limit_are_refused() -> None:
    processor = UploadSandbox(children=1, max_waiting=1)
    data = encoded(a_picture())

    outcomes = await asyncio.gather(
        *(process(processor, data) for _ in range(4)), return_exceptions=True
    )

    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [ProcessedImage, ProcessedImage, Overloaded, Overloaded]
    await processor.aclose()


async def test_a_file_that_waits_too_long_is_refused() -> None:
    processor = UploadSandbox(children=1, max_wait_seconds=0.01)
    data = encoded(a_picture())

    outcomes = await asyncio.gather(
        *(process(processor, data) for _ in range(2)), return_exceptions=True
    )

    assert [type(outcome) for outcome in outcomes] == [ProcessedImage, Overloaded]
    assert isinstance(await process(processor, data), ProcessedImage)


@LINUX
async def test_a_cancelled_caller_leaves_no_process_behind(
    processor: UploadSandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = our_processes()
    with monkeypatch.context() as patched:
        await pretend(patched, tmp_path, b"ready\n", "exec sleep 60")
        working = [asyncio.create_task(process(processor, encoded(a_picture()))) for _ in range(3)]
        await until_running(2, before)

        for task in working:
            task.cancel()
        await asyncio.wait(working)
    await eventually(lambda: our_processes() == before, what="the others have ended")

    assert all(task.cancelled() for task in working)
    assert isinstance(await process(processor, encoded(a_picture())), ProcessedImage)


@LINUX
async def test_a_caller_cancelled_at_any_moment_frees_its_capacity(
    processor: UploadSandbox,
) -> None:
    data = encoded(a_picture())

    for moment in range(40):
        task = asyncio.create_task(process(processor, data))
        for _ in range(moment % 8):
            await asyncio.sleep(0)
        await asyncio.sleep(0.01 * (moment // 8))
        task.cancel()
        await asyncio.wait([task])

    assert isinstance(await process(processor, data), ProcessedImage)


@LINUX
async def test_closing_ends_running_sandboxes() -> None:
    processor, before = UploadSandbox(), our_processes()
    working = asyncio.create_task(process(processor, slow_and_large()))
    await until_running(1, before)

    await processor.aclose()

    assert our_processes() == before
    with pytest.raises(Overloaded):
        await working


async def test_a_sandbox_killed_from_outside_is_not_a_user_error(
    processor: UploadSandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await pretend(monkeypatch, tmp_path, b"ready\n", "kill -KILL $$")

    with pytest.raises(Overloaded):
        await process(processor, encoded(a_picture()))


async def test_a_machine_that_is_too_busy_is_not_a_user_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    processor = UploadSandbox(max_child_seconds=0.5)
    await pretend(monkeypatch, tmp_path, b"ready\n", "exec sleep 60")

    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(Overloaded):
            await process(processor, encoded(a_picture()))


async def test_a_sandbox_that_cannot_be_started_is_not_a_user_error(
    processor: UploadSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for nowhere in ("/nowhere/python", "/bin/false"):
        monkeypatch.setattr(sys, "executable", nowhere)

        with pytest.raises(Overloaded):
            await process(processor, encoded(a_picture()))


PARENT = """
import asyncio, sys
from pathlib import Path
from storage.imaging.sandbox_child import Limits
from storage.imaging.sandbox import UploadSandbox
async def main():
    data = Path(sys.argv[1]).read_bytes()
    limits = Limits(decoding_seconds=60, seconds=60)
    await UploadSandbox(limits=limits).process_upload(data)
asyncio.run(main())
"""


@LINUX
async def test_a_sandbox_ends_with_its_parent(tmp_path: Path) -> None:
    """Also while it decodes, which takes seconds here."""
    noise, large = Image.effect_noise((1_000, 1_000), 60), Image.new("L", (8_000, 5_000))
    for x, y in product(range(8), range(5)):
        large.paste(noise, (x * 1_000, y * 1_000))
    (tmp_path / "large.png").write_bytes(encoded(large.convert("RGB"), "PNG", compress_level=1))
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, tmp_path / "large.png"), cwd=ROOT
    )

    def running_sandboxes() -> list[Path]:
        listed = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        return [Path("/proc", pid) for pid in listed if memory_of(Path("/proc", pid)) > 100_000]

    await eventually(lambda: bool(running_sandboxes()), what="a sandbox is running", every=0.01)
    [child] = running_sandboxes()
    parent.kill()
    await parent.wait()

    await eventually(lambda: not memory_of(child), within=1, what="the child has ended")


def memory_of(process: Path) -> int:
    """What it has in memory, in KB; 0 once it is gone or only not buried yet."""
    try:
        status = (process / "status").read_text()
    except OSError:
        return 0
    return next((int(x.split()[1]) for x in status.splitlines() if x.startswith("VmRSS")), 0)


async def test_a_sandbox_sees_no_environment_variables(
    processor: UploadSandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DARKROOM_FAL_KEY", CANARY.decode())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY.decode())
    seen = tmp_path / "seen"
    pretender = tmp_path / "python"
    pretender.write_text(f"#!/bin/sh\nenv > {seen}\n")
    pretender.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(pretender))

    with pytest.raises(Overloaded):
        await process(processor, encoded(a_picture()))

    assert CANARY.decode() not in seen.read_text()
    assert "PATH=" in seen.read_text()


BY_UVLOOP = """
import asyncio, sys, uvloop
from pathlib import Path
from domain.errors import Overloaded, PictureRefused
from storage.imaging.sandbox import UploadSandbox

async def develop(developer, data):
    try:
        return (await developer.process_upload(data)).original.width
    except (Overloaded, PictureRefused) as error:
        return type(error).__name__

async def main():
    data, developer, python = Path(sys.argv[1]).read_bytes(), UploadSandbox(), sys.executable
    assert await asyncio.gather(develop(developer, data), develop(developer, data[:-40])) == [
        300,
        "PictureRefused",
    ]
    for moment in range(0, 100, 5):
        task = asyncio.create_task(develop(developer, data))
        await asyncio.sleep(moment / 1_000)
        task.cancel()
        await asyncio.wait([task])
    for sys.executable in ("/bin/false", "/nowhere") * 5:
        assert await develop(developer, data) == "Overloaded"
    sys.executable = python
    assert await develop(developer, data) == 300
    closed = asyncio.create_task(develop(developer, data))
    await asyncio.sleep(0.05)
    await developer.aclose()
    assert await closed == "Overloaded"
    assert not Path("/proc/thread-self/children").read_text()

uvloop.run(main())
"""


@LINUX
async def test_everything_works_with_uvloop(tmp_path: Path) -> None:
    """It implements processes and pipes itself, and the API runs on it."""
    (tmp_path / "picture.png").write_bytes(encoded(a_picture()))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", BY_UVLOOP, tmp_path / "picture.png"),
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(3 * PATIENCE_SECONDS):
        _, complaints = await process.communicate()

    assert (process.returncode, complaints.decode()) == (0, "")


LOCKED_UP = """
import os, socket
from storage.imaging.sandbox_child import Limits, drop_rights
drop_rights(Limits())
for way in (lambda: open("/dev/null"), socket.socket, os.pipe):
    try:
        way()
    except OSError:
        continue
    raise SystemExit(1)
"""


async def test_a_compromised_decoder_can_open_nothing() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", LOCKED_UP, cwd=ROOT)

    assert await process.wait() == 0


def an_answer(**changed: Any) -> bytes:
    data = encoded(a_picture(), "PNG")
    output = {"thumbhash": "abcd", "renditions": [["image/png", 300, 200, len(data)]]} | changed
    return b"ready\n" + json.dumps(output).encode() + b"\n" + data


FALSE_ANSWERS: dict[str, bytes] = {
    "nothing": b"ready\n",
    "no JSON": b"ready\nhello",
    "no line": b"ready\n" + b"[" * 100_000,
    "a refusal with an unknown code": b'ready\n["SHUT_UP", "x", "y"]\n',
    "no renditions": an_answer(renditions=[]),
    "another type": an_answer(renditions=[["text/html", 300, 200, 5]]),
    "other bytes": b'ready\n{"thumbhash": "", "renditions": [["image/png", 300, 200, 5]]}\nhello',
    "too few bytes": an_answer()[:-1],
    "too many bytes": an_answer() + b"!",
    "a size that cannot be": an_answer(renditions=[["image/png", 10**9, 1, 5]]),
    "a length below nothing": an_answer(renditions=[["image/png", 300, 200, -1]]),
}


@pytest.mark.parametrize("kind", FALSE_ANSWERS)
async def test_an_invalid_answer_of_a_sandbox_is_refused(
    processor: UploadSandbox,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: str,
) -> None:
    """A decoder that has been taken over may say anything."""
    await pretend(monkeypatch, tmp_path, FALSE_ANSWERS[kind])

    refused = await refusal(processor, encoded(a_picture()))

    assert refused.code is UserErrorCode.UPLOAD_INVALID


async def test_a_valid_answer_of_a_sandbox_is_accepted(
    processor: UploadSandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await pretend(monkeypatch, tmp_path, an_answer())

    assert (await process(processor, encoded(a_picture()))).thumbhash == "abcd"


async def test_an_endless_answer_of_a_sandbox_is_cut_off(
    processor: UploadSandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(upload_processor, "_MAX_ANSWER_BYTES", 1_000_000)
    await pretend(monkeypatch, tmp_path, b"ready\n", "exec cat /dev/zero")

    assert str(await refusal(processor, encoded(a_picture()))) == TOO_LARGE


@pytest.mark.parametrize("signal", ["SEGV", "ABRT", "BUS", "XCPU"])
async def test_a_crash_of_the_decoder_is_a_user_error(
    processor: UploadSandbox,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    signal: str,
) -> None:
    await pretend(monkeypatch, tmp_path, b"ready\n", f"kill -{signal} $$")

    refused = await refusal(processor, encoded(a_picture()))

    assert refused.code is UserErrorCode.UPLOAD_INVALID


async def pretend(
    monkeypatch: pytest.MonkeyPatch, folder: Path, answer: bytes, then: str = ""
) -> None:
    """Another program in the place of Python, which answers so."""
    said, pretender = folder / "said", folder / "python"
    said.write_bytes(answer)
    pretender.write_text(f"#!/bin/sh\ncat {said}\n{then}\n")
    pretender.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(pretender))


async def test_the_event_loop_is_not_blocked_while_pictures_are_decoded(
    processor: UploadSandbox,
) -> None:
    loop, data = asyncio.get_running_loop(), encoded(a_picture(2_000, 1_500), "JPEG", quality=98)
    working = asyncio.gather(*(process(processor, data) for _ in range(3)))
    longest, last = 0.0, loop.time()

    while not working.done():
        await asyncio.sleep(0.001)
        longest, last = max(longest, loop.time() - last), loop.time()

    await working
    assert longest < 0.4


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
