"""Turns as a tree through the API: rerun, fork, delete."""

import asyncio

import pytest

from tests.api.test_choices import choose
from tests.api.test_imports import exported, imported
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom
from tests.operations import (
    DELETE,
    DELETE_IMAGE,
    FOLLOW,
    SET_FAVOURITE,
    SMALL,
    TURN,
    a_sample,
    codes,
    conversation_with,
    send,
    start,
    until_finished,
)

BOTH = ["local-silver", "local-ink"]
RERUN = (
    """
mutation Rerun($input: RerunTurnInput!) {
  rerunTurn(input: $input) { cursor userErrors { code message path } turn { ...Turn } }
}
"""
    + TURN
)
FORK = """
mutation Fork($id: ID!, $title: String, $key: String) {
  forkConversation(input: {turnId: $id, title: $title, idempotencyKey: $key}) {
    conversation { id } userErrors { code message path }
  }
}
"""
READ = (
    """
query Read($id: ID!) { conversation(id: $id) {
  id title turnCount aspectRatio resolution sourceImage { id } latestTurn { id }
  turns(first: 20) { nodes { ...Turn chosenOutput { id } } }
  images(first: 50) { nodes { id } }
} }
"""
    + TURN
)
DELETE_TURN = """
mutation DeleteTurn($id: ID!) {
  deleteTurn(input: {turnId: $id}) { deletedTurnId userErrors { code message path } }
}
"""


async def rerun(client: GraphQLClient, turn_id: str, **input: object) -> Data:
    payload: Data = (await client(RERUN, input={"turnId": turn_id, **input}))["rerunTurn"]
    return payload


async def fork(client: GraphQLClient, turn_id: str, **given: object) -> Data:
    payload: Data = (await client(FORK, id=turn_id, **given))["forkConversation"]
    return payload


async def delete_turn(client: GraphQLClient, turn_id: str) -> Data:
    payload: Data = (await client(DELETE_TURN, id=turn_id))["deleteTurn"]
    return payload


async def read(client: GraphQLClient, conversation_id: str) -> Data:
    found: Data = (await client(READ, id=conversation_id))["conversation"]
    return found


async def balance(client: GraphQLClient) -> int:
    viewer = (await client("{ viewer { credits { balance reserved } } }"))["viewer"]
    return int(viewer["credits"]["balance"] - viewer["credits"]["reserved"])


def images_of(turn: Data) -> list[str]:
    return [image["id"] for output in turn["outputs"] for image in output["images"]]


async def test_a_rerun_has_the_same_message_and_references_and_new_seeds(
    client: GraphQLClient,
) -> None:
    started = await conversation_with(client, selectedModels=BOTH)
    conversation_id, sample = started["conversation"]["id"], await a_sample(client)
    wanted = {"userMessage": "Use @Image3", "manualReferenceIds": [sample["id"]]}
    options = {**SMALL, "seed": "7", "imagesPerModel": 2}
    sent = await send(client, conversation_id, **wanted, options=options)
    first = await until_finished(client, sent["turn"])
    await until_finished(client, (await send(client, conversation_id))["turn"])

    again = await rerun(client, first["id"])
    ended = await until_finished(client, again["turn"])

    assert again["userErrors"] == []
    assert ended["turnIndex"] == 3
    same = ("userMessage", "selectedModels", "references", "aspectRatio", "resolution")
    assert {name: ended[name] for name in same} == {name: first[name] for name in same}
    assert ended["options"] == {**first["options"], "seed": ended["options"]["seed"]}
    seeds = [[i["seed"] for o in turn["outputs"] for i in o["images"]] for turn in (first, ended)]
    assert len(seeds[0]) == len(seeds[1]) == 4
    assert not set(seeds[0]) & set(seeds[1])


