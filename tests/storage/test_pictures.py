"""Processed pictures are complete, upright and bare, and show what was uploaded."""

import asyncio
import random
import re
import struct
import zlib
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from typing import Any

import pytest
from PIL import Image, ImageCms

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.images import Rendition
from domain.ports.imaging import ImageProcessor
from storage.imaging.threaded import ThreadedImageProcessor
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

SLOW_SECONDS = 15.0
"""Far more than any picture takes that is accepted."""


@pytest.fixture
async def processor() -> AsyncIterator[ThreadedImageProcessor]:
    processor = ThreadedImageProcessor()
    yield processor
    await processor.aclose()


async def assert_no_picture(processor: ImageProcessor, data: bytes) -> str:
    """Refused as the port says, by both methods; the detail of the refusal."""
    for work in (processor.process, processor.preview):
        with pytest.raises(GenerationFailed) as failed:
            await work(data)
        assert failed.value.code is GenerationErrorCode.PROVIDER_BAD_RESPONSE
        assert not failed.value.retryable
    return str(failed.value)


# The original


@pytest.mark.parametrize("image_format", FORMATS)
async def test_a_bare_picture_is_kept_byte_for_byte(
    processor: ImageProcessor, image_format: str
) -> None:
    data = encoded(a_picture(), image_format)

    processed = await processor.process(data)

    assert processed.original == Rendition(
        data=data, content_type=CONTENT_TYPES[image_format], width=300, height=200
    )


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("orientation", range(2, 9))
async def test_a_picture_is_rotated_upright(
    processor: ImageProcessor, image_format: str, orientation: int
) -> None:
    upright = a_picture()
    data = encoded(upright.transpose(STORED[orientation]), image_format, exif=exif(orientation))

    processed = await processor.process(data)
    preview = await processor.preview(data)

    assert processed.original.content_type == CONTENT_TYPES[image_format]
    assert difference(opened(processed.original), upright) < 3
    assert difference(opened(processed.thumbnails[0]), upright.resize((256, 171))) < 4
    assert difference(opened(preview), upright) < 4
    assert CANARY not in processed.original.data


@pytest.mark.parametrize("lossless", [True, False])
async def test_rotating_a_webp_loses_nothing(processor: ImageProcessor, lossless: bool) -> None:
    picture = a_picture(64, 48, "RGBA").copy()
    picture.putalpha(picture.getchannel("A").point(lambda alpha: 255 * (alpha > 127)))
    data = encoded(picture, "WEBP", lossless=lossless, exif=exif(3), exact=True)
    stored = Image.open(BytesIO(data)).transpose(Image.Transpose.ROTATE_180)

    processed = await processor.process(data)

    apart = difference(opened(processed.original), stored)
    assert apart == 0 if lossless else apart < 3


@pytest.mark.parametrize("mode", ["L", "CMYK"])
async def test_a_grey_or_cmyk_jpeg_is_rotated(processor: ImageProcessor, mode: str) -> None:
    data = encoded(a_picture(mode=mode), "JPEG", exif=exif(6))

    processed = await processor.process(data)

    expected = Image.open(BytesIO(data)).convert("RGB").transpose(Image.Transpose.ROTATE_270)
    assert difference(opened(processed.original), expected) < 4


@pytest.mark.parametrize("made", [png_with_everything, jpeg_with_everything, webp_with_everything])
async def test_metadata_is_removed_and_no_pixel_changes(
    processor: ImageProcessor, made: Callable[[], bytes]
) -> None:
    data = made()
    assert CANARY in data

    processed = await processor.process(data)

    kept = processed.original.data
    assert CANARY not in kept
    picture = opened(processed.original)
    assert difference(picture, Image.open(BytesIO(data))) == 0
    assert not {"exif", "xmp", "comment", "Comment", "Packed"} & set(picture.info)
    if picture.format == "WEBP":
        assert kept[12:16] == b"VP8 " or kept[20] & ~0x10 == 0, "flags that promise metadata"
    # What is bare stays as it is.
    assert (await processor.process(kept)).original.data == kept


