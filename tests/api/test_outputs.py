"""Outputs through the API: retry, also with another model, and cancel."""

from typing import Any

from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom
from tests.operations import (
    FOLLOW,
    GALLERY,
    TURN,
    codes,
    conversation_with,
    send,
    start,
    until_finished,
)

RETRY = (
    """
mutation Retry($input: RetryOutputInput!) {
  retryOutput(input: $input) {
    cursor userErrors { code message path } output { id attempt status } turn { ...Turn }
  }
}
"""
    + TURN
)
CANCEL = (
    """
mutation Cancel($id: ID!) {
  cancelOutput(input: {outputId: $id}) {
    userErrors { code message path } output { id status } turn { ...Turn }
  }
}
"""
    + TURN
)
CANCEL_TURN = (
    """
mutation CancelTurn($id: ID!) {
  cancelTurn(input: {turnId: $id}) { userErrors { code message path } turn { ...Turn } }
}
"""
    + TURN
)
UNKNOWN = "out_00000000000000000000000000_0000_1"


async def retry(client: GraphQLClient, output: Data, **input: Any) -> Data:
    data = await client(RETRY, input={"outputId": output["id"], **input})
    payload: Data = data["retryOutput"]
    return payload


async def cancel(client: GraphQLClient, output_id: str) -> Data:
    payload: Data = (await client(CANCEL, id=output_id))["cancelOutput"]
    return payload


async def test_a_failed_output_is_retried_in_its_slot(client: GraphQLClient) -> None:
    done = await conversation_with(client, selectedModels=["local-ink", "rehearsal-fails-once"])
    sibling, failed = done["turn"]["outputs"]

    payload = await retry(client, failed)

    assert payload["output"] == {"id": failed["id"], "attempt": 2, "status": "QUEUED"}
    turn = payload["turn"]
    assert (turn["status"], turn["completedAt"]) == ("GENERATING", None)
    assert turn["pendingModels"] == [{"id": "rehearsal-fails-once"}]
    assert turn["outputs"][1]["error"] is turn["outputs"][1]["startedAt"] is None
    finished = await until_finished(client, turn)
    assert [output["status"] for output in finished["outputs"]] == ["COMPLETED", "COMPLETED"]
    assert finished["outputs"][0] == sibling
    assert finished["outputs"][1]["attempt"] == 2


async def test_a_subscriber_that_saw_the_end_receives_the_retry(client: GraphQLClient) -> None:
    done = await conversation_with(client, selectedModels=["rehearsal-fails-once"])
    async with client.subscribe(FOLLOW, id=done["conversation"]["id"]) as updates:
        assert (await updates.next())["turnUpdated"]["turn"]["status"] == "FAILED"

        await retry(client, done["turn"]["outputs"][0])

        seen = await updates.until(
            lambda data: data["turnUpdated"]["turn"]["status"] == "COMPLETED"
        )
    ranks = [one["turnUpdated"]["turn"]["outputs"][0] for one in seen]
    assert {output["attempt"] for output in ranks} == {2}


async def test_another_model_can_retry_a_failed_output(client: GraphQLClient) -> None:
    done = await conversation_with(client, selectedModels=["rehearsal-fails"])

    payload = await retry(client, done["turn"]["outputs"][0], modelId="local-ink")

    finished = await until_finished(client, payload["turn"])
    output = finished["outputs"][0]
    assert (output["model"]["id"], output["requestedModelId"]) == ("local-ink", "local-ink")
    assert output["status"] == finished["status"] == "COMPLETED"


