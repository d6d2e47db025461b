"""Turns through the API: start the next one, references, branching, how outputs end."""

import asyncio
import base64

import pytest

from tests.api.test_plans import plan
from tests.clients import GraphQLClient
from tests.operations import (
    SMALL,
    TURN,
    a_sample,
    codes,
    conversation_with,
    followed,
    samples,
    send,
    send_or_refuse,
    start,
    until_finished,
)

READ = "query Read($id: ID!) { turn(id: $id) { ...Turn conversation { id turnCount } } }" + TURN


def origins(turn: dict[str, list[dict[str, object]]]) -> list[object]:
    return [reference["origin"] for reference in turn["references"]]


async def test_outputs_of_the_previous_turn_are_the_references_of_the_next(
    client: GraphQLClient,
) -> None:
    first = await conversation_with(client, selectedModels=["local-silver", "local-ink"])
    images = [output["image"]["id"] for output in first["turn"]["outputs"]]
    sample = await a_sample(client)

    sent = await send(client, first["conversation"]["id"], manualReferenceIds=[sample["id"]])

    turn = sent["turn"]
    assert turn["turnIndex"] == 1
    assert turn["selectedModels"] == first["turn"]["selectedModels"]
    assert origins(turn) == ["PREVIOUS_TURN", "PREVIOUS_TURN", "MANUAL"]
    assert [one["image"]["id"] for one in turn["references"]] == [*images, sample["id"]]
    finished = await until_finished(client, turn)
    made_from = await client(
        "query($id: ID!) { image(id: $id) { prompt madeFrom { id } turn { id } output { id } } }",
        id=finished["outputs"][0]["image"]["id"],
    )
    assert made_from["image"] == {
        "prompt": "Sepia",
        "madeFrom": [{"id": one} for one in [*images, sample["id"]]],
        "turn": {"id": turn["id"]},
        "output": {"id": turn["outputs"][0]["id"]},
    }


async def test_each_model_edits_its_own_image_with_any_number_of_references(
    client: GraphQLClient,
) -> None:
    models = ["local-silver", "local-ink"]
    first = await conversation_with(
        client, selectedModels=models, options={**SMALL, "imagesPerModel": 4}
    )
    outputs = first["turn"]["outputs"]
    made = [image["id"] for output in outputs for image in output["images"]]
    manual = [*made[1:4], *made[5:], *[one["id"] for one in await samples(client)]][:10]
    assert len(manual) == 10
    images = [output["image"]["id"] for output in outputs]
    edit = {"manualReferenceIds": manual, "userMessage": "Put @Image12 into it"}

    planned = await plan(
        client, conversationId=first["conversation"]["id"], selectedModels=models, **edit
    )
    sent = await send(client, first["conversation"]["id"], **edit)

    for own, other, promised, output in zip(
        images, reversed(images), planned["models"], sent["turn"]["outputs"], strict=True
    ):
        given = [one["image"]["id"] for one in output["references"]]
        assert given == [own, *manual[:8], manual[9]]
        assert [one["image"]["id"] for one in promised["references"]] == given
        dropped = [one["image"]["id"] for one in promised["droppedReferences"]]
        assert dropped == [other, manual[8]]


async def test_after_a_failed_turn_images_of_an_earlier_turn_are_the_references(
    client: GraphQLClient,
) -> None:
    first = await conversation_with(client)
    conversation_id = first["conversation"]["id"]
    failed = await send(client, conversation_id, selectedModels=["rehearsal-fails"])
    assert (await until_finished(client, failed["turn"]))["status"] == "FAILED"

    third = (await send(client, conversation_id, selectedModels=["local-ink"]))["turn"]

    assert [one["image"]["id"] for one in third["references"]] == [
        first["turn"]["outputs"][0]["image"]["id"]
    ]