async def test_a_progressive_jpeg_keeps_all_its_scans(processor: ImageProcessor) -> None:
    data = encoded(a_picture(), "JPEG", progressive=True, quality=95)
    data = with_jpeg_segment(data, 0xFE, CANARY)

    processed = await processor.process(data)

    assert CANARY not in processed.original.data
    assert difference(opened(processed.original), Image.open(BytesIO(data))) == 0


async def test_an_srgb_profile_is_removed(processor: ImageProcessor) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    bare = encoded(a_picture(), "PNG")

    processed = await processor.process(encoded(a_picture(), "PNG", icc_profile=profile))

    assert processed.original.data == bare


@pytest.mark.parametrize("name", ["swap", "sRGB"])
@pytest.mark.parametrize("image_format", FORMATS)
async def test_colours_of_another_space_are_converted_to_srgb_whatever_its_name(
    processor: ImageProcessor, image_format: str, name: str
) -> None:
    data = encoded(a_picture(), image_format, icc_profile=swapped_profile(name))
    red, green, blue = a_picture().split()
    expected = Image.merge("RGB", (blue, green, red))

    processed = await processor.process(data)

    picture = opened(processed.original)
    assert "icc_profile" not in picture.info
    assert difference(picture, expected) < 4
    assert difference(opened(await processor.preview(data)), expected) < 4


@pytest.mark.parametrize("profile", [b"", b"no profile", bytes(200)])
@pytest.mark.parametrize("image_format", FORMATS)
async def test_a_broken_profile_does_not_lose_the_picture(
    processor: ImageProcessor, image_format: str, profile: bytes
) -> None:
    processed = await processor.process(
        encoded(a_picture(), image_format, icc_profile=profile or b"-")
    )

    assert difference(opened(processed.original), a_picture()) < 4


async def test_a_profile_after_the_pixels_of_a_png_is_ignored(
    processor: ImageProcessor,
) -> None:
    data = encoded(a_picture(), "PNG")
    profile = png_chunk(b"iCCP", b"ICC\0\0" + zlib.compress(swapped_profile()))

    processed = await processor.process(data[:-12] + profile + data[-12:])

    assert difference(opened(processed.original), a_picture()) == 0


@pytest.mark.parametrize(
    ("kind", "count", "turned"), [(3, 1, True), (4, 1, True), (3, 0, False), (2, 1, False)]
)
async def test_an_orientation_is_one_number_of_either_size(
    processor: ImageProcessor, kind: int, count: int, turned: bool
) -> None:
    """As libvips and Pillow read it."""
    for order, mark in (("<", b"II*\0"), (">", b"MM\0*")):
        number = struct.pack(f"{order}I" if kind == 4 else f"{order}HH", *(6, 0)[: 1 + (kind != 4)])
        entry = struct.pack(f"{order}HHHI", 1, 0x0112, kind, count) + number
        block = mark + struct.pack(f"{order}I", 8) + entry + bytes(4)
        data = with_jpeg_segment(encoded(a_picture(), "JPEG"), 0xE1, b"Exif\0\0" + block)

        processed = await processor.process(data)

        size = (200, 300) if turned else (300, 200)
        assert (processed.original.width, processed.original.height) == size


async def test_unannounced_parts_of_a_webp_are_ignored(processor: ImageProcessor) -> None:
    """Other decoders do without the profile and the orientation."""
    options: dict[str, Any] = {"icc_profile": swapped_profile(), "exif": exif(6), "lossless": True}
    data = bytearray(encoded(a_picture(), "WEBP", **options))
    data[20] = 0

    processed = await processor.process(bytes(data))

    assert difference(opened(processed.original), a_picture()) == 0


async def test_compressed_text_that_expands_without_end_is_not_decompressed(
    processor: ImageProcessor,
) -> None:
    bomb = zlib.compress(bytes(50_000_000), 9)
    data = encoded(a_picture(), "PNG")
    for kind, name in ((b"zTXt", b"Comment\0\0"), (b"iCCP", b"ICC\0\0")):
        data = with_png_chunk(data, kind, name + bomb)

    processed = await processor.process(data)

    assert processed.original.data == encoded(a_picture(), "PNG")


