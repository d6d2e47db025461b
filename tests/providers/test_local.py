import asyncio
import io
import time
from itertools import pairwise

import pytest
from PIL import Image as Pictures
from PIL import ImageDraw

from domain.errors import GenerationErrorCode, GenerationFailed, StoreUnavailable
from domain.generation import Delivery
from domain.models import ImageFormat, pixel_size
from providers.local.provider import LocalProvider
from tests.providers.pictures import (
    SMALL,
    Shelf,
    Spectator,
    a_colourful_picture,
    a_reference,
    a_request,
    brightness,
    colourfulness,
    contrast,
    detail,
    distance,
    hue,
    made,
    mean,
    opened,
)

BOTH = pytest.mark.parametrize("model", ["local-silver", "local-ink"])


async def edited(
    local: LocalProvider, shelf: Shelf, words: str, *, model: str = "local-silver"
) -> Pictures.Image:
    """The colourful picture after an edit, made by the same model before, as in a conversation."""
    reference = await a_reference(shelf, a_colourful_picture(), model=model)
    return await made(local, a_request(words, reference, model=model))


@BOTH
async def test_the_same_request_returns_the_same_bytes(local: LocalProvider, model: str) -> None:
    request = a_request("a boat on the sea, with snow and rain", model=model, preview_count=2)
    first, second = Spectator(), Spectator()

    one = await local.generate(request, first)
    other = await local.generate(request, second)

    assert one == other
    assert first.previews == second.previews


@BOTH
async def test_another_seed_returns_another_picture(local: LocalProvider, model: str) -> None:
    one = await made(local, a_request("mountains", model=model, seed="1"))
    other = await made(local, a_request("mountains", model=model, seed="2"))

    assert distance(one, other) > 5


async def test_another_seed_returns_other_grain_in_an_edit(
    local: LocalProvider, shelf: Shelf
) -> None:
    reference = await a_reference(shelf, a_colourful_picture())

    one = await made(local, a_request("warmer", reference, seed="1"))
    other = await made(local, a_request("warmer", reference, seed="2"))

    assert 0.2 < distance(one, other) < 20


async def test_the_two_models_draw_differently(local: LocalProvider) -> None:
    silver = await made(local, a_request("mountains by the sea"))
    ink = await made(local, a_request("mountains by the sea", model="local-ink"))

    assert distance(silver, ink) > 10


async def test_words_change_the_picture(local: LocalProvider) -> None:
    day = await made(local, a_request("a sunny field of flowers"))
    night = await made(local, a_request("a field of flowers at night"))

    assert brightness(day) > brightness(night) + 40


async def test_a_colour_word_sets_the_palette(local: LocalProvider) -> None:
    green = await made(local, a_request("green mountains", seed="1"))
    purple = await made(local, a_request("purple mountains", seed="1"))

    red, green_share, blue = mean(green)
    assert green_share > (red + blue) / 2
    red, green_share, blue = mean(purple)
    assert green_share < (red + blue) / 2


async def test_a_run_reports_what_was_drawn_and_done(local: LocalProvider) -> None:
    delivery = await local.generate(
        a_request("a lighthouse at night, black and white"), Spectator()
    )

    assert delivery.text == "Drawn: a lighthouse, the night. Done: black and white."
    assert colourfulness(opened(delivery)) < 1


async def test_several_pictures_differ_and_each_can_be_repeated_by_its_seed(
    local: LocalProvider,
) -> None:
    delivery = await local.generate(a_request("hills", image_count=4, seed="mine"), Spectator())

    assert delivery.images[0].seed == "mine"
    assert len({image.data for image in delivery.images}) == 4
    third = delivery.images[2]
    again = await local.generate(a_request("hills", seed=third.seed), Spectator())
    assert again.images[0] == third


async def test_without_a_seed_the_message_determines_the_picture(local: LocalProvider) -> None:
    one = await local.generate(a_request("hills"), Spectator())
    other = await local.generate(a_request("hills!"), Spectator())

    assert one.images[0].seed is not None
    assert one.images[0].seed != other.images[0].seed


@pytest.mark.parametrize(
    ("model", "format", "expected"),
    [
        ("local-silver", None, "JPEG"),
        ("local-ink", None, "WEBP"),
        ("local-silver", ImageFormat.PNG, "PNG"),
        ("local-ink", ImageFormat.JPEG, "JPEG"),
        ("local-silver", ImageFormat.WEBP, "WEBP"),
    ],
)
async def test_the_picture_has_the_requested_format(
    local: LocalProvider, model: str, format: ImageFormat | None, expected: str
) -> None:
    assert (await made(local, a_request("hills", model=model, format=format))).format == expected