async def test_without_any_delivered_image_the_source_is_the_reference_again(
    client: GraphQLClient,
) -> None:
    sample = await a_sample(client)
    first = await conversation_with(
        client, sourceImageId=sample["id"], selectedModels=["rehearsal-refuses"]
    )
    assert first["turn"]["status"] == "FAILED"

    turn = (await send(client, first["conversation"]["id"], selectedModels=["local-ink"]))["turn"]

    assert turn["references"] == [{"origin": "SOURCE", "image": {"id": sample["id"]}}]


async def test_an_edit_can_branch_off_from_any_earlier_output(client: GraphQLClient) -> None:
    first = await conversation_with(client, selectedModels=["local-silver", "local-ink"])
    conversation_id, outputs = first["conversation"]["id"], first["turn"]["outputs"]
    await until_finished(client, (await send(client, conversation_id))["turn"])

    branch = (await send(client, conversation_id, previousOutputIds=[outputs[1]["id"]]))["turn"]
    bare = (await send(client, conversation_id, previousOutputIds=[]))["turn"]

    assert [one["image"]["id"] for one in branch["references"]] == [outputs[1]["image"]["id"]]
    assert bare["references"] == []
    assert branch["turnIndex"] == 2
    assert bare["turnIndex"] == 3


async def test_outputs_that_cannot_be_references_are_refused_by_position(
    client: GraphQLClient,
) -> None:
    elsewhere = (await conversation_with(client))["turn"]["outputs"][0]["id"]
    mixed = await conversation_with(client, selectedModels=["rehearsal-fails", "local-ink"])
    failed, landed = (output["id"] for output in mixed["turn"]["outputs"])
    conversation_id = mixed["conversation"]["id"]
    working = (await send(client, conversation_id, selectedModels=["rehearsal-hangs"]))["turn"]

    payload = await send_or_refuse(
        client,
        conversation_id,
        previousOutputIds=[landed, failed, elsewhere, working["outputs"][0]["id"], "nonsense"],
    )

    assert codes(payload) == [
        ("REFERENCE_NOT_READY", "previousOutputIds.1"),
        ("NOT_FOUND", "previousOutputIds.2"),
        ("REFERENCE_NOT_READY", "previousOutputIds.3"),
        ("NOT_FOUND", "previousOutputIds.4"),
    ]


async def test_an_edit_is_refused_while_no_output_has_an_image(
    client: GraphQLClient,
) -> None:
    working = await start(client, selectedModels=["rehearsal-hangs"])

    payload = await send_or_refuse(client, working["conversation"]["id"])

    assert codes(payload) == [("TURN_IN_PROGRESS", "conversationId")]


async def test_delivered_images_are_references_while_a_sibling_is_running(
    client: GraphQLClient,
) -> None:
    payload = await start(client, selectedModels=["local-silver", "rehearsal-hangs"])
    landed = None
    async with client.subscribe(
        "subscription($id: ID!) { turnUpdated(conversationId: $id) { turn { "
        "outputs { status image { id } } } } }",
        id=payload["conversation"]["id"],
    ) as updates:
        while landed is None:
            outputs = (await updates.next())["turnUpdated"]["turn"]["outputs"]
            landed = outputs[0]["image"]

    turn = (await send(client, payload["conversation"]["id"]))["turn"]

    assert [one["image"] for one in turn["references"]] == [landed]


async def test_a_failing_model_does_not_stop_the_others(client: GraphQLClient) -> None:
    models = [
        "rehearsal-fails",
        "local-silver",
        "rehearsal-refuses",
        "rehearsal-fails-once",
        "local-ink",
    ]

    turn = (await conversation_with(client, selectedModels=models))["turn"]

    assert turn["status"] == "COMPLETED"
    assert turn["pendingModels"] == []
    assert turn["error"] is None
    assert [(one["model"]["id"], one["status"]) for one in turn["outputs"]] == [
        ("rehearsal-fails", "FAILED"),
        ("local-silver", "COMPLETED"),
        ("rehearsal-refuses", "FAILED"),
        ("rehearsal-fails-once", "FAILED"),
        ("local-ink", "COMPLETED"),
    ]
    errors = [
        one["error"] and (one["error"]["code"], one["error"]["retryable"])
        for one in turn["outputs"]
    ]
    assert errors == [
        ("PROVIDER_UNAVAILABLE", True),
        None,
        ("CONTENT_REFUSED", False),
        ("PROVIDER_UNAVAILABLE", True),
        None,
    ]