@pytest.mark.parametrize(
    "tampered", [b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", b"II", b"", b"nonsense"]
)
async def test_broken_exif_does_not_lose_the_picture(
    processor: ImageProcessor, tampered: bytes
) -> None:
    bare = encoded(a_picture(), "JPEG")

    processed = await processor.process(with_jpeg_segment(bare, 0xE1, b"Exif\0\0" + tampered))

    assert processed.original.data == bare


# Thumbnails


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (1, []),
        (256, []),
        (257, [256]),
        (512, [256]),
        (1024, [256, 512]),
        (1025, [256, 512, 1024]),
        (2100, [256, 512, 1024]),
    ],
)
@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
async def test_there_is_a_thumbnail_of_each_width_below_that_of_the_original(
    processor: ImageProcessor, image_format: str, width: int, expected: list[int]
) -> None:
    height = max(1, width * 2 // 3)
    picture = a_picture(width, height)

    processed = await processor.process(encoded(picture, image_format))

    assert [thumbnail.width for thumbnail in processed.thumbnails] == expected
    for thumbnail in processed.thumbnails:
        assert thumbnail.content_type == "image/webp"
        assert thumbnail.height == round(height * thumbnail.width / width)
        small = picture.resize((thumbnail.width, thumbnail.height), Image.Resampling.LANCZOS)
        assert difference(opened(thumbnail), small) < 4


@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
async def test_thumbnails_keep_transparency(processor: ImageProcessor, image_format: str) -> None:
    picture = a_picture(600, 400, "RGBA")

    processed = await processor.process(encoded(picture, image_format))

    for thumbnail in processed.thumbnails:
        shown = opened(thumbnail)
        small = picture.resize(shown.size)
        assert shown.mode == "RGBA"
        assert (
            difference(
                Image.merge("RGB", [shown.getchannel("A")] * 3),
                Image.merge("RGB", [small.getchannel("A")] * 3),
            )
            < 3
        )
    assert b64decode(processed.thumbhash)[2] & 0x80


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16"])
async def test_thumbnails_of_every_kind_of_png_are_correct(
    processor: ImageProcessor, mode: str
) -> None:
    grey = Image.linear_gradient("L").resize((400, 400))
    if mode == "I;16":
        sixteen = grey.convert("I").point(lambda value: value * 257)
        data = encoded(sixteen.convert("I;16"), "PNG")
    elif mode == "PA":
        data = encoded(grey.convert("P"), "PNG", transparency=0)
    else:
        data = encoded(grey.convert(mode), "PNG")

    processed = await processor.process(data)

    [thumbnail] = processed.thumbnails
    shown, small = opened(thumbnail).convert("RGB"), grey.resize((256, 256)).convert("RGB")
    assert difference(shown.resize((8, 8)), small.resize((8, 8))) < 6
    assert processed.original.data == data


async def test_thumbnails_beyond_the_limits_of_webp_are_omitted(processor: ImageProcessor) -> None:
    processed = await processor.process(encoded(Image.new("1", (300, 30_000), 1), "PNG"))
    preview = await processor.preview(encoded(Image.new("1", (300, 30_000), 1), "PNG"))

    assert processed.thumbnails == ()
    assert preview.height == 16_383
    assert preview.width == 164


async def test_the_placeholder_resembles_the_picture(processor: ImageProcessor) -> None:
    plain = Image.new("RGB", (900, 300), (0, 0, 255))

    placeholder = b64decode((await processor.process(encoded(plain, "PNG"))).thumbhash)

    head = int.from_bytes(placeholder[:5], "little")
    assert len(placeholder) <= 25
    assert head >> 39 & 1  # landscape
    assert (head & 63) / 63 == pytest.approx(1 / 3, abs=0.02)  # as bright as blue is
    assert (head >> 6 & 63) / 31.5 - 1 == pytest.approx(-1, abs=0.04)  # all blue, no yellow
    assert not head >> 23 & 1  # nothing can be seen through


# Previews


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize(
    ("size", "expected"),
    [((1024, 768), (512, 384)), ((2000, 1000), (512, 256)), ((300, 900), (300, 900))],
)
async def test_a_preview_is_a_small_webp(
    processor: ImageProcessor,
    image_format: str,
    size: tuple[int, int],
    expected: tuple[int, int],
) -> None:
    data = encoded(a_picture(*size), image_format, exif=exif(1))

    preview = await processor.preview(data)

    assert preview.content_type == "image/webp"
    assert (preview.width, preview.height) == expected
    assert CANARY not in preview.data
    assert difference(opened(preview), a_picture(*size).resize(expected)) < 4


# What is no picture


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xd9",
        b"RIFF\x04\0\0\0WEBP",
        b"RIFF\x00\0\0\0WEBP",
        b"<html><body>Bad gateway</body></html>",
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"%PDF-1.7",
        b"PK\x03\x04",
        b'{"error": "no picture"}',
        bytes(1000),
    ],
    ids=lambda data: data[:12].decode("latin-1") or "nothing",
)
async def test_a_file_that_is_not_a_picture_is_refused(
    processor: ImageProcessor, data: bytes
) -> None:
    await assert_no_picture(processor, data)