async def test_an_output_that_cannot_be_retried_is_refused(client: GraphQLClient) -> None:
    done = await conversation_with(client, selectedModels=["local-ink", "rehearsal-fails"])
    landed, failed = done["turn"]["outputs"]
    working = (await send(client, done["conversation"]["id"], selectedModels=["rehearsal-hangs"]))[
        "turn"
    ]["outputs"][0]

    refused = [
        codes(await retry(client, landed)),
        codes(await retry(client, working)),
        codes(await retry(client, failed, modelId="local-ink")),
        codes(await retry(client, failed, modelId="nothing")),
        codes(await retry(client, {"id": UNKNOWN})),
        codes(await retry(client, {"id": "nonsense"})),
    ]

    assert refused == [
        [("NOT_RETRYABLE", "outputId")],
        [("NOT_RETRYABLE", "outputId")],
        [("DUPLICATE_MODEL", "modelId")],
        [("UNKNOWN_MODEL", "modelId")],
        [("NOT_FOUND", "outputId")],
        [("NOT_FOUND", "outputId")],
    ]


async def test_cancelling_an_output_does_not_affect_its_siblings(client: GraphQLClient) -> None:
    payload = await start(client, selectedModels=["rehearsal-slow", "local-silver"])
    slow = payload["turn"]["outputs"][0]

    cancelled = await cancel(client, slow["id"])

    assert cancelled["output"] == {"id": slow["id"], "status": "CANCELLED"}
    finished = await until_finished(client, payload["turn"])
    assert [output["status"] for output in finished["outputs"]] == ["CANCELLED", "COMPLETED"]
    assert finished["status"] == "COMPLETED"
    images = (await client(GALLERY, origin="OUTPUT"))["viewer"]["images"]["nodes"]
    assert [image["id"] for image in images] == [finished["outputs"][1]["image"]["id"]]


async def test_a_cancelled_output_can_be_retried(client: GraphQLClient) -> None:
    payload = await start(client, selectedModels=["rehearsal-slow"])
    output = payload["turn"]["outputs"][0]
    cancelled = await cancel(client, output["id"])
    assert cancelled["turn"]["status"] == "CANCELLED"

    again = await retry(client, output, modelId="local-silver")

    assert (await until_finished(client, again["turn"]))["status"] == "COMPLETED"


async def test_cancelling_a_turn_keeps_delivered_images(client: GraphQLClient) -> None:
    payload = await start(
        client, selectedModels=["local-silver", "rehearsal-slow", "rehearsal-hangs"]
    )
    async with client.subscribe(FOLLOW, id=payload["conversation"]["id"]) as updates:
        await updates.until(
            lambda data: data["turnUpdated"]["turn"]["outputs"][0]["status"] == "COMPLETED"
        )

    turn = (await client(CANCEL_TURN, id=payload["turn"]["id"]))["cancelTurn"]["turn"]

    statuses = [output["status"] for output in turn["outputs"]]
    assert statuses == ["COMPLETED", "CANCELLED", "CANCELLED"]
    assert (turn["status"], turn["pendingModels"]) == ("COMPLETED", [])
    again = (await client(CANCEL_TURN, id=turn["id"]))["cancelTurn"]
    assert codes(again) == [("NOT_CANCELLABLE", "turnId")]
    assert codes(await cancel(client, turn["outputs"][0]["id"])) == [
        ("NOT_CANCELLABLE", "outputId")
    ]


async def test_a_turn_whose_outputs_were_all_cancelled_is_cancelled(client: GraphQLClient) -> None:
    payload = await start(client, selectedModels=["rehearsal-slow", "rehearsal-hangs"])

    turn = (await client(CANCEL_TURN, id=payload["turn"]["id"]))["cancelTurn"]["turn"]

    assert (turn["status"], turn["error"]) == ("CANCELLED", None)
    assert turn["completedAt"] is not None


async def test_only_the_owner_can_retry_and_cancel(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    payload = await start(client, selectedModels=["rehearsal-hangs"])
    turn = payload["turn"]
    other = darkroom.client()

    refused = [
        codes(await retry(other, turn["outputs"][0])),
        codes(await cancel(other, turn["outputs"][0]["id"])),
        codes((await other(CANCEL_TURN, id=turn["id"]))["cancelTurn"]),
    ]

    assert refused == [
        [("NOT_FOUND", "outputId")],
        [("NOT_FOUND", "outputId")],
        [("NOT_FOUND", "turnId")],
    ]