async def test_a_turn_fails_with_a_reason_if_all_outputs_fail(client: GraphQLClient) -> None:
    turn = (await conversation_with(client, selectedModels=["rehearsal-refuses"]))["turn"]

    assert turn["status"] == "FAILED"
    assert turn["error"] == turn["outputs"][0]["error"]
    assert turn["error"]["code"] == "CONTENT_REFUSED"
    assert turn["completedAt"] is not None


async def test_an_output_that_hangs_times_out_at_its_deadline(client: GraphQLClient) -> None:
    models = await client('{ model(id: "rehearsal-hangs") { id } }')
    assert models["model"] is not None
    payload = await start(client, selectedModels=["rehearsal-hangs"])

    async with client.subscribe(
        "subscription($id: ID!) { turnUpdated(conversationId: $id) { turn { "
        "status error { code retryable } } } }",
        id=payload["conversation"]["id"],
    ) as updates:
        async with asyncio.timeout(40):
            turn = (await updates.next())["turnUpdated"]["turn"]
            while turn["status"] != "FAILED":
                message = await updates.socket.connection.recv()
                turn = __import__("json").loads(message)["payload"]["data"]["turnUpdated"]["turn"]

    assert turn["error"] == {"code": "TIMED_OUT", "retryable": True}


async def test_previews_and_progress_show_while_a_model_works(client: GraphQLClient) -> None:
    payload = await start(
        client,
        selectedModels=["rehearsal-lands-last"],
        options={**SMALL, "previews": 2},
    )

    updates = await followed(client, payload["turn"], payload["cursor"])

    outputs = [update["turn"]["outputs"][0] for update in updates]
    shown = [one["preview"]["index"] for one in outputs if one["preview"]]
    assert shown == sorted(shown)
    assert set(shown) == {0, 1}
    progress = [one["progress"] for one in outputs if one["progress"] is not None]
    assert progress == sorted(progress)
    assert outputs[-1]["status"] == "COMPLETED"
    assert outputs[-1]["preview"] is outputs[-1]["progress"] is None


async def test_a_preview_can_be_fetched_and_stays_where_the_run_fails(
    client: GraphQLClient,
) -> None:
    payload = await conversation_with(
        client, selectedModels=["rehearsal-fails"], options={**SMALL, "previews": 1}
    )

    preview = payload["turn"]["outputs"][0]["preview"]

    assert preview["index"] == 0
    response = await client.http.get(preview["url"])
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/webp"


async def test_a_delivered_image_has_all_its_fields(client: GraphQLClient) -> None:
    payload = await conversation_with(
        client, options={"format": "PNG", "previews": 0}, aspectRatio="16:9"
    )

    output = payload["turn"]["outputs"][0]

    image = output["images"][0]
    assert output["image"] == {"id": image["id"]}
    assert (image["contentType"], image["origin"]) == ("image/png", "OUTPUT")
    assert image["width"] / image["height"] == pytest.approx(16 / 9, rel=0.02)
    assert 5 <= len(base64.b64decode(image["thumbhash"])) <= 25
    response = await client.http.get(image["url"])
    assert response.headers["content-type"] == "image/png"
    assert len(response.content) == image["byteSize"]


async def test_several_images_of_one_model_are_delivered_together(client: GraphQLClient) -> None:
    payload = await conversation_with(client, options={**SMALL, "imagesPerModel": 3})

    images = payload["turn"]["outputs"][0]["images"]

    assert len({image["id"] for image in images}) == 3
    assert len({image["seed"] for image in images}) == 3


async def test_options_of_a_turn_can_be_queried(client: GraphQLClient) -> None:
    options = {
        "imagesPerModel": 2,
        "previews": 1,
        "format": "WEBP",
        "width": 320,
        "height": 256,
        "seed": "7",
    }

    turn = (await start(client, options=options))["turn"]

    assert turn["options"] == {
        **options,
        "quality": None,
        "negativePrompt": None,
        "context": "MESSAGE",
    }


