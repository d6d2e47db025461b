"""Photos of phones: HEIC becomes JPEG or WebP, in the sandbox only, and within its limits."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from functools import cache

import pytest
from PIL import Image, ImageCms

from domain.errors import GenerationFailed, PictureRefused, UserErrorCode
from storage.imaging import heif, sandbox
from storage.imaging.containers import content_type_of
from storage.imaging.sandbox import UploadSandbox
from storage.imaging.sandbox_child import ANIMATED, DAMAGED, WRONG_SIZE, Limits
from storage.imaging.threaded import ThreadedImageProcessor
from tests.storage.heic import heic, in_tiles, with_box, with_brand, with_grid, with_size
from tests.storage.pictures import (
    CANARY,
    STORED,
    a_picture,
    difference,
    exif,
    opened,
    swapped_profile,
)
from tests.storage.processing import InThisProcess

CHILD_SECONDS = 60.0


@pytest.fixture
def here() -> InThisProcess:
    """For files that libheif can read: a child for each takes longer than all the rest."""
    return InThisProcess()


@pytest.fixture
async def processor() -> AsyncIterator[UploadSandbox]:
    processor = UploadSandbox(max_wait_seconds=CHILD_SECONDS, max_child_seconds=CHILD_SECONDS)
    yield processor
    await processor.aclose()


async def refusal(processor: UploadSandbox, data: bytes) -> PictureRefused:
    with pytest.raises(PictureRefused) as refused:
        await processor.process_upload(data)
    return refused.value


A_VIDEO = with_box(b"\0\0\0\x10ftypmp42\0\0\0\0", b"moov", CANARY)
SHOWN: dict[str, tuple[Callable[[], bytes], Callable[[], Image.Image]]] = {
    "as it is": (heic, a_picture),
    "without colour": (lambda: heic(a_picture(mode="L")), lambda: a_picture(mode="L")),
    "at half of the colours": (lambda: heic(chroma=420), a_picture),
    "the first of several": (
        lambda: heic(a_picture(), Image.new("RGB", (64, 64)), Image.new("RGB", (320, 64))),
        a_picture,
    ),
    "in tiles": (lambda: in_tiles(a_picture(700, 600)), lambda: a_picture(700, 600)),
    "with metadata": (lambda: heic(exif=exif(1).tobytes(), xmp=CANARY), a_picture),
    "with a profile": (
        lambda: heic(icc_profile=swapped_profile()),
        lambda: Image.merge("RGB", a_picture().split()[::-1]),
    ),
    "with something behind": (lambda: with_box(heic(), b"free", CANARY), a_picture),
    "with a trailer that is no box": (lambda: heic() + CANARY + b"SEFT", a_picture),
    "with a video behind": (lambda: heic() + A_VIDEO, a_picture),
    "of no brand but a general one": (lambda: with_brand(heic(), b"mif1"), a_picture),
}


@pytest.mark.parametrize("row", SHOWN)
async def test_a_photo_becomes_a_jpeg(here: InThisProcess, row: str) -> None:
    make, shown = SHOWN[row]
    data, expected = make(), shown()

    processed = await here.process_upload(data)

    assert processed.original.content_type == "image/jpeg"
    kept = opened(processed.original)
    assert difference(kept, expected) < 4
    assert not {"exif", "icc_profile", "xmp"} & set(kept.info)
    assert CANARY not in processed.original.data
    small = opened(processed.thumbnails[0])
    assert difference(small, expected.convert("RGB").resize(small.size)) < 5


async def test_the_sandbox_reads_a_photo(processor: UploadSandbox) -> None:
    processed = await processor.process_upload(heic())

    assert difference(opened(processed.original), a_picture()) < 4


@pytest.mark.parametrize("orientation", STORED)
async def test_a_photo_is_rotated_once(here: InThisProcess, orientation: int) -> None:
    """Its own property says how, and what EXIF repeats is not done again."""
    stored = a_picture().transpose(STORED[orientation])
    data = heic(stored, exif=exif(orientation).tobytes())
    assert b"irot" in data or b"imir" in data

    processed = await here.process_upload(data)

    assert difference(opened(processed.original), a_picture()) < 4


async def test_transparency_becomes_a_webp(here: InThisProcess) -> None:
    picture = a_picture(mode="RGBA")

    processed = await here.process_upload(heic(picture))

    assert processed.original.content_type == "image/webp"
    kept = opened(processed.original)
    alpha, expected = (one.getchannel("A") for one in (kept, picture))
    assert difference(alpha.convert("RGB"), expected.convert("RGB")) < 2


@pytest.mark.parametrize(
    ("code_points", "pixel", "expected"),
    [
        ((12, 13), (234, 51, 35), (255, 0, 0)),
        ((1, 8), (55, 55, 55), (128, 128, 128)),
        ((9, 16), (128, 128, 128), (181, 181, 181)),
        ((1, 13), (200, 100, 50), (200, 100, 50)),
        ((2, 2), (200, 100, 50), (200, 100, 50)),
    ],
)
async def test_cicp_colours_are_converted_to_srgb(
    here: InThisProcess,
    code_points: tuple[int, int],
    pixel: tuple[int, int, int],
    expected: tuple[int, int, int],
) -> None:
    data = heic(Image.new("RGB", (64, 64), pixel), code_points=code_points)

    processed = await here.process_upload(data)

    assert opened(processed.original).getpixel((30, 30)) == pytest.approx(expected, abs=4)


async def test_an_icc_profile_takes_precedence_over_cicp(here: InThisProcess) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

    processed = await here.process_upload(heic(icc_profile=profile))

    assert difference(opened(processed.original), a_picture()) < 4


INVALID: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut in its pixels": (lambda: heic()[:-100], DAMAGED),
    "cut in its description": (lambda: heic()[:200], DAMAGED),
    "without pixels": (lambda: heic()[: heic().index(b"mdat") - 4], DAMAGED),
    "with noise for pixels": (lambda: noisy(heic()), DAMAGED),
    "a sequence": (lambda: with_box(with_brand(heic(), b"hevc"), b"moov", bytes(8)), ANIMATED),
    "> 40 MP, in its header only": (lambda: with_size(heic(), 30_000, 30_000), WRONG_SIZE),
    "a side > 8,192, in its header only": (lambda: with_size(heic(), 9_000, 20), WRONG_SIZE),
    "a side < 16": (lambda: heic(Image.new("RGB", (300, 8))), WRONG_SIZE),
    "in more tiles than there are": (
        lambda: with_grid(in_tiles(a_picture(700, 600)), 256, 256, 700, 600),
        DAMAGED,
    ),
    "tiles of a huge whole": (
        lambda: with_grid(in_tiles(a_picture(700, 600)), 3, 3, 60_000, 60_000),
        DAMAGED,
    ),
    "tiles without the last ones": (lambda: in_tiles(a_picture(700, 600))[:-2_000], DAMAGED),
    "larger than it says": (lambda: with_size(heic(a_picture(2_000, 1_500)), 32, 32), DAMAGED),
    "smaller than it says": (lambda: with_size(heic(), 4_000, 3_000), DAMAGED),
}


def noisy(data: bytes) -> bytes:
    place = data.index(b"mdat") + 4
    return data[:place] + bytes((index * 7919 >> 3) & 0xFF for index in range(len(data) - place))


@pytest.mark.parametrize("row", INVALID)
async def test_an_invalid_photo_is_refused(processor: UploadSandbox, row: str) -> None:
    make, message = INVALID[row]

    refused = await refusal(processor, make())

    assert refused.code is UserErrorCode.UPLOAD_INVALID
    assert str(refused) == message


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        with_brand(heic(), b"avif"),
        with_brand(heic(), b"mif1").replace(b"hvc1", b"av01"),
        with_brand(heic(), b"isom"),
        b"\0\0\0\x18ftyp",
        b"\0\0\0\0ftypheic" + bytes(100),
    ],
    ids=["no description", "AVIF", "another coding", "a video", "half of a header", "zeros"],
)
async def test_a_file_that_is_not_heic_is_refused(processor: UploadSandbox, data: bytes) -> None:
    assert content_type_of(data) is None
    refused = await refusal(processor, data)

    assert refused.code is UserErrorCode.UPLOAD_TYPE_UNSUPPORTED


@cache
def large() -> bytes:
    return heic(a_picture(2_000, 1_500), quality=50)


@pytest.mark.parametrize("limits", [Limits(decoding_seconds=0.02), Limits(seconds=0.03)])
async def test_the_time_limits_apply(limits: Limits) -> None:
    processor = UploadSandbox(limits=limits, max_child_seconds=CHILD_SECONDS)

    refused = await refusal(processor, large())

    assert refused.code is UserErrorCode.UPLOAD_INVALID


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits memory")
async def test_the_memory_limit_applies() -> None:
    processor = UploadSandbox(
        limits=Limits(decoding_bytes=5_000_000), max_child_seconds=CHILD_SECONDS
    )

    refused = await refusal(processor, large())

    assert refused.code is UserErrorCode.UPLOAD_INVALID


async def test_a_heic_from_a_provider_is_refused_without_the_library() -> None:
    """Its decoder is only trusted in the sandbox."""
    processor = ThreadedImageProcessor()

    with pytest.raises(GenerationFailed):
        await processor.process(heic())
    await processor.aclose()


async def test_without_the_library_the_refusal_says_how_to_convert(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandbox, "can_read_heif", lambda: False)
    processor = UploadSandbox()

    refused = await refusal(processor, heic())

    assert set(processor.content_types) == {"image/png", "image/jpeg", "image/webp"}
    assert refused.code is UserErrorCode.UPLOAD_TYPE_UNSUPPORTED
    assert "Convert the photo to JPEG" in str(refused)


async def test_only_the_sandbox_loads_the_library() -> None:
    """It takes a while, and what it decodes is hostile."""
    code = "import app, sys; sys.exit('pillow_heif' in sys.modules)"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code), cwd=heif.__file__.rpartition("/storage/")[0]
    )

    assert await process.wait() == 0
