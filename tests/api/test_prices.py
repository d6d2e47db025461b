"""Prices that depend on the request: the same when shown, planned, reserved and charged."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final

import pytest

from domain.models import Price, Quality, Resolution, Scene
from tests.api.every_model import MODELS, House, open_house
from tests.api.posts import PLAN_POST, ended, generate
from tests.api.test_credits import STARTING, adds_up, spent
from tests.api.test_plans import plan
from tests.operations import start, until_finished

PRICES: Final = {
    "img-nano-banana-pro": (
        Price(credits=11, resolution=Resolution.FOUR_K),
        Price(credits=7, resolution=Resolution.TWO_K),
    ),
    "img-nano-banana-pro-edit": (Price(credits=13, resolution=Resolution.FOUR_K),),
    "img-gpt-image-2": (
        Price(credits=17, scene=Scene.IMAGE_TO_IMAGE, quality=Quality.HIGH),
        Price(credits=9, quality=Quality.HIGH),
        Price(credits=1, quality=Quality.LOW),
        Price(credits=5, resolution=Resolution.TWO_K),
    ),
}
PRICED: Final = [replace(one, prices=PRICES[one.id]) for one in MODELS if one.id in PRICES]
CAPTION: Final = 1
SHOWN = """query($id: ID!, $scene: Scene!, $resolution: Resolution, $quality: Quality) {
  model(id: $id) {
    creditsPerImage(scene: $scene, resolution: $resolution, quality: $quality)
    plain: creditsPerImage(scene: $scene)
  }
}"""


@pytest.fixture(scope="module")
async def house(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with open_house(mongodb_uri, tmp_path_factory, PRICED) as house:
        yield house
        await adds_up(house.darkroom)


@pytest.mark.parametrize(
    ("name", "asked", "price"),
    [
        ("img-nano-banana-pro", {}, 2),
        ("img-nano-banana-pro", {"resolution": "TWO_K"}, 7),
        ("img-nano-banana-pro", {"resolution": "FOUR_K", "count": 3}, 11),
        ("img-nano-banana-pro-edit", {"resolution": "TWO_K"}, 4),
        ("img-nano-banana-pro-edit", {"resolution": "FOUR_K"}, 13),
        ("img-gpt-image-2", {"quality": "HIGH"}, 9),
        ("img-gpt-image-2", {"quality": "LOW", "resolution": "TWO_K", "count": 4}, 1),
        ("img-gpt-image-2", {"resolution": "TWO_K"}, 5),
        ("img-gpt-image-2", {"quality": "HIGH", "edits": True, "count": 2}, 17),
        ("img-gpt-image-2", {"width": 2048, "height": 2048}, 5),
    ],
)
async def test_the_price_shown_planned_reserved_and_charged_is_the_same(
    house: House, name: str, asked: dict[str, Any], price: int
) -> None:
    model = next(one for one in PRICED if one.id == name)
    count, quality, resolution = (asked.get(one) for one in ("count", "quality", "resolution"))
    size = {one: asked[one] for one in ("width", "height") if one in asked}
    async with house.story(model) as story:
        needed = await story.needed()
        if asked.get("edits"):
            needed = {"sourceImageId": (await story.samples())[0]}
        if resolution is None and not size:
            resolution = "ONE_K"
        wanted = story.input("deliver", image_count=count or 1, **needed)
        wanted["options"] |= {"quality": quality} if quality else {}
        wanted["options"] |= size
        wanted |= {"resolution": resolution} if resolution else {}
        planned = await plan(story.client, **wanted)
        scene = "IMAGE_TO_IMAGE" if needed else "TEXT_TO_IMAGE"
        shown = await story.client(
            SHOWN, id=name, scene=scene, resolution=resolution or "TWO_K", quality=quality
        )

        turn = (await start(story.client, **wanted))["turn"]
        total = price * (count or 1)
        assert await story.account() in [(STARTING, total, 1), (STARTING - total, 0, 0)]
        ended = await until_finished(story.client, turn)

        assert shown["model"]["creditsPerImage"] == price
        assert planned["credits"] == total
        assert [one["credits"] for one in planned["models"]] == [total]
        assert await spent(story.client, ended) == [("COMPLETED", 0, total)]
        assert await story.account() == (STARTING - total, 0, 0)


async def test_the_images_of_a_post_cost_what_they_would_cost_in_a_turn(house: House) -> None:
    model = next(one for one in PRICED if one.id == "img-gpt-image-2")
    async with house.story(model) as story:
        reference = (await story.samples())[0]
        wanted = story.input("deliver", image_count=2, manualReferenceIds=[reference])
        wanted["options"] |= {"quality": "HIGH"}
        wanted["captionModel"] = "local-writer"

        planned = (await story.client(PLAN_POST, input=wanted))["planPost"]
        post = await ended(story.client, await generate(story.client, **wanted))

        assert planned["userErrors"] == []
        assert planned["credits"] == 2 * 17 + CAPTION
        assert [one["creditsCharged"] for one in post["outputs"]] == [2 * 17]
        assert await story.account() == (STARTING - planned["credits"], 0, 0)


async def test_a_resolution_or_quality_that_the_model_does_not_have_has_no_price(
    house: House,
) -> None:
    client = house.darkroom.client()

    four_k = await client(SHOWN, id="img-gpt-image-2", scene="TEXT_TO_IMAGE", resolution="FOUR_K")
    high = await client(SHOWN, id="img-nano-banana-pro", scene="TEXT_TO_IMAGE", quality="HIGH")

    assert four_k["model"] == {"creditsPerImage": None, "plain": 2}
    assert high["model"] == {"creditsPerImage": None, "plain": 2}