@pytest.mark.parametrize("image_format", ["GIF", "TIFF", "BMP", "PPM", "ICO", "AVIF"])
async def test_other_formats_are_refused_whatever_their_name(
    processor: ImageProcessor, image_format: str
) -> None:
    await assert_no_picture(processor, encoded(a_picture(64, 64), image_format))


@pytest.mark.parametrize("image_format", FORMATS)
async def test_a_picture_cut_off_at_any_byte_is_refused_or_complete(
    processor: ImageProcessor, image_format: str
) -> None:
    data = encoded(a_picture(40, 30), image_format, exif=exif(6))
    whole = opened((await processor.process(data)).original)
    places = range(0, len(data) - 1, max(1, len(data) // 60))

    taken = 0
    for place in [*places, len(data) - 2]:
        if kept := await picture_or_refusal(processor, data[:place]):
            taken += 1
            # Behind the pixels, all that can be missing is how it is turned.
            upright = (
                kept if kept.size == whole.size else kept.transpose(Image.Transpose.ROTATE_270)
            )
            assert difference(upright, whole) < 3

    assert taken < len(places) / 3


async def test_a_flipped_bit_in_a_png_is_detected_or_changes_no_pixel(
    processor: ImageProcessor,
) -> None:
    data = encoded(a_picture(40, 30), "PNG")

    taken = 0
    for place in range(8, len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 4
        if kept := await picture_or_refusal(processor, bytes(flipped)):
            taken += 1
            assert difference(kept, a_picture(40, 30)) == 0

    assert 0 < taken < 30, "in checksums that are not needed, and in the end"


async def picture_or_refusal(processor: ImageProcessor, data: bytes) -> Image.Image | None:
    """The processed picture, or None if it is refused."""
    try:
        return opened((await processor.process(data)).original)
    except GenerationFailed:
        return None


@pytest.mark.parametrize("image_format", FORMATS)
async def test_any_bytes_give_a_picture_or_the_expected_error(
    processor: ImageProcessor, image_format: str
) -> None:
    data = encoded(a_picture(40, 30, "RGB"), image_format, exif=exif(5), icc_profile=b"profile")
    chance = random.Random(20_240)
    outcomes = set()

    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(chance.randint(1, 6)):
            place = chance.randrange(len(damaged))
            damaged[place : place + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
        try:
            outcomes.add(opened((await processor.process(bytes(damaged))).original).format)
        except GenerationFailed as failed:
            outcomes.add(failed.code)

    assert GenerationErrorCode.PROVIDER_BAD_RESPONSE in outcomes
    assert outcomes <= {image_format, GenerationErrorCode.PROVIDER_BAD_RESPONSE}


async def test_a_png_without_its_palette_is_refused(processor: ImageProcessor) -> None:
    data = encoded(a_picture().quantize(16), "PNG")
    start = data.index(b"PLTE") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")

    await assert_no_picture(processor, data[:start] + data[end:])


async def test_a_png_with_a_false_size_is_refused(processor: ImageProcessor) -> None:
    data = encoded(a_picture(), "PNG")

    for size in ((300, 201), (301, 200), (299, 199), (3000, 2000), (0, 200), (300, 0)):
        await assert_no_picture(processor, with_png_size(data, *size))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 5), (9, 7), (33, 65)])
@pytest.mark.parametrize(("depth", "colour", "channels"), [(1, 0, 1), (8, 2, 3), (16, 6, 4)])
async def test_an_interlaced_png_is_accepted(
    processor: ImageProcessor, size: tuple[int, int], depth: int, colour: int, channels: int
) -> None:
    width, height = size
    rows = b"".join(
        bytes(1 + (columns * depth * channels + 7) // 8)
        for columns, count in (
            (len(range(0, width, 8)), len(range(0, height, 8))),
            (len(range(4, width, 8)), len(range(0, height, 8))),
            (len(range(0, width, 4)), len(range(4, height, 8))),
            (len(range(2, width, 4)), len(range(0, height, 4))),
            (len(range(0, width, 2)), len(range(2, height, 4))),
            (len(range(1, width, 2)), len(range(0, height, 2))),
            (width, len(range(1, height, 2))),
        )
        if columns
        for _ in range(count)
    )

    def interlaced(packed: bytes) -> bytes:
        return b"".join(
            (
                b"\x89PNG\r\n\x1a\n",
                png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 1)),
                png_chunk(b"IDAT", zlib.compress(packed)),
                png_chunk(b"IEND", b""),
            )
        )

    processed = await processor.process(interlaced(rows))

    assert (processed.original.width, processed.original.height) == size
    await assert_no_picture(processor, interlaced(rows[:-1]))


