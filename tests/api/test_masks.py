"""Masks of edits: where the base may change, which masks are refused, and drift."""

from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from tests.api.every_model import Simulated
from tests.api.test_branches import rerun
from tests.api.test_deleting_viewer import database_of
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom, darkrooms
from tests.operations import (
    DELETE,
    DELETE_IMAGE,
    SMALL,
    codes,
    conversation_with,
    send_or_refuse,
    start_or_refuse,
    until_finished,
)
from tests.storage.pictures import a_picture as gradient
from tests.storage.pictures import encoded
from tests.uploads import create, declared, uploaded

SIZE = (240, 160)
TURN = """query($id: ID!) { node(id: $id) { ... on Turn {
  aspectRatio
  options { mask { id } feather keepOutside }
  outputs {
    status drift { changed outsideMask } error { code }
    images { id url width height contentType provenance { digitalSourceType } }
  }
} } }"""
PLAN = """query($input: PlanTurnInput!) {
  planTurn(input: $input) { credits userErrors { code message path } }
}"""
SUPPORTS = """query($id: ID!) { model(id: $id) { supportsMasks } }"""
RETRY = """mutation($id: ID!, $model: ID) {
  retryOutput(input: {outputId: $id, modelId: $model}) {
    turn { id } output { attempt } userErrors { code path }
  }
}"""


