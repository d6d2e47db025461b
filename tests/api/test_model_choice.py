"""The models of a turn that selects none: defaults, inherited models and replacements."""

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from app import create_app
from settings import SettingsError
from tests.api.test_models import MODELS
from tests.api.test_outputs import retry
from tests.api.test_plans import plan
from tests.clients import Data, GraphQLClient
from tests.conftest import StartDarkroom
from tests.operations import SMALL, codes, conversation_with, send_or_refuse, start, until_finished

FAL = {"fal": {"key": SecretStr("never-used")}}


async def planned_models(client: GraphQLClient, **input: object) -> list[tuple[str, int]]:
    planned = await plan(client, selectedModels=None, options={}, **input)
    assert planned["userErrors"] == []
    return [(one["model"]["id"], one["credits"]) for one in planned["models"]]


async def test_the_default_model_is_a_remote_one_if_its_provider_has_a_key(
    start_darkroom: StartDarkroom,
) -> None:
    client = (await start_darkroom(**FAL)).client()

    models = (await client(MODELS))["models"]

    defaults = [model["id"] for model in models if model["isDefault"]]
    assert defaults == ["img-nano-banana", "img-nano-banana-edit"]
    assert await planned_models(client) == [("img-nano-banana", 2)]


async def test_a_key_that_enables_no_model_is_logged_at_startup(
    start_darkroom: StartDarkroom,
) -> None:
    with capture_logs() as logs:
        await start_darkroom(**FAL, wavespeed={"key": SecretStr("never-used")})

    assert [line["provider"] for line in logs if line["event"] == "no model uses this key"] == [
        "wavespeed"
    ]
    assert [line["model"] for line in logs if line["event"] == "default model"] == [
        "img-nano-banana",
        "img-nano-banana-edit",
        "local-writer",
    ]


async def test_the_operator_can_set_the_defaults(start_darkroom: StartDarkroom) -> None:
    named = await start_darkroom(**FAL, default_models=("img-kling-o1", "local-ink"))

    data = await named.client()(
        """{ models { id
          text: isDefault(scene: TEXT_TO_IMAGE) edits: isDefault(scene: IMAGE_TO_IMAGE)
        } }"""
    )

    assert [one["id"] for one in data["models"] if one["text"]] == ["local-ink"]
    assert [one["id"] for one in data["models"] if one["edits"]] == ["img-kling-o1"]
    with pytest.raises(SettingsError, match="DARKROOM_DEFAULT_MODELS: There is no model img-none"):
        create_app(named.settings.model_copy(update={"default_models": ("img-none",)}))


async def test_a_switched_off_model_is_replaced_by_one_that_costs_no_more(
    start_darkroom: StartDarkroom,
) -> None:
    before = await start_darkroom()
    done = await conversation_with(before.client("ana"))
    conversation_id = done["conversation"]["id"]

    with_key = (await start_darkroom(**FAL, local_models=False)).client("ana")
    without = (await start_darkroom(local_models=False)).client("ana")

    assert await planned_models(with_key, conversationId=conversation_id) == [
        ("img-nano-banana-edit", 4)
    ]
    (error,) = (await send_or_refuse(without, conversation_id))["userErrors"]
    assert (error["code"], error["path"]) == ("MODEL_UNAVAILABLE", ["input", "selectedModels"])
    assert error["message"] == "Silver is not available any more. Select another model."
    silver = (await without('{ model(id: "local-silver") { label listed unavailableReason } }'))[
        "model"
    ]
    assert silver == {"label": "Silver", "listed": False, "unavailableReason": "SWITCHED_OFF"}
    refused = await send_or_refuse(without, conversation_id, selectedModels=["local-silver"])
    assert [code for code, _ in codes(refused)] == ["MODEL_UNAVAILABLE"]


async def test_the_next_turn_inherits_the_model_of_a_retry(client: GraphQLClient) -> None:
    models = ["rehearsal-fails", "local-silver"]
    payload = await start(client, selectedModels=models, options=SMALL)
    turn = await until_finished(client, payload["turn"])
    failed = next(one for one in turn["outputs"] if one["status"] == "FAILED")
    await until_finished(client, (await retry(client, failed, modelId="local-ink"))["turn"])

    conversation_id = payload["conversation"]["id"]
    inherited = await planned_models(client, conversationId=conversation_id)
    sent: Data = await send_or_refuse(client, conversation_id, options=SMALL)

    assert [name for name, _ in inherited] == ["local-ink", "local-silver"]
    assert [one["id"] for one in sent["turn"]["selectedModels"]] == ["local-ink", "local-silver"]