async def test_a_webp_with_a_false_size_is_refused(processor: ImageProcessor) -> None:
    data = bytearray(encoded(a_picture(), "WEBP", exif=exif(1)))
    assert data[12:16] == b"VP8X"

    data[24:27] = (3000).to_bytes(3, "little")

    await assert_no_picture(processor, bytes(data))


def bombs() -> dict[str, bytes]:
    tiny = {name: encoded(a_picture(8, 8), name, exif=exif(1)) for name in FORMATS}
    frame = tiny["JPEG"].index(b"\xff\xc0")
    jpeg = bytearray(tiny["JPEG"])
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 20_000, 20_000)
    webp = bytearray(tiny["WEBP"])
    webp[24:30] = (19_999).to_bytes(3, "little") * 2
    return {
        "PNG": with_png_size(tiny["PNG"], 20_000, 20_000),
        "JPEG": bytes(jpeg),
        "WEBP": bytes(webp),
        "just above": with_png_size(tiny["PNG"], 10_000, 10_001),
        "a real one": encoded(Image.new("1", (12_000, 12_000)), "PNG"),
    }


async def test_a_decompression_bomb_is_refused_before_it_is_decoded(
    processor: ImageProcessor,
) -> None:
    for name, bomb in bombs().items():
        assert len(bomb) < 200_000, name
        detail = await assert_no_picture(processor, bomb)

        assert re.search(r"[0-9]+ by [0-9]+ pixels", detail), name


def slow_ones() -> dict[str, bytes]:
    png = encoded(a_picture(), "PNG")
    jpeg = encoded(a_picture(), "JPEG", progressive=True)
    webp = encoded(a_picture(), "WEBP")
    chunks = webp[12:] + b"NONE\0\0\0\0" * 2_000_000
    last_scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return {
        "a PNG of empty chunks": png[:33] + png_chunk(b"NoNe", b"") * 1_500_000 + png[33:],
        "a JPEG of empty segments": jpeg[:2] + b"\xff\xfe\0\2" * 4_000_000 + jpeg[2:],
        "a JPEG of padding": jpeg[:2] + b"\xff" * 20_000_000,
        "a JPEG of scans": jpeg[:-2] + last_scan * 100 + jpeg[-2:],
        "a WebP of empty chunks": b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks,
    }