async def test_a_rerun_with_other_models_happens_once_for_each_idempotency_key(
    client: GraphQLClient,
) -> None:
    started = await conversation_with(client)
    turn_id = started["turn"]["id"]

    payloads = await asyncio.gather(
        *(rerun(client, turn_id, selectedModels=BOTH, idempotencyKey="once") for _ in range(3))
    )
    reused = await rerun(client, turn_id, idempotencyKey="once")

    assert {payload["turn"]["id"] for payload in payloads} == {turn_id[:-1] + "1"}
    assert payloads[0]["cursor"]
    assert [one["id"] for one in payloads[0]["turn"]["selectedModels"]] == BOTH
    assert codes(reused) == [("IDEMPOTENCY_KEY_REUSED", "idempotencyKey")]


async def test_all_user_errors_of_a_rerun_are_returned_at_once(
    client: GraphQLClient,
) -> None:
    turn = (await conversation_with(client, options={**SMALL, "imagesPerModel": 2}))["turn"]

    refused = await rerun(client, turn["id"], selectedModels=["nonsense", *BOTH], maxCredits=0)
    unable = await rerun(client, turn["id"], selectedModels=["img-flux-kontext-pro"])

    assert codes(refused)[0] == ("UNKNOWN_MODEL", "selectedModels.0")
    assert ("MAX_CREDITS_EXCEEDED", "maxCredits") in codes(refused)
    assert {path for _, path in codes(unable)} <= {"selectedModels.0", "turnId"}
    assert codes(unable)


async def test_a_fork_starts_with_the_same_turns_and_images_and_costs_nothing(
    client: GraphQLClient,
) -> None:
    sample = await a_sample(client)
    started = await conversation_with(
        client, sourceImageId=sample["id"], selectedModels=[*BOTH, "rehearsal-fails"]
    )
    conversation_id, first = started["conversation"]["id"], started["turn"]
    await choose(client, first["outputs"][1]["id"])
    second = await until_finished(client, (await send(client, conversation_id))["turn"])
    await until_finished(client, (await send(client, conversation_id))["turn"])
    before = await balance(client)

    payload = await fork(client, second["id"], title="  Another\nway ")

    assert payload["userErrors"] == []
    forked = await read(client, payload["conversation"]["id"])
    original = await read(client, conversation_id)
    assert (forked["title"], forked["turnCount"]) == ("Another way", 2)
    assert forked["sourceImage"] == {"id": sample["id"]}
    assert forked["latestTurn"]["id"] == forked["turns"]["nodes"][1]["id"]
    assert forked["images"]["nodes"] == original["images"]["nodes"][: 1 + 2 + 2]
    for copied, kept in zip(forked["turns"]["nodes"], original["turns"]["nodes"], strict=False):
        assert copied["id"] != kept["id"]
        for name in ("turnIndex", "userMessage", "status", "options", "references", "createdAt"):
            assert copied[name] == kept[name]
        assert images_of(copied) == images_of(kept)
    assert forked["turns"]["nodes"][0]["chosenOutput"]["id"].endswith("_0000_2")
    assert await balance(client) == before
    gallery = await client("{ viewer { images(first: 100, origin: OUTPUT) { nodes { id } } } }")
    assert len(gallery["viewer"]["images"]["nodes"]) == 6
    assert len({one["id"] for one in gallery["viewer"]["images"]["nodes"]}) == 6
    found = await client('{ viewer { conversations(search: "another sepia") { nodes { id } } } }')
    assert found["viewer"]["conversations"]["nodes"] == [{"id": forked["id"]}]
    proofs = {"title": original["title"], "turnCount": 3}
    assert {name: original[name] for name in proofs} == proofs


async def test_changes_of_a_fork_do_not_change_the_original(client: GraphQLClient) -> None:
    started = await conversation_with(client, selectedModels=["rehearsal-fails", "local-ink"])
    forked = (await fork(client, started["turn"]["id"]))["conversation"]["id"]
    (copy,) = (await read(client, forked))["turns"]["nodes"]

    retried = await client(
        'mutation($id: ID!) { retryOutput(input: {outputId: $id, modelId: "local-silver"}) '
        "{ turn { id } userErrors { code } } }",
        id=copy["outputs"][0]["id"],
    )
    async with client.subscribe(FOLLOW, id=forked) as updates:
        await updates.until(lambda data: data["turnUpdated"]["turn"]["status"] == "COMPLETED")
    sent = await until_finished(client, (await send(client, forked))["turn"])

    assert retried["retryOutput"]["userErrors"] == []
    copy = (await read(client, forked))["turns"]["nodes"][0]
    assert [one["status"] for one in copy["outputs"]] == ["COMPLETED", "COMPLETED"]
    assert [one["image"]["id"] for one in sent["references"]] == images_of(copy)
    original = await read(client, started["conversation"]["id"])
    assert original["turnCount"] == 1
    assert original["turns"]["nodes"][0]["outputs"][0]["status"] == "FAILED"
    assert images_of(original["turns"]["nodes"][0]) == images_of(copy)[1:]


