"""`planTurn`: the cost and the references of a turn, calculated without starting it."""

from typing import Any

from tests.clients import Data, GraphQLClient
from tests.operations import SMALL, a_sample, conversation_with, send, start_or_refuse

PLAN = """
query Plan($input: PlanTurnInput!) {
  planTurn(input: $input) {
    credits
    references { origin image { id } }
    models {
      model { id } requestedModelId credits
      references { image { id } } droppedReferences { image { id } }
    }
    userErrors { code message path }
  }
}
"""


async def plan(client: GraphQLClient, **input: Any) -> Data:
    wanted = {"userMessage": "A boat", "selectedModels": ["local-silver"], "options": SMALL}
    planned: Data = (await client(PLAN, input={**wanted, **input}))["planTurn"]
    return planned


async def test_a_plan_returns_the_cost_and_changes_nothing(
    client: GraphQLClient,
) -> None:
    planned = await plan(
        client,
        selectedModels=["local-silver", "local-ink"],
        options={**SMALL, "imagesPerModel": 3},
    )

    assert planned["userErrors"] == []
    assert planned["credits"] == 12
    assert [(one["model"]["id"], one["credits"]) for one in planned["models"]] == [
        ("local-silver", 6),
        ("local-ink", 6),
    ]
    data = await client("{ viewer { credits { reserved } conversations { nodes { id } } } }")
    assert data["viewer"] == {"credits": {"reserved": 0}, "conversations": {"nodes": []}}


async def test_an_edit_does_what_its_plan_returned(client: GraphQLClient) -> None:
    models = ["local-silver", "local-ink"]
    done = await conversation_with(client, selectedModels=models)
    conversation_id = done["conversation"]["id"]
    sample = await a_sample(client)
    edit = {"userMessage": "Sepia", "manualReferenceIds": [sample["id"]]}

    planned = await plan(client, conversationId=conversation_id, selectedModels=None, **edit)
    sent = await send(client, conversation_id, **edit)

    turn = sent["turn"]
    assert planned["credits"] == 8
    assert planned["references"] == turn["references"]
    assert [one["requestedModelId"] for one in planned["models"]] == models
    assert [[r["image"]["id"] for r in one["references"]] for one in planned["models"]] == [
        [r["image"]["id"] for r in output["references"]] for output in turn["outputs"]
    ]


async def test_a_plan_returns_all_user_errors_of_the_mutation(client: GraphQLClient) -> None:
    wrong = {"userMessage": " ", "selectedModels": ["nobody", "local-silver"]}

    planned = await plan(client, **wrong)
    refused = await start_or_refuse(client, **wrong)

    assert planned["userErrors"] == refused["userErrors"]
    assert len(planned["userErrors"]) == 2
    assert [one["model"]["id"] for one in planned["models"]] == ["local-silver"]


async def test_a_plan_for_a_foreign_conversation_is_not_found(client: GraphQLClient) -> None:
    planned = await plan(client, conversationId="conv_00000000000000000000000000")

    (error,) = planned["userErrors"]
    assert (error["code"], error["path"]) == ("NOT_FOUND", ["input", "conversationId"])


async def test_a_model_returns_its_price_for_given_options(client: GraphQLClient) -> None:
    data = await client(
        """{ model(id: "local-silver") {
          words: creditsPerImage(scene: TEXT_TO_IMAGE) edits: creditsPerImage(scene: IMAGE_TO_IMAGE)
        } }"""
    )

    assert data["model"] == {"words": 2, "edits": 4}