@pytest.mark.parametrize("ratio", ["21:9", "4:3", "9:16"])
async def test_the_ratio_and_resolution_determine_the_size(
    local: LocalProvider, ratio: str
) -> None:
    request = a_request("hills", aspect_ratio=ratio, size=None, model="local-ink", format=None)

    picture = await made(local, request)

    assert picture.size == pixel_size(request.aspect_ratio, request.resolution)


async def test_a_reference_of_another_shape_is_cropped_and_not_distorted(
    local: LocalProvider, shelf: Shelf
) -> None:
    wide = Pictures.new("RGB", (800, 200), (20, 40, 160))
    ImageDraw.Draw(wide).ellipse((300, 0, 500, 200), fill=(240, 220, 60))
    reference = await a_reference(shelf, wide, model="local-silver")

    picture = await made(local, a_request("please", reference, size=(256, 256)))

    # The disc fills the square in both directions, and its surroundings are in the corners only.
    yellow = picture.convert("HSV").getchannel("H").point([255 * (20 < h < 60) for h in range(256)])
    assert picture.size == (256, 256)
    assert yellow.getbbox() is not None
    share = sum(yellow.histogram()[128:]) / 256**2
    assert share == pytest.approx(3.1416 / 4, abs=0.03)


async def test_black_and_white_has_no_colour(local: LocalProvider, shelf: Shelf) -> None:
    assert colourfulness(await edited(local, shelf, "black and white")) < 1
    assert colourfulness(await edited(local, shelf, "please")) > 40


async def test_sepia_is_brown(local: LocalProvider, shelf: Shelf) -> None:
    red, green, blue = mean(await edited(local, shelf, "sepia"))

    assert red > green + 10 > blue + 20


async def test_warmer_and_cooler_change_the_colours(local: LocalProvider, shelf: Shelf) -> None:
    warm, cool = [mean(await edited(local, shelf, words)) for words in ("warmer", "cooler")]

    assert warm[0] - warm[2] > cool[0] - cool[2] + 30


async def test_brighter_and_darker_change_the_lightness(local: LocalProvider, shelf: Shelf) -> None:
    words = ("much brighter", "brighter", "please", "darker", "night")
    lights = [brightness(await edited(local, shelf, each)) for each in words]

    assert lights == sorted(lights, reverse=True)
    assert lights[1] > lights[2] + 8 > lights[3] + 16


async def test_contrast_and_saturation_can_be_raised_and_lowered(
    local: LocalProvider, shelf: Shelf
) -> None:
    more, as_it_was, less = [
        await edited(local, shelf, words)
        for words in ("more contrast, vivid", "please", "less contrast, muted")
    ]

    assert contrast(more) > contrast(as_it_was) > contrast(less)
    assert colourfulness(more) > colourfulness(as_it_was) > colourfulness(less)


async def test_blur_removes_detail_and_grain_adds_it(local: LocalProvider, shelf: Shelf) -> None:
    noisy = Pictures.effect_noise(SMALL, 60).convert("RGB")
    reference = await a_reference(shelf, noisy, model="local-silver")

    plain, blurred = [
        await made(local, a_request(words, reference)) for words in ("please", "blur it")
    ]

    assert detail(blurred) < detail(plain) / 3
    assert detail(await edited(local, shelf, "grain")) > detail(
        await edited(local, shelf, "please")
    )


async def test_a_vignette_darkens_only_the_corners(local: LocalProvider, shelf: Shelf) -> None:
    grey = await a_reference(shelf, Pictures.new("RGB", SMALL, (170, 170, 170)))

    picture = await made(local, a_request("a vignette", grey))

    assert brightness(picture.crop((0, 0, 20, 20))) < 110
    assert brightness(picture.crop((140, 110, 180, 150))) > 150


async def test_pixelation_makes_blocks(local: LocalProvider, shelf: Shelf) -> None:
    smooth = Pictures.linear_gradient("L").resize(SMALL).convert("RGB")
    reference = await a_reference(shelf, smooth, model="local-ink")

    picture = await made(local, a_request("very pixelated", reference))

    rows = [brightness(picture.crop((0, row, SMALL[0], row + 1))) for row in range(SMALL[1])]
    jumps = sum(abs(one - other) > 4 for one, other in pairwise(rows))
    assert 8 < jumps < 80