@pytest.mark.parametrize("first_deleted", ["original", "fork"])
async def test_objects_are_kept_while_any_conversation_refers_to_them(
    client: GraphQLClient, first_deleted: str
) -> None:
    started = await conversation_with(client)
    image = started["turn"]["outputs"][0]["images"][0]
    ids = {"original": started["conversation"]["id"]}
    ids["fork"] = (await fork(client, started["turn"]["id"]))["conversation"]["id"]
    last = next(name for name in ids if name != first_deleted)

    await client(DELETE, id=ids[first_deleted])
    kept = await read(client, ids[last])
    seen = await client.http.get(kept["turns"]["nodes"][0]["outputs"][0]["images"][0]["url"])
    twice = (await fork(client, kept["turns"]["nodes"][0]["id"]))["conversation"]["id"]
    await client(DELETE, id=ids[last])
    in_fork_of_fork = (await read(client, twice))["turns"]["nodes"][0]
    still = await client.http.get(image["url"])
    await client(DELETE, id=twice)

    assert seen.status_code == still.status_code == 200
    assert images_of(in_fork_of_fork) == [image["id"]]
    assert (await client.http.get(image["url"])).status_code == 404
    assert (await client("query($id: ID!) { image(id: $id) { id } }", id=image["id"])) == {
        "image": None
    }


async def test_deleting_an_image_removes_it_from_every_copy(client: GraphQLClient) -> None:
    started = await conversation_with(client, selectedModels=BOTH)
    image = started["turn"]["outputs"][0]["images"][0]
    forked = (await fork(client, started["turn"]["id"]))["conversation"]["id"]

    deleted = await client(DELETE_IMAGE, id=image["id"])

    assert deleted["deleteImage"]["userErrors"] == []
    for conversation_id in (started["conversation"]["id"], forked):
        (turn,) = (await read(client, conversation_id))["turns"]["nodes"]
        assert len(images_of(turn)) == 1
        assert image["id"] not in images_of(turn)


async def test_a_fork_of_a_running_turn_has_the_images_delivered_so_far(
    client: GraphQLClient,
) -> None:
    started = await start(client, selectedModels=["rehearsal-hangs"])
    nothing = await fork(client, started["turn"]["id"])
    mixed = await start(client, selectedModels=["local-ink", "rehearsal-hangs"])
    async with client.subscribe(FOLLOW, id=mixed["conversation"]["id"]) as updates:
        await updates.until(lambda data: data["turnUpdated"]["turn"]["outputs"][0]["image"])

    payload = await fork(client, mixed["turn"]["id"])

    assert codes(nothing) == [("TURN_IN_PROGRESS", "turnId")]
    (turn,) = (await read(client, payload["conversation"]["id"]))["turns"]["nodes"]
    assert [one["status"] for one in turn["outputs"]] == ["COMPLETED", "CANCELLED"]
    assert turn["status"] == "COMPLETED"
    assert turn["completedAt"]
    in_progress = (await client("{ viewer { turnsInProgress { id } } }"))["viewer"]
    ids = {one["id"] for one in in_progress["turnsInProgress"]}
    assert ids == {started["turn"]["id"], mixed["turn"]["id"]}


