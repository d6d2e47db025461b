"""Every model of the catalogue at every provider that runs it: images, edits and failures.

A row that is added to the catalogue is tested here without more ado. What depends on the way of
running alone is tested with one model for each way.
"""

from collections.abc import AsyncIterator

import pytest

from domain.models import ImageModel, Scene
from tests.api.every_model import (
    EDITING,
    EDITORS,
    FROM_WORDS_ONLY,
    MODELS,
    RETIRED,
    WAYS_OF_RUNNING,
    WITH_ROOM_FOR,
    House,
    editor_of,
    error_of,
    is_shaped,
    of_each,
    open_house,
)
from tests.api.test_credits import STARTING, adds_up, spent
from tests.api.test_outputs import cancel
from tests.api.test_plans import plan
from tests.clients import Data
from tests.operations import codes, start_or_refuse
from tests.providers.vendors import VENDORS

FACTS = """query($id: ID!) { model(id: $id) {
  available unavailableReason replacement { id }
} }"""


@pytest.fixture(scope="module")
async def house(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with open_house(mongodb_uri, tmp_path_factory) as house:
        yield house
        await adds_up(house.darkroom)


@of_each(MODELS)
async def test_it_delivers_the_requested_number_of_images_in_the_requested_shape(
    house: House, model: ImageModel
) -> None:
    async with house.story(model) as story:
        ratio = max(model.aspect_ratios, key=lambda one: one.value)
        wanted = {"aspectRatio": str(ratio), **await story.needed()}
        planned = await plan(story.client, **story.input(image_count=model.max_images, **wanted))

        output = await story.made("deliver", image_count=model.max_images, **wanted)

        assert error_of(output) is None
        assert output["model"]["id"] == model.id
        assert output["provider"] == model.provider
        assert len({image["id"] for image in output["images"]}) == model.max_images
        assert is_shaped(output["images"][0], ratio, model)
        runs = model.runs_for(model.max_images)
        assert [entry.outcome for entry in story.bill] == ["delivered"] * runs
        scene = Scene.IMAGE_TO_IMAGE if model.min_references else Scene.TEXT_TO_IMAGE
        price = model.credits_per_image(scene) * model.max_images
        assert planned["credits"] == price
        assert await story.account() == (STARTING - price, 0, 0)


@of_each(EDITING)
async def test_it_edits_one_reference(house: House, model: ImageModel) -> None:
    editor = editor_of(model)
    assert editor is not None
    async with house.story(model) as story:
        output = await story.made("deliver", sourceImageId=(await story.samples())[0])

        assert error_of(output) is None
        assert (output["model"]["id"], output["requestedModelId"]) == (editor.id, model.id)
        assert len(output["images"]) == 1
        assert story.references_sent == [1]
        price = editor.credits_per_image(Scene.IMAGE_TO_IMAGE)
        assert await story.account() == (STARTING - price, 0, 0)


@of_each(WITH_ROOM_FOR)
async def test_the_source_image_is_kept_beside_manual_references(
    house: House, model: ImageModel
) -> None:
    async with house.story(model) as story:
        source, *others = await story.samples()

        planned = await plan(
            story.client, **story.input(sourceImageId=source, manualReferenceIds=others)
        )

        (promised,) = planned["models"]
        editor = editor_of(model)
        assert editor is not None
        given = [one["image"]["id"] for one in promised["references"]]
        assert given == [source, *others][: editor.max_references]


@of_each(EDITORS)
async def test_references_beyond_its_limit_are_dropped_as_planned(
    house: House, model: ImageModel
) -> None:
    editor = editor_of(model)
    assert editor is not None
    gallery = await house.gallery()
    async with house.story(model, viewer=gallery.viewer) as story:
        ratio = min(editor.aspect_ratios, key=lambda one: one.value)
        wanted: Data = {
            "aspectRatio": str(ratio),
            "previousOutputIds": gallery.output_ids[: editor.max_references + 1],
        }
        planned = await plan(
            story.client, **story.input(**wanted), conversationId=gallery.conversation_id
        )

        async with gallery.sending:
            turn = await story.send(gallery.conversation_id, **wanted)
        output = await story.end_of(turn)

        (promised,) = planned["models"]
        given, dropped = promised["references"], promised["droppedReferences"]
        assert error_of(output) is None
        assert len(planned["references"]) == editor.max_references + 1
        assert (len(given), len(dropped)) == (editor.max_references, 1)
        assert [one["image"] for one in output["references"]] == [one["image"] for one in given]
        assert story.references_sent == [editor.max_references]
        assert is_shaped(output["images"][0], ratio, editor)
        price = editor.credits_per_image(Scene.IMAGE_TO_IMAGE)
        assert promised["credits"] == price
        assert await spent(story.client, turn) == [("COMPLETED", 0, price)]


@of_each(FROM_WORDS_ONLY)
async def test_a_model_that_cannot_edit_refuses_before_any_request(
    house: House, model: ImageModel
) -> None:
    async with house.story(model) as story:
        source = (await story.samples())[0]

        refused = await start_or_refuse(story.client, **story.input(sourceImageId=source))

        assert codes(refused) == [("MODEL_CANNOT_EDIT", "selectedModels.0")]
        assert story.bill == []
        assert await story.account() == (STARTING, 0, 0)


@of_each(WAYS_OF_RUNNING)
async def test_a_refusal_of_its_provider_is_final_and_costs_nothing(
    house: House, model: ImageModel
) -> None:
    async with house.story(model) as story:
        script = VENDORS[model.provider].refusal

        output = await story.made(script, **await story.needed())

        assert error_of(output) == ("CONTENT_REFUSED", False)
        assert output["images"] == []
        assert len(story.bill) == 1
        assert await story.account() == (STARTING, 0, 0)


@of_each(WAYS_OF_RUNNING, ahead=16)
async def test_a_provider_that_is_unavailable_for_a_moment_is_retried_within_the_attempt(
    house: House, model: ImageModel
) -> None:
    async with house.story(model) as story:
        count = min(2, model.max_images)

        output = await story.made("submit=503x1", image_count=count, **await story.needed())

        assert error_of(output) is None
        assert (output["attempt"], len(output["images"])) == (1, count)
        runs = model.runs_for(count)
        assert [entry.outcome for entry in story.bill] == ["delivered"] * runs
        assert story.times_asked() == runs + 1


@of_each(WAYS_OF_RUNNING, ahead=16)
async def test_a_cancelled_output_ends_at_once_and_its_jobs_are_cancelled_if_possible(
    house: House, model: ImageModel
) -> None:
    can_cancel = VENDORS[model.provider].can_cancel
    async with house.story(model) as story:
        count = min(2, model.max_images)
        turn = await story.start(
            # Otherwise it runs for longer than a busy machine takes to cancel it.
            "hang=running" if can_cancel else "seconds=15",
            image_count=count,
            **await story.needed(),
        )
        await story.until(lambda: len(story.bill) == model.runs_for(count))

        cancelled = await cancel(story.client, turn["outputs"][0]["id"])

        assert cancelled["output"]["status"] == "CANCELLED"
        assert not any(entry.outcome for entry in story.bill)
        assert await story.account() == (STARTING, 0, 0)
        await story.until(lambda: all(entry.outcome for entry in story.bill))
        end = "cancelled" if can_cancel else "delivered"
        assert {entry.outcome for entry in story.bill} == {end}
        output = await story.end_of(turn)
        assert (output["status"], output["images"]) == ("CANCELLED", [])
        assert await story.account() == (STARTING, 0, 0)


@of_each(RETIRED)
async def test_a_retired_model_is_refused_and_names_its_replacement(
    house: House, model: ImageModel
) -> None:
    client = house.darkroom.client()

    shown = (await client(FACTS, id=model.id))["model"]
    refused = await start_or_refuse(client, selectedModels=[model.id])

    assert shown == {
        "available": False,
        "unavailableReason": "RETIRED",
        "replacement": {"id": model.replacement_id},
    }
    assert codes(refused) == [("MODEL_RETIRED", "selectedModels.0")]
    assert f"({model.replacement_id}) instead" in refused["userErrors"][0]["message"]
