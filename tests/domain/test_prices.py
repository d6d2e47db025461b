"""The price of an image: one rule for what is shown and what is planned."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.model_choice import Inherited
from domain.models import (
    SQUARE,
    CustomSize,
    ImageModel,
    ModelRegistry,
    Price,
    Quality,
    Resolution,
    Scene,
)
from domain.parents import TurnOptions
from domain.planning import plan_turn
from domain.prices import price_of_image
from domain.references import Reference
from domain.refusals import Refusals
from domain.turns import PlannedOutput, TurnRequest
from tests.domain.test_planning import a_model, references

TABLE = (
    Price(
        credits=16, scene=Scene.IMAGE_TO_IMAGE, resolution=Resolution.FOUR_K, quality=Quality.HIGH
    ),
    Price(credits=9, resolution=Resolution.FOUR_K),
    Price(credits=1, scene=Scene.TEXT_TO_IMAGE, quality=Quality.LOW),
    Price(credits=6, quality=Quality.HIGH),
)
MODEL = a_model(
    "priced",
    prices=TABLE,
    resolutions=tuple(Resolution),
    qualities=tuple(Quality),
    custom_size=CustomSize(256, 4096, 256),
    max_images=4,
)
TEXT, EDIT = Scene.TEXT_TO_IMAGE, Scene.IMAGE_TO_IMAGE


@pytest.mark.parametrize(
    ("scene", "resolution", "quality", "credits"),
    [
        (TEXT, None, None, 2),
        (EDIT, None, None, 4),
        (TEXT, Resolution.TWO_K, Quality.MEDIUM, 2),
        (TEXT, Resolution.ONE_K, Quality.LOW, 1),
        (EDIT, Resolution.ONE_K, Quality.LOW, 4),
        (TEXT, Resolution.FOUR_K, Quality.LOW, 9),
        (TEXT, Resolution.FOUR_K, Quality.HIGH, 9),
        (EDIT, Resolution.FOUR_K, Quality.HIGH, 16),
        (EDIT, Resolution.TWO_K, Quality.HIGH, 6),
        (TEXT, None, Quality.HIGH, 6),
    ],
)
def test_the_first_matching_price_is_used(
    scene: Scene, resolution: Resolution | None, quality: Quality | None, credits: int
) -> None:
    assert MODEL.credits_per_image(scene, resolution=resolution, quality=quality) == credits


def test_without_a_resolution_the_price_is_that_of_the_smallest_one_used() -> None:
    large = replace(
        MODEL,
        resolutions=(Resolution.FOUR_K, Resolution.TWO_K),
        prices=(
            Price(credits=5, resolution=Resolution.TWO_K),
            Price(credits=7, resolution=Resolution.FOUR_K),
        ),
    )

    assert large.credits_per_image(TEXT) == 5


@pytest.mark.parametrize(
    ("width", "height", "credits"),
    [(256, 256, 2), (2048, 2048, 2), (4096, 4096, 9), (4096, 3072, 9)],
)
def test_a_size_in_pixels_is_priced_by_area(width: int, height: int, credits: int) -> None:
    options = TurnOptions(width=width, height=height)

    assert price_of_image(MODEL, TEXT, resolution=Resolution.ONE_K, options=options) == credits


def some(values: type[Scene] | type[Resolution] | type[Quality]) -> st.SearchStrategy[object]:
    return st.none() | st.sampled_from(list(values))


prices = st.builds(
    Price,
    credits=st.integers(0, 50),
    scene=some(Scene),
    resolution=some(Resolution),
    quality=some(Quality),
)
models = st.builds(
    lambda table, sizes: replace(
        MODEL, prices=tuple(table), resolutions=tuple(sizes), custom_size=None
    ),
    st.lists(prices, max_size=5),
    st.lists(st.sampled_from(list(Resolution)), min_size=1, unique=True),
)


def by_hand(model: ImageModel, scene: Scene, size: Resolution, quality: object) -> int:
    for price in model.prices:
        wanted = (price.scene, price.resolution, price.quality)
        if all(
            one in (None, found) for one, found in zip(wanted, (scene, size, quality), strict=True)
        ):
            return price.credits
    return 2 if scene is TEXT else 4


@given(
    models=st.lists(models, min_size=1, max_size=3),
    quality=some(Quality),
    inherited=st.sampled_from(list(Resolution)),
    image_count=st.integers(1, 4),
    reference_count=st.integers(0, 3),
)
def test_the_planned_cost_equals_the_price_shown(
    models: list[ImageModel],
    quality: Quality | None,
    inherited: Resolution,
    image_count: int,
    reference_count: int,
) -> None:
    rows = [replace(model, id=f"model-{index}") for index, model in enumerate(models)]  # type: ignore[arg-type]
    given_references = references(*(f"r{number}" for number in range(reference_count)))

    planned = planned_outputs(
        rows,
        given_references,
        inherited=inherited,
        options=TurnOptions(images_per_model=image_count, quality=quality),
    )

    scene = EDIT if reference_count else TEXT
    sizes = [row.fit_resolution(inherited) for row in rows]
    shown = [
        row.credits_per_image(scene, resolution=size, quality=quality)
        for row, size in zip(rows, sizes, strict=True)
    ]
    assert shown == [
        by_hand(row, scene, size, quality) for row, size in zip(rows, sizes, strict=True)
    ]
    assert [one.credits for one in planned] == [price * image_count for price in shown]


def planned_outputs(
    rows: list[ImageModel],
    given_references: tuple[Reference, ...],
    *,
    inherited: Resolution,
    options: TurnOptions,
) -> tuple[PlannedOutput, ...]:
    refusals = Refusals()
    plan = plan_turn(
        TurnRequest(
            user_message="A boat",
            selected_models=tuple(row.id for row in rows),
            options=options,
        ),
        registry=ModelRegistry(rows),
        inherited=Inherited(aspect_ratio=SQUARE, resolution=inherited),
        references=given_references,
        previous_were_named=False,
        refusals=refusals,
    )
    refusals.raise_if_any()
    assert plan.credits == sum(one.credits for one in plan.outputs)
    return plan.outputs
