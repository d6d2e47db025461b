"""Untidy but complete pictures are accepted from viewers and providers; incomplete ones are
refused.
"""

from collections.abc import AsyncIterator

import pytest
from PIL import Image

from domain.errors import GenerationErrorCode, GenerationFailed, PictureRefused, UserErrorCode
from storage.imaging.sandbox_child import ANIMATED
from storage.imaging.threaded import ThreadedImageProcessor
from tests.storage.pictures import (
    CANARY,
    CONTENT_TYPES,
    a_picture,
    difference,
    encoded,
    opened,
)
from tests.storage.processing import Process, processing
from tests.storage.untidy import (
    INCOMPLETE,
    SCANS,
    SEVERAL_FRAMES,
    UNTIDY,
    a_jpeg_of,
    riff,
    webp_chunk,
)

THUMBNAIL_APART = 5.0


@pytest.fixture(params=["uploaded here", "delivered"])
async def process(request: pytest.FixtureRequest) -> AsyncIterator[Process]:
    async with processing(request.param) as process:
        yield process


async def assert_refused(process: Process, data: bytes) -> str:
    with pytest.raises((PictureRefused, GenerationFailed)) as refused:
        await process(data)
    assert isinstance(refused.value, PictureRefused | GenerationFailed)
    assert refused.value.code in (
        UserErrorCode.UPLOAD_INVALID,
        GenerationErrorCode.PROVIDER_BAD_RESPONSE,
    )
    return str(refused.value)


def on_grey(picture: Image.Image) -> Image.Image:
    """What is visible of it, whatever the colour of transparent pixels."""
    return Image.alpha_composite(Image.new("RGBA", picture.size, "grey"), picture.convert("RGBA"))


def seen_apart(kept: Image.Image, shown: Image.Image) -> float:
    """How far they are apart in what is seen, and in what can be seen through."""
    assert kept.has_transparency_data == shown.has_transparency_data
    one, other = kept.convert("RGBA").getchannel("A"), shown.convert("RGBA").getchannel("A")
    return max(difference(on_grey(kept), on_grey(shown)), difference(one, other))


@pytest.mark.parametrize("row", UNTIDY)
async def test_an_untidy_but_complete_picture_is_re_encoded_from_its_pixels(
    process: Process, row: str
) -> None:
    untidy = UNTIDY[row]
    data, shown = untidy.make(), untidy.shown()

    processed = await process(data)

    kept = opened(processed.original)
    assert processed.original.content_type == CONTENT_TYPES[untidy.image_format]
    assert seen_apart(kept, shown) <= untidy.apart
    assert CANARY not in processed.original.data
    assert processed.original.data != data
    small = opened(processed.thumbnails[0])
    assert difference(on_grey(small), on_grey(shown).resize(small.size)) < THUMBNAIL_APART
    # What was kept is tidy.
    assert (await process(processed.original.data)).original.content_type == (
        processed.original.content_type
    )


async def test_alpha_that_a_webp_does_not_announce_is_not_shown(process: Process) -> None:
    picture = a_picture(mode="RGBA")
    header = webp_chunk(b"VP8X", bytes(4) + b"\x2b\x01\0\xc7\0\0")
    still = encoded(picture, "WEBP", lossless=True, exact=True)[12:]

    processed = await process(riff(header, still))

    small = opened(processed.thumbnails[0])
    assert not small.has_transparency_data
    assert difference(small, picture.convert("RGB").resize(small.size)) < THUMBNAIL_APART
    # Those who do not know the header would show it.
    assert not opened(processed.original).has_transparency_data


@pytest.mark.parametrize("row", INCOMPLETE)
async def test_an_incomplete_picture_is_refused(process: Process, row: str) -> None:
    await assert_refused(process, INCOMPLETE[row]())


@pytest.mark.parametrize("row", SEVERAL_FRAMES)
async def test_a_picture_with_several_frames_is_refused(process: Process, row: str) -> None:
    message = await assert_refused(process, SEVERAL_FRAMES[row]())

    assert message == ANIMATED or "frame" in message


async def test_the_sandbox_gives_the_same_result() -> None:
    async with processing("uploaded") as process:
        row = next(iter(UNTIDY))
        processed = await process(UNTIDY[row].make())
        assert processed.original.content_type == CONTENT_TYPES[UNTIDY[row].image_format]

        await assert_refused(process, INCOMPLETE[next(iter(INCOMPLETE))]())

        assert await assert_refused(process, next(iter(SEVERAL_FRAMES.values()))()) == ANIMATED


@pytest.mark.parametrize("name", SCANS)
async def test_a_tidy_jpeg_from_a_provider_is_kept_byte_for_byte(name: str) -> None:
    processor = ThreadedImageProcessor()
    data = a_jpeg_of(name)

    processed = await processor.process(data)

    assert processed.original.data == data
    await processor.aclose()