async def test_a_turn_that_others_build_on_cannot_be_deleted_and_the_error_names_them(
    client: GraphQLClient,
) -> None:
    started = await conversation_with(client, selectedModels=BOTH)
    conversation_id, turn = started["conversation"]["id"], started["turn"]
    second = (await send(client, conversation_id, userMessage="Make it red"))["turn"]
    other = await start(client, sourceImageId=images_of(turn)[0], userMessage="A ship")

    kept = await delete_turn(client, turn["id"])

    assert kept["deletedTurnId"] is None
    assert codes(kept) == [("TURN_IN_USE", "turnId")] * 3
    messages = sorted(error["message"] for error in kept["userErrors"])
    assert second["id"] in messages[2]
    assert "Turn 2, “Make it red”" in messages[2]
    assert other["conversation"]["id"] in messages[0]
    assert other["turn"]["id"] in messages[1]
    await client(DELETE, id=other["conversation"]["id"])
    await until_finished(client, second)
    assert codes(await delete_turn(client, second["id"])) == []
    assert codes(await delete_turn(client, turn["id"])) == []


async def test_deleting_a_turn_deletes_its_images_and_keeps_the_positions_of_others(
    client: GraphQLClient,
) -> None:
    started = await conversation_with(client, turns=2)
    conversation_id, second = started["conversation"]["id"], started["turn"]
    third = (await send(client, conversation_id, previousOutputIds=[], userMessage="Glass"))["turn"]
    await until_finished(client, third)
    favourite = await until_finished(
        client, (await send(client, conversation_id, previousOutputIds=[]))["turn"]
    )
    await client(SET_FAVOURITE, id=images_of(favourite)[0], favourite=True)
    url = second["outputs"][0]["images"][0]["url"]
    listen = "subscription($id: ID!) { conversationUpdated(conversationId: $id) { turnCount } }"
    async with client.subscribe(listen, id=conversation_id) as updates:
        await updates.next()

        deleted = await delete_turn(client, second["id"])

        assert (await updates.next())["conversationUpdated"] == {"turnCount": 3}
    assert deleted == {"deletedTurnId": second["id"], "userErrors": []}
    assert (await client.http.get(url)).status_code == 404
    assert codes(await delete_turn(client, favourite["id"])) == []
    seen = await read(client, conversation_id)
    assert [turn["turnIndex"] for turn in seen["turns"]["nodes"]] == [0, 2]
    assert (seen["turnCount"], seen["latestTurn"]["id"]) == (2, third["id"])
    assert len(seen["images"]["nodes"]) == 2
    image = images_of(favourite)[0]
    kept = await client("query($id: ID!) { image(id: $id) { id turn { id } } }", id=image)
    assert kept["image"] == {"id": image, "turn": None}
    assert codes(await delete_turn(client, second["id"])) == [("NOT_FOUND", "turnId")]
    found = await client('{ viewer { conversations(search: "sepia") { nodes { id } } } }')
    assert found["viewer"]["conversations"]["nodes"] == []

    following = (await send(client, conversation_id))["turn"]

    assert following["turnIndex"] == 4
    assert [one["image"]["id"] for one in following["references"]] == images_of(
        seen["turns"]["nodes"][1]
    )
    pages = await client(
        "query($id: ID!) { conversation(id: $id) { turns(last: 2) { nodes { turnIndex } } } }",
        id=conversation_id,
    )
    assert pages["conversation"]["turns"]["nodes"] == [{"turnIndex": 2}, {"turnIndex": 4}]


async def test_a_conversation_can_continue_after_all_its_turns_are_deleted(
    client: GraphQLClient,
) -> None:
    sample = await a_sample(client)
    started = await conversation_with(client, sourceImageId=sample["id"])
    conversation_id = started["conversation"]["id"]

    deleted = await delete_turn(client, started["turn"]["id"])
    empty = await read(client, conversation_id)
    sent = await send(client, conversation_id, selectedModels=["local-ink"])
    await until_finished(client, sent["turn"])

    assert deleted["userErrors"] == []
    assert (empty["turnCount"], empty["latestTurn"], empty["turns"]["nodes"]) == (0, None, [])
    assert sent["turn"]["turnIndex"] == 1
    assert sent["turn"]["references"] == [{"origin": "SOURCE", "image": {"id": sample["id"]}}]
    forked = (await fork(client, sent["turn"]["id"]))["conversation"]["id"]
    seen = await read(client, forked)
    assert (seen["turnCount"], [one["turnIndex"] for one in seen["turns"]["nodes"]]) == (1, [1])
    assert (await send(client, forked))["turn"]["turnIndex"] == 2