async def test_all_user_errors_of_an_edit_are_returned_at_once(client: GraphQLClient) -> None:
    payload = await conversation_with(client)

    refused = await send_or_refuse(
        client,
        payload["conversation"]["id"],
        userMessage="",
        selectedModels=["nothing"],
        previousOutputIds=["nothing"],
        manualReferenceIds=["nothing"],
    )

    assert codes(refused) == [
        ("NOT_FOUND", "previousOutputIds.0"),
        ("NOT_FOUND", "manualReferenceIds.0"),
        ("PROMPT_EMPTY", "userMessage"),
        ("UNKNOWN_MODEL", "selectedModels.0"),
    ]
    unknown = await send_or_refuse(client, "conv_00000000000000000000000000", userMessage="")
    assert codes(unknown) == [("NOT_FOUND", "conversationId"), ("PROMPT_EMPTY", "userMessage")]


async def test_two_concurrent_edits_get_different_positions(client: GraphQLClient) -> None:
    payload = await conversation_with(client)
    conversation_id = payload["conversation"]["id"]

    sent = await asyncio.gather(
        *(
            send(client, conversation_id, previousOutputIds=[payload["turn"]["outputs"][0]["id"]])
            for _ in range(8)
        )
    )

    assert sorted(one["turn"]["turnIndex"] for one in sent) == list(range(1, 9))


async def test_a_turn_can_be_queried_by_id(client: GraphQLClient) -> None:
    payload = await conversation_with(client)

    turn = (await client(READ, id=payload["turn"]["id"]))["turn"]

    assert turn.pop("conversation") == {"id": payload["conversation"]["id"], "turnCount": 1}
    assert turn == payload["turn"]


async def test_turns_can_be_paged_forwards_and_backwards(client: GraphQLClient) -> None:
    payload = await conversation_with(client, turns=4)
    query = """
    query($id: ID!, $first: Int, $after: String, $last: Int, $before: String) {
      conversation(id: $id) {
        turns(first: $first, after: $after, last: $last, before: $before) {
          nodes { turnIndex } pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
        }
      }
    }
    """

    async def page(**arguments: object) -> dict[str, object]:
        data = await client(query, id=payload["conversation"]["id"], **arguments)
        turns: dict[str, object] = data["conversation"]["turns"]
        return turns

    def indexes(turns: dict[str, object]) -> list[int]:
        return [node["turnIndex"] for node in turns["nodes"]]  # type: ignore[attr-defined]

    head = await page(first=3)
    tail = await page(first=3, after=head["pageInfo"]["endCursor"])  # type: ignore[index]
    last = await page(last=3)
    before = await page(last=3, before=last["pageInfo"]["startCursor"])  # type: ignore[index]

    assert [indexes(one) for one in (head, tail, last, before)] == [
        [0, 1, 2],
        [3],
        [1, 2, 3],
        [0],
    ]
    flags = [
        (one["pageInfo"]["hasPreviousPage"], one["pageInfo"]["hasNextPage"])  # type: ignore[index]
        for one in (head, tail, last, before)
    ]
    assert flags == [(False, True), (True, False), (True, False), (False, True)]


async def test_turns_in_progress_can_be_queried_by_a_client_that_resumes(
    client: GraphQLClient,
) -> None:
    await conversation_with(client)
    working = await start(client, selectedModels=["rehearsal-hangs"])

    viewer = (await client("{ viewer { turnsInProgress { id status } } }"))["viewer"]

    assert [turn["id"] for turn in viewer["turnsInProgress"]] == [working["turn"]["id"]]


async def test_previews_and_the_text_of_a_local_model_say_what_it_did(
    client: GraphQLClient,
) -> None:
    payload = await conversation_with(client, userMessage="Black and white, and make her smile")

    text = payload["turn"]["outputs"][0]["text"]

    assert "smile" in text