def a_mask(size: tuple[int, int] = SIZE) -> bytes:
    """The middle may change."""
    mask = Image.new("L", size)
    width, height = size
    box = (width // 3, height // 3, 2 * width // 3, 2 * height // 3)
    ImageDraw.Draw(mask).rectangle(box, fill=255)
    return encoded(mask)


async def source_of(client: GraphQLClient) -> Data:
    return await uploaded(client, encoded(gradient(*SIZE)))


async def masked(client: GraphQLClient, **input: Any) -> Data:
    """A first turn, finished, that edits the middle of an upload, as its node."""
    source = await source_of(client)
    mask = await uploaded(client, a_mask())
    mask_input = {"imageId": mask["id"], **input.pop("mask", {})}
    given = {"sourceImageId": source["id"], "userMessage": "Invert", "mask": mask_input}
    done = await conversation_with(client, **given, **input)
    turn: Data = (await client(TURN, id=done["turn"]["id"]))["node"]
    return {**turn, "id": done["turn"]["id"], "mask_id": mask["id"], "source": source}


async def pixels(client: GraphQLClient, image: Data) -> Any:
    response = await client.http.get(image["url"])
    return np.asarray(Image.open(BytesIO(response.content)).convert("RGB"), np.int16)


@pytest.mark.parametrize("asked", [{}, {"aspectRatio": "1:1"}], ids=("the mask's", "another"))
async def test_a_rerun_keeps_the_mask_and_the_aspect_ratio(
    client: GraphQLClient, asked: Data
) -> None:
    first = await masked(client, options={}, **asked)

    again = await rerun(client, first["id"])

    second = (await client(TURN, id=again["turn"]["id"]))["node"]
    assert second["aspectRatio"] == first["aspectRatio"] == asked.get("aspectRatio", "3:2")
    assert second["options"] == first["options"]
    assert second["options"]["mask"]["id"] == first["mask_id"]


@pytest.mark.parametrize("feather", [0, 12])
@pytest.mark.parametrize("image_format", [None, "JPEG", "WEBP"])
async def test_pixels_outside_the_mask_stay_unchanged(
    client: GraphQLClient, image_format: str | None, feather: int
) -> None:
    turn = await masked(
        client, mask={"feather": feather}, options={**SMALL, "format": image_format}
    )

    [output] = turn["outputs"]
    [image] = output["images"]
    assert (image["width"], image["height"]) == SIZE
    assert image["contentType"] == ("image/webp" if image_format == "WEBP" else "image/png")
    assert image["provenance"] == {"digitalSourceType": "COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA"}
    before, after = await pixels(client, turn["source"]), await pixels(client, image)
    mask = Image.open(BytesIO(a_mask()))
    inside = np.asarray(mask) > 0
    near = np.asarray(mask.filter(ImageFilter.MaxFilter(2 * feather + 1))) > 0
    assert (before[~near] == after[~near]).all()
    assert np.abs(before[inside] - after[inside]).mean() > 25
    # The model has inverted all of it.
    assert output["drift"]["changed"] > 0.7
    assert 0.5 < output["drift"]["outsideMask"] < output["drift"]["changed"]
    assert turn["options"] == {
        "mask": {"id": turn["mask_id"]},
        "feather": feather,
        "keepOutside": True,
    }
    assert turn["aspectRatio"] == "3:2"


async def test_pixels_outside_the_mask_are_restored_for_a_model_without_mask_support(
    client: GraphQLClient,
) -> None:
    turn = await masked(client, mask={"keepOutside": False})

    before = await pixels(client, turn["source"])
    after = await pixels(client, turn["outputs"][0]["images"][0])
    outside = np.asarray(Image.open(BytesIO(a_mask()))) == 0
    assert (before[outside] == after[outside]).all()
    assert turn["options"]["keepOutside"] is False


@pytest.fixture(scope="module")
async def remote(
    mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory, providers: Simulated
) -> AsyncIterator[tuple[Darkroom, Simulated]]:
    """A Darkroom with keys of all providers."""
    async with darkrooms(mongodb_uri, tmp_path_factory.mktemp("masks")) as start_one:
        yield await start_one(**providers[1]), providers


@pytest.mark.parametrize("keep_outside", [True, False])
async def test_a_model_with_mask_support_receives_the_mask_and_can_be_trusted(
    remote: tuple[Darkroom, Simulated], keep_outside: bool
) -> None:
    darkroom, (simulators, _) = remote
    client = darkroom.client()

    turn = await masked(
        client,
        selectedModels=["img-gpt-image-2"],
        options={"previews": 0},
        mask={"keepOutside": keep_outside},
    )

    given = simulators["openai"].settled()[-1].payload["mask"]
    assert given == "mask.png image/png RGBA as the image"
    [output] = turn["outputs"]
    [image] = output["images"]
    assert ((image["width"], image["height"]) == SIZE) == keep_outside
    assert 0 <= output["drift"]["outsideMask"] <= output["drift"]["changed"] <= 1


async def test_each_image_of_each_model_is_masked(client: GraphQLClient) -> None:
    turn = await masked(
        client,
        selectedModels=["local-silver", "local-ink"],
        options={**SMALL, "imagesPerModel": 2},
    )

    before = await pixels(client, turn["source"])
    outside = np.asarray(Image.open(BytesIO(a_mask()))) == 0
    images = [image for output in turn["outputs"] for image in output["images"]]
    assert len(images) == 4
    for image in images:
        assert (before[outside] == (await pixels(client, image))[outside]).all()


async def test_drift_is_measured_without_a_mask_and_absent_without_a_base(
    client: GraphQLClient,
) -> None:
    made = await conversation_with(client)
    sent = await send_or_refuse(client, made["conversation"]["id"], userMessage="Invert")
    edited = await until_finished(client, sent["turn"])

    first = (await client(TURN, id=made["turn"]["id"]))["node"]
    second = (await client(TURN, id=edited["id"]))["node"]

    assert first["outputs"][0]["drift"] is None
    assert second["outputs"][0]["drift"]["outsideMask"] is None
    assert second["outputs"][0]["drift"]["changed"] > 0.5
    assert second["options"] == {"mask": None, "feather": None, "keepOutside": None}


async def test_an_edit_can_continue_from_a_masked_edit(client: GraphQLClient) -> None:
    turn = await masked(client)
    mask = await uploaded(client, a_mask((120, 80)))

    sent = await send_or_refuse(
        client, "conv_" + turn["id"].split("_")[1], mask={"imageId": mask["id"]}
    )

    edited = await until_finished(client, sent["turn"])
    assert edited["status"] == "COMPLETED"
    assert edited["options"]["format"] is None


@pytest.mark.parametrize(
    ("size", "fits"),
    [
        ((480, 320), True),
        ((120, 80), True),
        ((100, 67), True),  # rounded
        ((100, 66), True),
        ((160, 240), False),
        ((240, 240), False),
        ((240, 150), False),
        ((16, 16), False),
    ],
)
async def test_a_mask_must_have_the_shape_of_its_base(
    client: GraphQLClient, size: tuple[int, int], fits: bool
) -> None:
    source, mask = await source_of(client), await uploaded(client, a_mask(size))
    given = {
        "userMessage": "Invert",
        "sourceImageId": source["id"],
        "selectedModels": ["local-silver"],
        "mask": {"imageId": mask["id"]},
    }

    plan = (await client(PLAN, input=given))["planTurn"]
    payload = await start_or_refuse(client, **given)

    expected = [] if fits else [("MASK_INVALID", "mask.imageId")]
    assert codes(plan) == codes(payload) == expected


@pytest.mark.parametrize("feather", [-1, 501, 2**31 - 1, 10**12])
async def test_a_feather_has_a_maximum(client: GraphQLClient, feather: int) -> None:
    source, mask = await source_of(client), await uploaded(client, a_mask())

    payload = await start_or_refuse(
        client, sourceImageId=source["id"], mask={"imageId": mask["id"], "feather": feather}
    )

    assert codes(payload) == [("MASK_INVALID", "mask.feather")]


async def test_a_mask_needs_an_image_to_edit(client: GraphQLClient) -> None:
    mask = await uploaded(client, a_mask())

    payload = await start_or_refuse(client, mask={"imageId": mask["id"]})

    assert codes(payload) == [("UNSUPPORTED_MASK", "mask.imageId")]


async def test_a_mask_must_be_an_image_of_the_viewer(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    source = await source_of(client)
    others = await uploaded(darkroom.client(), a_mask())
    data = a_mask()
    [upload] = await create(client, declared(data))

    for image_id, code in (
        (others["id"], "NOT_FOUND"),
        ("img_nothing", "NOT_FOUND"),
        (upload["id"], "REFERENCE_NOT_READY"),
    ):
        payload = await start_or_refuse(
            client, sourceImageId=source["id"], mask={"imageId": image_id}
        )
        assert codes(payload) == [(code, "mask.imageId")]


async def test_a_mask_in_use_cannot_be_deleted(client: GraphQLClient) -> None:
    turn = await masked(client)

    refused = (await client(DELETE_IMAGE, id=turn["mask_id"]))["deleteImage"]
    await client(DELETE, id="conv_" + turn["id"].split("_")[1])
    deleted = (await client(DELETE_IMAGE, id=turn["mask_id"]))["deleteImage"]

    assert codes(refused) == [("IMAGE_IN_USE", "imageId")]
    assert deleted["deletedImageId"] == turn["mask_id"]


async def test_an_idempotency_key_with_another_mask_is_refused(client: GraphQLClient) -> None:
    source = await source_of(client)
    one, other = await uploaded(client, a_mask()), await uploaded(client, a_mask())
    given = {"sourceImageId": source["id"], "idempotencyKey": "the same"}

    first = await start_or_refuse(client, **given, mask={"imageId": one["id"]})
    again = await start_or_refuse(client, **given, mask={"imageId": one["id"], "feather": 0})
    changed = await start_or_refuse(client, **given, mask={"imageId": other["id"]})

    assert first["turn"]["id"] == again["turn"]["id"]
    assert [code for code, _ in codes(changed)] == ["IDEMPOTENCY_KEY_REUSED"]


async def test_a_retry_with_another_model_keeps_the_mask(client: GraphQLClient) -> None:
    source, mask = await source_of(client), await uploaded(client, a_mask())
    failed = await conversation_with(
        client,
        sourceImageId=source["id"],
        mask={"imageId": mask["id"]},
        selectedModels=["rehearsal-fails"],
    )
    [output] = failed["turn"]["outputs"]

    retried = (await client(RETRY, id=output["id"], model="local-ink"))["retryOutput"]
    await until_finished(client, failed["turn"] | retried["turn"])

    turn = (await client(TURN, id=failed["turn"]["id"]))["node"]
    before = await pixels(client, source)
    after = await pixels(client, turn["outputs"][0]["images"][0])
    outside = np.asarray(Image.open(BytesIO(a_mask()))) == 0
    assert (before[outside] == after[outside]).all()


async def test_turns_of_earlier_releases_have_no_mask_and_no_drift(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    made = await conversation_with(client)
    async with database_of(darkroom) as database:
        await database.turns.update_one(
            {"_id": made["turn"]["id"]},
            {
                "$unset": {
                    "options.mask": 1,
                    "options.feather": 1,
                    "options.keepOutside": 1,
                    "outputs.0.drift": 1,
                }
            },
        )

    turn = (await client(TURN, id=made["turn"]["id"]))["node"]

    assert turn["options"] == {"mask": None, "feather": None, "keepOutside": None}
    assert turn["outputs"][0]["drift"] is None


@pytest.mark.parametrize(
    ("model", "supports"),
    [
        ("img-gpt-image-2", True),
        ("img-gpt-image-1-5-edit", True),
        ("img-gpt-image-1-5", False),
        ("img-nano-banana-edit", False),
        ("local-silver", False),
    ],
)
async def test_models_say_whether_they_support_masks(
    client: GraphQLClient, model: str, supports: bool
) -> None:
    assert (await client(SUPPORTS, id=model))["model"] == {"supportsMasks": supports}
