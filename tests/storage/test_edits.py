"""Masks and edits: where the base may change, what is restored, and drift."""

import os
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from domain.images import DigitalSourceType, Drift
from storage.imaging.threaded import ThreadedImageProcessor
from tests.storage.edits import Edit, generate_edit, moved
from tests.storage.pictures import a_picture, encoded, opened

EDITS = int(os.environ.get("DARKROOM_TEST_EDITS", "6"))
SHARE = 0.02
"""Of the base's pixels, by which a drift may differ from the truth."""


@pytest.fixture
async def processor() -> AsyncIterator[ThreadedImageProcessor]:
    processor = ThreadedImageProcessor()
    yield processor
    await processor.aclose()


def a_mask(size: tuple[int, int] = (300, 200), *, value: int = 255) -> Image.Image:
    """A rectangle in the middle may change."""
    mask = Image.new("L", size)
    width, height = size
    box = (width // 3, height // 4, 2 * width // 3 - 1, 3 * height // 4 - 1)
    ImageDraw.Draw(mask).rectangle(box, fill=value)
    return mask


def pixels(picture: Image.Image) -> Any:
    return np.asarray(picture.convert("RGB"), np.int16)


async def edit(
    processor: ThreadedImageProcessor,
    base: Image.Image,
    edited: Image.Image,
    mask: bytes,
    feather: int = 0,
) -> Image.Image:
    done = await processor.put_back(encoded(edited), encoded(base), mask=mask, feather=feather)
    return opened(done.processed.original)


@pytest.mark.parametrize("seed", range(EDITS))
async def test_pixels_outside_the_mask_are_restored_and_drift_is_accurate(
    processor: ThreadedImageProcessor, seed: int
) -> None:
    generated: Edit = generate_edit(seed)
    feather = seed % 4 * 5

    done = await processor.put_back(
        encoded(generated.edited, "JPEG", quality=88) if seed % 2 else encoded(generated.edited),
        encoded(generated.base),
        mask=encoded(generated.mask),
        feather=feather,
    )

    result = opened(done.processed.original)
    assert result.size == generated.base.size
    near = generated.mask.filter(ImageFilter.MaxFilter(2 * feather + 1))
    outside = np.asarray(near) == 0
    assert outside.any()
    assert (pixels(result)[outside] == pixels(generated.base)[outside]).all()
    # Without a mask as well, where any part may differ.
    free = await processor.compare(encoded(generated.base), encoded(generated.edited))
    for drift in (done.drift, free):
        assert drift.changed == pytest.approx(generated.changed, abs=SHARE)
    assert done.drift.outside_mask == pytest.approx(generated.outside_mask, abs=SHARE)


async def test_a_shifted_and_scaled_edit_is_aligned(
    processor: ThreadedImageProcessor,
) -> None:
    generated = generate_edit(3, max_shift=0, max_scale=0)
    everything = encoded(Image.new("L", generated.base.size, 255))
    shifted = moved(generated.edited, scale=1.02, shift=(7, -6))

    result = await edit(processor, generated.base, shifted, everything)

    inner = (slice(30, -30), slice(30, -30))
    aligned = np.abs(pixels(result) - pixels(generated.edited))[inner].mean()
    as_it_came = np.abs(pixels(shifted) - pixels(generated.edited))[inner].mean()
    assert aligned < as_it_came / 4


@pytest.mark.parametrize("size", [(600, 400), (150, 100), (301, 201)])
async def test_an_edit_of_another_size_is_resized_to_the_frame_of_the_base(
    processor: ThreadedImageProcessor, size: tuple[int, int]
) -> None:
    base = a_picture()
    other = Image.eval(base, lambda value: 255 - value).resize(size, Image.Resampling.LANCZOS)

    result = await edit(processor, base, other, encoded(a_mask()))

    inside = np.asarray(a_mask()) > 0
    assert (pixels(result)[~inside] == pixels(base)[~inside]).all()
    assert np.abs(pixels(result)[inside] - (255 - pixels(base)[inside])).mean() < 4


async def test_an_edit_of_another_shape_is_aligned_where_the_model_has_put_it(
    processor: ThreadedImageProcessor,
) -> None:
    base = generate_edit(5).base.resize((300, 200))
    changed = base.copy()
    changed.paste((255, 0, 255), (120, 80, 180, 120))
    square = Image.new("RGB", (300, 300), (90, 90, 90))
    square.paste(changed, (0, 50))

    drift = await processor.compare(encoded(base), encoded(square))

    assert drift.changed == pytest.approx(60 * 40 / 60_000, abs=SHARE)


@pytest.mark.parametrize(("value", "share"), [(255, 1), (128, 0.5), (64, 0.25), (0, 0)])
async def test_grey_parts_of_a_mask_are_blended(
    processor: ThreadedImageProcessor, value: int, share: float
) -> None:
    base, edited = Image.new("RGB", (90, 60), (20, 40, 60)), Image.new("RGB", (90, 60), "white")

    result = await edit(processor, base, edited, encoded(a_mask((90, 60), value=value)))

    expected = [round(old + share * (255 - old)) for old in (20, 40, 60)]
    assert np.abs(np.array(result.getpixel((45, 30))) - expected).max() <= 1
    assert result.getpixel((2, 2)) == (20, 40, 60)


def _sixteen_bits(mask: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(mask, np.uint16) * 257)


def _clear(mask: Image.Image) -> Image.Image:
    """White all over, and clear where nothing may change."""
    white = Image.new("RGBA", mask.size, (255, 255, 255, 0))
    white.putalpha(mask)
    return white


@pytest.mark.parametrize(
    "mask",
    [
        encoded(a_mask()),
        encoded(a_mask().convert("1")),
        encoded(a_mask().convert("RGB")),
        encoded(a_mask().convert("P")),
        encoded(_sixteen_bits(a_mask())),
        encoded(_clear(a_mask())),
        encoded(_clear(a_mask()), "WEBP", lossless=True),
        encoded(a_mask(), "JPEG", quality=75),
        encoded(a_mask().convert("RGB"), "WEBP", quality=60),
        encoded(a_mask((600, 400))),
        encoded(a_mask((150, 100))),
    ],
    ids=[
        *("grey", "bits", "rgb", "palette", "16-bit", "clear", "clear-webp", "jpeg", "webp"),
        *("larger", "smaller"),
    ],
)
async def test_a_mask_can_have_any_format_and_size(
    processor: ThreadedImageProcessor, mask: bytes
) -> None:
    base, edited = a_picture(), Image.new("RGB", (300, 200), (0, 255, 0))

    result = await edit(processor, base, edited, mask)

    # What is scaled has a soft edge, a pixel of the smaller one wide.
    clearly_outside = np.asarray(a_mask().filter(ImageFilter.MaxFilter(9))) == 0
    clearly_inside = np.asarray(a_mask().filter(ImageFilter.MinFilter(9))) > 0
    assert (pixels(result)[clearly_outside] == pixels(base)[clearly_outside]).all()
    assert (pixels(result)[clearly_inside] == (0, 255, 0)).all()


async def test_a_feather_fades_outwards_and_ends_at_its_width(
    processor: ThreadedImageProcessor,
) -> None:
    base, edited = Image.new("L", (300, 200)), Image.new("L", (300, 200), 255)

    result = await edit(processor, base, edited, encoded(a_mask()), feather=20)

    row = [int(value) for value in pixels(result)[100, :, 0]]
    assert row[:80] == [0] * 80
    assert row[80:101] == sorted(row[80:101])
    assert 0 < row[90] < 255
    assert row[100:200] == [255] * 100


async def test_a_mask_without_white_changes_nothing(processor: ThreadedImageProcessor) -> None:
    base = a_picture()

    result = await edit(
        processor, base, Image.new("RGB", (300, 200)), encoded(Image.new("L", (300, 200)))
    )

    assert (pixels(result) == pixels(base)).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
async def test_transparency_outside_the_mask_is_kept(
    processor: ThreadedImageProcessor, mode: str
) -> None:
    base = a_picture(mode="RGBA")

    result = await edit(processor, base, Image.new(mode, (300, 200)), encoded(a_mask()))

    outside = np.asarray(a_mask()) == 0
    assert (np.asarray(result)[outside] == np.asarray(base)[outside]).all()


@pytest.mark.parametrize(
    ("content_type", "kept_as"),
    [
        (None, "image/png"),
        ("image/jpeg", "image/png"),
        ("image/png", "image/png"),
        ("image/webp", "image/webp"),
    ],
)
async def test_a_restored_image_is_stored_losslessly_with_its_provenance(
    processor: ThreadedImageProcessor, content_type: str | None, kept_as: str
) -> None:
    base = generate_edit(1).base
    source = DigitalSourceType.COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA

    done = await processor.put_back(
        encoded(base, "JPEG"),
        encoded(base),
        mask=encoded(a_mask((base.width, base.height))),
        feather=3,
        content_type=content_type,
        source=source,
    )

    original = done.processed.original
    assert original.content_type == kept_as
    assert source.value.encode() in original.data
    assert done.processed.provenance is not None
    assert done.processed.provenance.digital_source_type is source
    assert (pixels(opened(original))[0] == pixels(base)[0]).all()
    assert done.processed.thumbnails


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
async def test_an_identical_picture_has_no_drift(
    processor: ThreadedImageProcessor, mode: str
) -> None:
    picture = a_picture(mode=mode)

    drift = await processor.compare(encoded(picture), encoded(picture), mask=encoded(a_mask()))

    assert drift == Drift(changed=0.0, outside_mask=0.0)


async def test_a_different_picture_has_nearly_full_drift(
    processor: ThreadedImageProcessor,
) -> None:
    base = generate_edit(1).base
    other = base.point(lambda value: (value + 110) % 256).transpose(Image.Transpose.ROTATE_180)

    drift = await processor.compare(encoded(base), encoded(other))

    assert drift.changed > 0.7
    assert drift.outside_mask is None


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3, 2)])
async def test_the_smallest_pictures_can_be_edited(
    processor: ThreadedImageProcessor, size: tuple[int, int]
) -> None:
    base, edited = Image.new("RGB", size, "red"), Image.new("RGB", size, "blue")

    result = await edit(processor, base, edited, encoded(Image.new("L", size, 255)), feather=7)

    assert result.getpixel((0, 0)) == (0, 0, 255)


async def test_a_model_receives_a_mask_that_is_transparent_where_it_may_paint(
    processor: ThreadedImageProcessor,
) -> None:
    soft = a_mask(value=90)

    made = await processor.make_mask_for_model(encoded(soft), width=150, height=100, feather=5)

    picture = opened(made)
    assert (picture.mode, picture.size) == ("RGBA", (150, 100))
    assert made.content_type == "image/png"
    assert picture.getpixel((75, 50)) == (255, 255, 255, 0)
    assert picture.getpixel((47, 50)) == (255, 255, 255, 0)  # in the feather
    assert picture.getpixel((40, 50)) == (0, 0, 0, 255)