async def test_a_picture_made_to_be_slow_is_given_up_early(processor: ImageProcessor) -> None:
    for name, data in slow_ones().items():
        async with asyncio.timeout(SLOW_SECONDS):
            assert await assert_no_picture(processor, data), name


async def test_data_after_the_pixels_of_a_png_takes_no_time(
    processor: ImageProcessor,
) -> None:
    data = encoded(a_picture(), "PNG")

    async with asyncio.timeout(SLOW_SECONDS):
        await processor.process(data[:-12] + png_chunk(b"IDAT", bytes(40_000_000)) + data[-12:])


async def test_a_jpeg_with_two_sizes_is_refused(processor: ImageProcessor) -> None:
    data = encoded(a_picture(), "JPEG")
    frame = data.index(b"\xff\xc0")
    segment = data[frame : frame + 19]
    larger = segment[:5] + struct.pack(">HH", 20_000, 20_000) + segment[9:]

    detail = await assert_no_picture(
        processor, data[:frame] + segment + larger + data[frame + 19 :]
    )

    assert "instead of (300, 200)" in detail


async def test_a_large_picture_is_not_a_decompression_bomb(processor: ImageProcessor) -> None:
    """Between Pillow's own limit of 89 megapixels and ours of 100, where Pillow would warn."""
    data = encoded(Image.new("L", (9_800, 9_900), 77), "JPEG")

    preview = await processor.preview(data)

    assert (preview.width, preview.height) == (512, 517)
    assert difference(opened(preview), Image.new("RGB", (512, 517), (77, 77, 77))) < 2


@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
async def test_animated_pictures_are_refused(processor: ImageProcessor, image_format: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue")]

    moving = encoded(frames[0], image_format, save_all=True, append_images=frames[1:], duration=100)

    assert "frames" in await assert_no_picture(processor, moving)


async def test_of_several_jpegs_in_one_file_the_first_is_used(
    processor: ImageProcessor,
) -> None:
    several = encoded(a_picture(), "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))])

    processed = await processor.process(several)

    picture = opened(processed.original)
    assert picture.format == "JPEG"
    assert difference(picture, a_picture()) < 3


# Threads


async def test_the_event_loop_is_not_blocked_while_pictures_are_processed(
    processor: ImageProcessor,
) -> None:
    noise = Image.effect_noise((2048, 2048), 40)
    data = encoded(Image.merge("RGB", (noise, noise, noise)), "PNG", compress_level=1)
    working = asyncio.gather(processor.process(data), processor.process(data))
    turns_of_the_loop = 0

    while not working.done():
        await asyncio.sleep(0)
        turns_of_the_loop += 1

    assert len((await working)[0].thumbnails) == 3
    assert turns_of_the_loop > 50


async def test_many_concurrent_pictures_are_all_processed_correctly(
    processor: ImageProcessor,
) -> None:
    colours = [(17 * number, 255 - 17 * number, 99) for number in range(15)]

    processed = await asyncio.gather(
        *(processor.process(encoded(Image.new("RGB", (300, 300), c), "PNG")) for c in colours)
    )

    for colour, image in zip(colours, processed, strict=True):
        assert opened(image.thumbnails[0]).resize((1, 1)).getpixel((0, 0)) == pytest.approx(
            colour, abs=4
        )


@pytest.mark.parametrize(("mode", "content_type"), [("RGB", "image/jpeg"), ("RGBA", "image/png")])
@pytest.mark.parametrize("max_bytes", [200_000, 5_000, 10])
async def test_a_picture_is_reduced_until_it_fits(
    processor: ImageProcessor, mode: str, content_type: str, max_bytes: int
) -> None:
    noise = Image.effect_noise((900, 600), 80).convert("RGB")
    if mode == "RGBA":
        noise.putalpha(Image.linear_gradient("L").resize(noise.size))

    smaller = await processor.shrink(encoded(noise), max_bytes=max_bytes)

    assert smaller.content_type == content_type
    opened(smaller)
    if max_bytes > 1_000:
        assert max_bytes / 4 < len(smaller.data) <= max_bytes
        assert abs(smaller.width / smaller.height - 1.5) < 0.1