async def test_deleting_a_running_turn_cancels_it_and_releases_its_credits(
    client: GraphQLClient,
) -> None:
    before = await balance(client)
    started = await start(client, selectedModels=["rehearsal-hangs"], idempotencyKey="once")
    assert await balance(client) < before

    assert codes(await delete_turn(client, started["turn"]["id"])) == []

    assert await balance(client) == before
    viewer = await client("{ viewer { turnsInProgress { id } limits { activeOutputs } } }")
    assert viewer["viewer"] == {"turnsInProgress": [], "limits": {"activeOutputs": 0}}


async def test_an_image_that_a_fork_has_too_can_be_deleted_and_stays_in_the_fork(
    client: GraphQLClient,
) -> None:
    started = await conversation_with(client)
    turn = started["turn"]
    forked = (await fork(client, turn["id"]))["conversation"]["id"]
    following = await until_finished(client, (await send(client, forked))["turn"])
    (copy, _) = (await read(client, forked))["turns"]["nodes"]

    deleted = await delete_turn(client, turn["id"])
    kept = await delete_turn(client, copy["id"])

    assert deleted["userErrors"] == []
    assert codes(kept) == [("TURN_IN_USE", "turnId")]
    assert following["id"] in kept["userErrors"][0]["message"]
    url = copy["outputs"][0]["images"][0]["url"]
    assert (await client.http.get(url)).status_code == 200
    assert images_of((await read(client, forked))["turns"]["nodes"][0]) == images_of(turn)


async def test_only_the_owner_can_rerun_fork_and_delete(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    started = await conversation_with(client)
    turn_id, other = started["turn"]["id"], darkroom.client()

    for payload in (
        await rerun(other, turn_id),
        await fork(other, turn_id),
        await delete_turn(other, turn_id),
        await rerun(client, "nonsense"),
        await fork(client, turn_id[:-1] + "1"),
        await delete_turn(client, started["conversation"]["id"]),
    ):
        assert codes(payload) == [("NOT_FOUND", "turnId")]
    assert codes(await fork(client, "nonsense", title=" ")) == [
        ("TITLE_INVALID", "title"),
        ("NOT_FOUND", "turnId"),
    ]
    for mutation in (FORK, DELETE_TURN):
        answer = await darkroom.anonymous().execute(mutation, id=turn_id)
        assert answer["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert (await read(client, started["conversation"]["id"]))["turnCount"] == 1


async def test_a_branch_with_gaps_survives_export_and_import(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    """Turns that never began are omitted."""
    started = await conversation_with(client, turns=2)
    conversation_id = started["conversation"]["id"]
    bare = (await send(client, conversation_id, previousOutputIds=[]))["turn"]
    await until_finished(client, bare)
    forked = (await fork(client, bare["id"]))["conversation"]["id"]
    await delete_turn(client, (await read(client, forked))["turns"]["nodes"][1]["id"])
    hanging = await send(client, forked, selectedModels=["rehearsal-hangs"], previousOutputIds=[])
    await send(client, forked, whenReady=True)
    await client(
        "mutation($id: ID!) { cancelTurn(input: {turnId: $id}) { userErrors { code } } }",
        id=hanging["turn"]["id"],
    )
    other = darkroom.client()

    job = await imported(other, await exported(client, id=forked))

    taken_back = job["conversation"]["id"]
    seen = await read(other, taken_back)
    assert [turn["turnIndex"] for turn in seen["turns"]["nodes"]] == [0, 2, 3]
    assert seen["turnCount"] == 3
    assert len(seen["images"]["nodes"]) == 2
    following = (await send(other, taken_back, selectedModels=["local-ink"]))["turn"]
    assert following["turnIndex"] == 4
    assert [one["image"]["id"] for one in following["references"]] == images_of(
        seen["turns"]["nodes"][1]
    )