async def test_a_posterised_picture_has_few_tones(local: LocalProvider, shelf: Shelf) -> None:
    smooth = Pictures.linear_gradient("L").resize(SMALL).convert("RGB")
    reference = await a_reference(shelf, smooth, model="local-silver")

    async def tones(words: str) -> int:
        picture = await made(local, a_request(words, reference))
        rows = picture.convert("L").resize((1, SMALL[1]), Pictures.Resampling.BOX)
        return len({level // 6 for level in rows.tobytes()})

    assert await tones("please") > 30
    assert await tones("posterize") < 16


async def test_a_negative_inverts(local: LocalProvider, shelf: Shelf) -> None:
    plain = mean(await edited(local, shelf, "please"))
    negative = mean(await edited(local, shelf, "negative"))

    assert all(a + b == pytest.approx(255, abs=6) for a, b in zip(plain, negative, strict=True))


@pytest.mark.parametrize(
    ("words", "way"),
    [
        ("mirror it", Pictures.Transpose.FLIP_LEFT_RIGHT),
        ("flip it vertically", Pictures.Transpose.FLIP_TOP_BOTTOM),
        ("turn it upside down", Pictures.Transpose.ROTATE_180),
        ("rotate 90 degrees left", Pictures.Transpose.ROTATE_90),
        ("rotate right", Pictures.Transpose.ROTATE_270),
    ],
)
async def test_geometric_edits_move_points_as_requested(
    local: LocalProvider, shelf: Shelf, words: str, way: Pictures.Transpose
) -> None:
    plain = await edited(local, shelf, "please")

    turned = await edited(local, shelf, words)

    assert distance(turned, plain.transpose(way)) < 4


async def test_a_slight_rotation_leaves_no_empty_corners(
    local: LocalProvider, shelf: Shelf
) -> None:
    white = await a_reference(shelf, Pictures.new("RGB", SMALL, (250, 250, 250)))

    picture = await made(local, a_request("rotate 10 degrees", white))

    assert picture.size == SMALL
    for corner in ((0, 0), (312, 0), (0, 248), (312, 248)):
        assert brightness(picture.crop((*corner, corner[0] + 8, corner[1] + 8))) > 230


@pytest.mark.parametrize(
    ("words", "size"), [("crop to 16:9", (320, 180)), ("square", (256, 256)), ("hi", SMALL)]
)
async def test_the_message_can_request_another_shape(
    local: LocalProvider, shelf: Shelf, words: str, size: tuple[int, int]
) -> None:
    assert (await edited(local, shelf, words)).size == size


async def test_a_frame_has_its_colour_around_the_picture(
    local: LocalProvider, shelf: Shelf
) -> None:
    picture = await edited(local, shelf, "a thick green frame")

    assert picture.size == SMALL
    assert 100 < hue(mean(picture.crop((0, 0, SMALL[0], 8)))) < 160
    assert 100 < hue(mean(picture.crop((0, 0, 8, SMALL[1])))) < 160
    middle = picture.crop((40, 40, 280, 216))
    assert not 100 < hue(mean(middle.crop((0, 100, 60, 170)))) < 160


@pytest.mark.parametrize(("place", "top"), [("top", 0), ("centre", 96), ("bottom", 186)])
async def test_words_are_written_at_the_requested_place(
    local: LocalProvider, shelf: Shelf, place: str, top: int
) -> None:
    plain = await edited(local, shelf, "please")

    written = await edited(local, shelf, f'write "Sepia, 100% & olá" at the {place}')

    box = (0, top, SMALL[0], top + 70)
    assert distance(written.crop(box), plain.crop(box)) > 4
    assert distance(written, plain) < 20
    assert colourfulness(written) > 40


async def test_letters_missing_from_the_typeface_are_replaced_by_plain_ones(
    local: LocalProvider, shelf: Shelf
) -> None:
    reference = await a_reference(shelf, a_colourful_picture())

    async def written(words: str) -> Delivery:
        return await local.generate(a_request(words, reference, seed="1"), Spectator())

    accented, plain = await written('"Açúcar, não!"'), await written('"Acucar, nao!"')
    foreign, none = await written('"漢字"'), await written("please")

    assert distance(opened(accented), opened(plain)) < 2
    assert distance(opened(foreign), opened(none)) < 2
    assert accented.text is not None
    assert accented.text.endswith("My only typeface has plain Latin letters without accents.")


@pytest.mark.parametrize(
    "words",
    [
        "sunset",
        "pencil sketch",
        "oil painting",
        "watercolour",
        "cartoon",
        "fog",
        "emboss",
        "a soft glow",
        "vintage",
        "cinematic",
        "snow",
        "rain",
        "tint it teal",
        "zoom in",
        "very strong grain",
    ],
)
async def test_every_other_effect_is_visible(
    local: LocalProvider, shelf: Shelf, words: str
) -> None:
    plain = await edited(local, shelf, "please")

    assert distance(await edited(local, shelf, words), plain) > 3


async def test_edits_apply_to_drawn_pictures(local: LocalProvider) -> None:
    plain = await made(local, a_request("a house on a hill", seed="1"))

    framed = await made(local, a_request("a house on a hill with a white frame", seed="1"))

    assert brightness(framed.crop((0, 0, SMALL[0], 6))) > 225
    assert brightness(plain.crop((0, 0, SMALL[0], 6))) < 215


async def test_instructions_that_were_not_understood_are_reported(
    local: LocalProvider, shelf: Shelf
) -> None:
    reference = await a_reference(shelf, a_colourful_picture())

    delivery = await local.generate(
        a_request("sepia, a vignette, and make her smile", reference), Spectator()
    )

    assert delivery.text == (
        'Done: sepia, a vignette. I did not understand "make her smile": '
        "I am a small local model that knows plain darkroom work."
    )


@BOTH
async def test_a_picture_is_returned_even_if_nothing_was_understood(
    local: LocalProvider, shelf: Shelf, model: str
) -> None:
    reference = await a_reference(shelf, a_colourful_picture())

    delivery = await local.generate(
        a_request("make her smile", reference, model=model), Spectator()
    )

    assert delivery.text is not None
    assert 'I did not understand "make her smile"' in delivery.text
    assert "style" in delivery.text
    assert 0.5 < distance(opened(delivery), a_colourful_picture()) < 60


async def test_ink_does_not_draw_over_its_own_picture_again(
    local: LocalProvider, shelf: Shelf
) -> None:
    first = await made(local, a_request("mountains by the sea", model="local-ink"))
    own = await a_reference(shelf, first, model="local-ink")
    foreign = await a_reference(shelf, first, model="local-silver")

    kept, inked = [
        await made(local, a_request("please", reference, model="local-ink"))
        for reference in (own, foreign)
    ]

    assert distance(kept, first) < 5 < distance(inked, first)


async def test_an_edit_continues_from_the_output_of_the_same_model(
    local: LocalProvider, shelf: Shelf
) -> None:
    turn = "out_01jd0000000000000000000000_0001"
    red = await a_reference(
        shelf, Pictures.new("RGB", SMALL, "red"), model="local-silver", output=f"{turn}_1"
    )
    blue = await a_reference(
        shelf, Pictures.new("RGB", SMALL, "blue"), model="local-ink", output=f"{turn}_2"
    )
    other = await a_reference(shelf, Pictures.new("RGB", SMALL, "lime"), model="somebody-else")

    silver = mean(await made(local, a_request("please", red, blue, other)))
    ink = mean(await made(local, a_request("please", red, blue, other, model="local-ink")))
    neither = mean(await made(local, a_request("please", other, red, blue)))

    assert silver[0] == max(silver)
    assert ink[2] == max(ink)
    assert neither[1] == max(neither)


async def test_only_the_reference_that_is_edited_is_read(
    local: LocalProvider, shelf: Shelf
) -> None:
    references = [await a_reference(shelf, a_colourful_picture()) for _ in range(3)]

    await local.generate(a_request("warmer", *references), Spectator())

    assert shelf.read == [references[0].key]


async def test_a_collage_shows_every_reference(local: LocalProvider, shelf: Shelf) -> None:
    colours = ("red", "lime", "blue", "yellow")
    references = [
        await a_reference(shelf, Pictures.new("RGB", (200, 120 + 40 * index), colour))
        for index, colour in enumerate(colours)
    ]

    delivery = await local.generate(a_request("make a collage", *references), Spectator())

    picture = opened(delivery)
    middles = [(80, 64), (240, 64), (80, 192), (240, 192)]
    hues = [hue(mean(picture.crop((x - 20, y - 20, x + 20, y + 20)))) % 350 for x, y in middles]
    assert hues == pytest.approx([0, 120, 240, 60], abs=12)
    assert delivery.text == "Done: a collage."


async def test_a_blend_consists_of_all_references(local: LocalProvider, shelf: Shelf) -> None:
    references = [
        await a_reference(shelf, Pictures.new("RGB", SMALL, colour))
        for colour in ((240, 0, 0), (0, 240, 0), (0, 0, 240))
    ]

    red, green, blue = mean(await made(local, a_request("blend them together", *references)))

    assert max(red, green, blue) - min(red, green, blue) < 20


async def test_a_single_picture_cannot_be_combined(local: LocalProvider, shelf: Shelf) -> None:
    reference = await a_reference(shelf, a_colourful_picture())

    delivery = await local.generate(a_request("a sepia collage", reference), Spectator())

    assert (
        delivery.text == "Done: sepia. There was only one picture, so there was nothing to combine."
    )


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_previews_develop_gradually(local: LocalProvider, count: int) -> None:
    spectator = Spectator()

    delivery = await local.generate(
        a_request("mountains", size=(640, 512), preview_count=count), spectator
    )

    assert len(spectator.previews) == count
    final = opened(delivery)
    partials = [Pictures.open(io.BytesIO(data)) for data in spectator.previews]
    assert all(max(partial.size) <= 512 for partial in partials)
    distances = [distance(partial.resize(final.size), final) for partial in partials]
    assert distances == sorted(distances, reverse=True)


async def test_progress_increases_from_nothing_to_all(local: LocalProvider) -> None:
    spectator = Spectator()

    await local.generate(a_request("sepia mountains", image_count=2), spectator)

    assert spectator.fractions[0] == 0
    assert spectator.fractions[-1] == 1
    assert spectator.fractions == sorted(set(spectator.fractions))


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n broken", b"GIF89a"])
async def test_an_invalid_reference_is_rejected(
    local: LocalProvider, shelf: Shelf, data: bytes
) -> None:
    reference = await a_reference(shelf, a_colourful_picture(), data=data)

    with pytest.raises(GenerationFailed) as failed:
        await local.generate(a_request("sepia", reference), Spectator())

    assert failed.value.code is GenerationErrorCode.PROVIDER_REJECTED_INPUT
    assert not failed.value.retryable


async def test_a_truncated_reference_is_rejected(local: LocalProvider, shelf: Shelf) -> None:
    buffer = io.BytesIO()
    Pictures.effect_noise(SMALL, 50).convert("RGB").save(buffer, "JPEG")
    half = buffer.getvalue()[: buffer.tell() // 2]
    reference = await a_reference(shelf, a_colourful_picture(), data=half)

    with pytest.raises(GenerationFailed) as failed:
        await local.generate(a_request("sepia", reference), Spectator())

    assert failed.value.code is GenerationErrorCode.PROVIDER_REJECTED_INPUT


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
async def test_references_of_every_format_are_accepted(
    local: LocalProvider, shelf: Shelf, mode: str
) -> None:
    reference = await a_reference(shelf, a_colourful_picture().convert("L").convert(mode))

    assert (await made(local, a_request("warmer", reference))).mode == "RGB"


async def test_nothing_is_made_while_the_store_is_unavailable(
    local: LocalProvider, shelf: Shelf
) -> None:
    reference = await a_reference(shelf, a_colourful_picture())
    await shelf.delete([reference.key])

    with pytest.raises(StoreUnavailable):
        await local.generate(a_request("sepia", reference), Spectator())


async def test_a_cancelled_run_ends_soon_and_frees_its_capacity(local: LocalProvider) -> None:
    spectators = [Spectator() for _ in range(2)]
    runs = [
        asyncio.create_task(
            local.generate(a_request("a city", size=(2048, 2048), image_count=4), spectator)
        )
        for spectator in spectators
    ]
    for spectator in spectators:
        await asyncio.wait_for(spectator.saw_progress.wait(), 10)
    started = time.monotonic()

    for run in runs:
        run.cancel()
    await asyncio.gather(*runs, return_exceptions=True)
    await local.generate(a_request("hills", size=(256, 256)), Spectator())

    assert all(run.cancelled() for run in runs)
    assert time.monotonic() - started < 5


async def test_the_event_loop_is_not_blocked(local: LocalProvider) -> None:
    run = asyncio.create_task(
        local.generate(a_request("a city in the rain", size=(1024, 1024)), Spectator())
    )
    turns_of_the_loop = 0

    while not run.done():
        await asyncio.sleep(0)
        turns_of_the_loop += 1

    assert turns_of_the_loop > 50
