"""The gallery through the API: favourites, and which images can be deleted when."""

import asyncio
import re
from pathlib import Path

import pytest

from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom, StartDarkroom
from tests.operations import (
    DELETE,
    DELETE_IMAGE,
    DELETE_IMAGES,
    DELETE_PROMPT,
    FOLLOW,
    GALLERY,
    PROMPTS,
    SET_FAVOURITE,
    SMALL,
    a_sample,
    codes,
    conversation_with,
    samples,
    send,
    start,
    start_or_refuse,
    until_finished,
)

ROOT = Path(__file__).parents[2]
UNKNOWN = "img_00000000000000000000000000"
RETRY = "mutation($id: ID!) { retryOutput(input: {outputId: $id}) { userErrors { code } } }"
OUTPUTS = """
query($id: ID!) { turn(id: $id) {
  status completedAt updatedAt outputs { status image { id } images { id } }
} }
"""


async def mark(client: GraphQLClient, name: str, favourite: bool = True) -> Data:
    data = await client(SET_FAVOURITE, id=name, favourite=favourite)
    payload: Data = data["setFavourite"]
    return payload


async def delete(client: GraphQLClient, image_id: str) -> Data:
    data = await client(DELETE_IMAGE, id=image_id)
    payload: Data = data["deleteImage"]
    return payload


async def gallery(client: GraphQLClient, **filters: object) -> list[str]:
    nodes = (await client(GALLERY, **filters))["viewer"]["images"]["nodes"]
    return [node["id"] for node in nodes]


def image_of(payload: Data) -> Data:
    image: Data = payload["turn"]["outputs"][0]["images"][0]
    return image


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# Favourites


async def test_an_image_can_be_marked_as_favourite_and_unmarked(client: GraphQLClient) -> None:
    image_id = (await a_sample(client))["id"]
    query = "query($id: ID!) { image(id: $id) { favourite } }"
    before = (await client(query, id=image_id))["image"]["favourite"]

    marked = await mark(client, image_id)
    again = await mark(client, image_id)
    seen = (await client(query, id=image_id))["image"]["favourite"]
    unmarked = await mark(client, image_id, favourite=False)

    assert before is False
    assert marked == again
    assert marked["image"] == {"id": image_id, "favourite": True}
    assert (marked["prompt"], marked["userErrors"]) == (None, [])
    assert seen is True
    assert unmarked["image"] == {"id": image_id, "favourite": False}


async def test_an_image_is_a_favourite_wherever_it_is_shown(client: GraphQLClient) -> None:
    payload = await conversation_with(client)
    image_id = image_of(payload)["id"]
    await mark(client, image_id)

    seen = await client(
        """query($turn: ID!, $conversation: ID!) {
          turn(id: $turn) { outputs { image { favourite } } }
          conversation(id: $conversation) { images { nodes { favourite } } }
          viewer { images(origin: OUTPUT) { nodes { favourite } } }
        }""",
        turn=payload["turn"]["id"],
        conversation=payload["conversation"]["id"],
    )

    marked = {"favourite": True}
    assert seen == {
        "turn": {"outputs": [{"image": marked}]},
        "conversation": {"images": {"nodes": [marked]}},
        "viewer": {"images": {"nodes": [marked]}},
    }


async def test_the_favourite_filter_can_be_combined_with_other_filters(
    client: GraphQLClient,
) -> None:
    whole = await gallery(client)
    output = image_of(await conversation_with(client))["id"]
    await mark(client, whole[1])
    await mark(client, output)

    assert await gallery(client, favourite=True) == [output, whole[1]]
    assert await gallery(client, favourite=False) == [whole[0], *whole[2:]]
    assert await gallery(client, favourite=True, origin="OUTPUT") == [output]
    assert await gallery(client, favourite=True, modelId="local-silver", origin="OUTPUT") == [
        output
    ]
    assert await gallery(client, modelId="") == []
    assert await gallery(client) == [output, *whole]


async def test_the_favourites_are_paged_without_gaps(client: GraphQLClient) -> None:
    ids = await gallery(client)
    for image_id in ids:
        await mark(client, image_id)

    seen: list[str] = []
    after, more = None, True
    while more:
        page = (await client(GALLERY, first=1, after=after, favourite=True))["viewer"]["images"]
        seen += [node["id"] for node in page["nodes"]]
        after, more = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]

    assert seen == ids
    others = await client.execute(GALLERY, after=after, favourite=False)
    assert others["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"


async def test_a_prompt_can_be_marked_by_id(client: GraphQLClient) -> None:
    await start(client)
    prompt = (await client(PROMPTS))["viewer"]["prompts"]["nodes"][0]

    marked = await mark(client, prompt["id"])

    assert marked == {
        "image": None,
        "prompt": {"id": prompt["id"], "favourite": True},
        "userErrors": [],
    }
    found = (await client(PROMPTS, favourite=True))["viewer"]["prompts"]["nodes"]
    assert [one["text"] for one in found] == ["A boat"]


async def test_a_foreign_image_or_prompt_can_be_neither_marked_nor_deleted(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    sample = await a_sample(client)
    payload = await start(client)
    prompt = (await client(PROMPTS))["viewer"]["prompts"]["nodes"][0]["id"]
    other = darkroom.client()

    names = [sample["id"], UNKNOWN, prompt, "prompt_00000000000000000000000000"]
    names += [payload["turn"]["id"], "nonsense", "", '{"$gt": ""}']
    refused = [await mark(other, name) for name in names]
    kept = [await delete(other, name) for name in names]

    # A foreign id is answered to the letter as an unknown one.
    assert all(one == refused[1] for one in refused)
    assert all(one == kept[1] for one in kept)
    assert codes(refused[0]) == [("NOT_FOUND", "id")]
    assert codes(kept[0]) == [("NOT_FOUND", "imageId")]
    assert await gallery(client, favourite=True) == []
    assert (await client.http.get(sample["url"])).status_code == 200


async def test_deleting_a_conversation_keeps_its_favourite_images(client: GraphQLClient) -> None:
    payload = await conversation_with(client, selectedModels=["local-silver", "local-ink"])
    marked, other = (output["images"][0] for output in payload["turn"]["outputs"])
    await mark(client, marked["id"])

    await client(DELETE, id=payload["conversation"]["id"])

    assert await gallery(client, origin="OUTPUT") == [marked["id"]]
    assert (await client.http.get(marked["url"])).status_code == 200
    assert (await client.http.get(other["url"])).status_code == 404
    assert codes(await delete(client, marked["id"])) == []
    assert (await client.http.get(marked["url"])).status_code == 404


# Deletion


async def test_deleting_an_image_deletes_its_original_and_thumbnails(
    client: GraphQLClient,
) -> None:
    query = "query($id: ID!) { image(id: $id) { url small: url(width: 200) } }"
    image_id = (await a_sample(client))["id"]
    links = (await client(query, id=image_id))["image"]

    deleted = await delete(client, image_id)

    assert deleted == {"deletedImageId": image_id, "userErrors": []}
    assert image_id not in await gallery(client)
    assert (await client(query, id=image_id))["image"] is None
    assert (await client("query($id: ID!) { node(id: $id) { id } }", id=image_id))["node"] is None
    assert links["url"] != links["small"]
    for link in links.values():
        assert (await client.http.get(link)).status_code == 404
    assert codes(await delete(client, image_id)) == [("NOT_FOUND", "imageId")]
    assert codes(await mark(client, image_id)) == [("NOT_FOUND", "id")]
    assert codes(await start_or_refuse(client, sourceImageId=image_id)) == [
        ("NOT_FOUND", "sourceImageId")
    ]


async def test_a_deleted_image_leaves_its_output_and_subscribers_are_notified(
    client: GraphQLClient,
) -> None:
    payload = await conversation_with(
        client, options={"imagesPerModel": 2, "width": 256, "height": 256, "previews": 0}
    )
    turn_id = payload["turn"]["id"]
    first, second = (image["id"] for image in payload["turn"]["outputs"][0]["images"])
    before = (await client(OUTPUTS, id=turn_id))["turn"]

    async with client.subscribe(FOLLOW, id=payload["conversation"]["id"]) as updates:
        await updates.next()
        await delete(client, first)
        update = (await updates.next())["turnUpdated"]
    after = (await client(OUTPUTS, id=turn_id))["turn"]

    assert [image["id"] for image in update["turn"]["outputs"][0]["images"]] == [second]
    assert [one["id"] for one in update["changedOutputs"]] == [payload["turn"]["outputs"][0]["id"]]
    assert after["outputs"] == [
        {"status": "COMPLETED", "image": {"id": second}, "images": [{"id": second}]}
    ]
    assert (after["status"], after["completedAt"]) == (before["status"], before["completedAt"])
    assert after["updatedAt"] > before["updatedAt"]
    await delete(client, second)
    emptied = (await client(OUTPUTS, id=turn_id))["turn"]
    assert emptied["status"] == "COMPLETED"
    assert emptied["outputs"] == [{"status": "COMPLETED", "image": None, "images": []}]
    assert await gallery(client, origin="OUTPUT") == []


async def test_an_edit_continues_without_a_deleted_image(client: GraphQLClient) -> None:
    payload = await conversation_with(client, turns=2)
    conversation_id = payload["conversation"]["id"]
    strip = "query($id: ID!) { conversation(id: $id) { images { nodes { id } } } }"
    first, second = (
        node["id"]
        for node in (await client(strip, id=conversation_id))["conversation"]["images"]["nodes"]
    )

    assert codes(await delete(client, second)) == []
    sent = await send(client, conversation_id)

    assert [one["image"]["id"] for one in sent["turn"]["references"]] == [first]
    shown = (await client(strip, id=conversation_id))["conversation"]["images"]["nodes"]
    assert [node["id"] for node in shown] == [first]


async def test_an_image_in_use_cannot_be_deleted(client: GraphQLClient) -> None:
    source, manual, free = (await gallery(client))[:3]
    payload = await start(client, sourceImageId=source, manualReferenceIds=[manual])
    first = (await until_finished(client, payload["turn"]))["outputs"][0]["image"]["id"]
    await until_finished(client, (await send(client, payload["conversation"]["id"]))["turn"])

    refused = [await delete(client, image_id) for image_id in (source, manual, first)]

    assert [codes(one) for one in refused] == [[("IMAGE_IN_USE", "imageId")]] * 3
    assert all(one["deletedImageId"] is None for one in refused)
    assert {source, manual, first} <= set(await gallery(client))
    assert codes(await delete(client, free)) == []
    await client(DELETE, id=payload["conversation"]["id"])
    assert codes(await delete(client, source)) == []
    assert codes(await delete(client, manual)) == []


async def delete_all(client: GraphQLClient, ids: list[str]) -> Data:
    payload: Data = (await client(DELETE_IMAGES, ids=ids))["deleteImages"]
    return payload


async def test_several_images_are_deleted_with_their_objects(client: GraphQLClient) -> None:
    options = {"imagesPerModel": 2, **SMALL}
    models = ["local-silver", "local-ink"]
    payload = await conversation_with(client, selectedModels=models, options=options)
    made = [image for output in payload["turn"]["outputs"] for image in output["images"]]
    sample = await a_sample(client)
    gone = [*made[:3], sample]
    ids = [image["id"] for image in gone]

    deleted = await delete_all(client, [*ids, ids[0]])

    assert deleted == {"deletedImageIds": ids, "userErrors": []}
    for image in gone:
        assert (await client.http.get(image["url"])).status_code == 404
    turn = (await client(OUTPUTS, id=payload["turn"]["id"]))["turn"]
    assert [output["status"] for output in turn["outputs"]] == ["COMPLETED"] * 2
    left = [image["id"] for output in turn["outputs"] for image in output["images"]]
    assert left == [made[3]["id"]]
    assert (await client.http.get(made[3]["url"])).status_code == 200


async def test_if_one_image_cannot_be_deleted_none_is(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    used, free, other, *_ = await samples(client)
    theirs = await a_sample(darkroom.client())
    await start(client, sourceImageId=used["id"])

    names = [free["id"], used["id"], theirs["id"], "nonsense", UNKNOWN, used["id"], other["id"]]
    kept = await delete_all(client, names)
    in_use = await delete_all(client, [free["id"], used["id"]])

    assert kept["deletedImageIds"] == []
    reasons = {1: "IMAGE_IN_USE", 2: "NOT_FOUND", 3: "NOT_FOUND", 4: "NOT_FOUND", 5: "IMAGE_IN_USE"}
    assert [(error["code"], error["path"]) for error in kept["userErrors"]] == [
        (code, ["input", "imageIds", str(index)]) for index, code in reasons.items()
    ]
    unknown = await delete_all(client, [UNKNOWN, used["id"]])
    assert [error["code"] for error in unknown["userErrors"]] == ["NOT_FOUND", "IMAGE_IN_USE"]
    assert [(error["code"], error["path"]) for error in in_use["userErrors"]] == [
        ("IMAGE_IN_USE", ["input", "imageIds", "1"])
    ]
    for image in (free, other, used, theirs):
        assert (await client.http.get(image["url"])).status_code == 200


async def test_at_most_a_hundred_images_can_be_deleted_at_once(client: GraphQLClient) -> None:
    names = ["img_00000000000000000000000000"] * 101

    answer = await client.execute(DELETE_IMAGES, ids=names)

    assert answer["errors"][0]["extensions"] == {
        "code": "QUERY_TOO_COMPLEX",
        "limit": "imageIds",
        "max": 100,
        "actual": 101,
    }
    assert len((await delete_all(client, names[:100]))["userErrors"]) == 100
    assert await delete_all(client, []) == {"deletedImageIds": [], "userErrors": []}


async def test_concurrent_deletions_of_images_delete_them_once(client: GraphQLClient) -> None:
    ids = [image["id"] for image in await samples(client)]

    payloads = await asyncio.gather(*(delete_all(client, ids) for _ in range(4)))

    assert sorted(len(payload["deletedImageIds"]) for payload in payloads) == [0, 0, 0, len(ids)]


async def test_concurrent_deletions_of_an_image_delete_it_once(client: GraphQLClient) -> None:
    image_id = (await a_sample(client))["id"]

    answers = await asyncio.gather(*(delete(client, image_id) for _ in range(8)))

    assert sorted(codes(one) for one in answers) == [[], *[[("NOT_FOUND", "imageId")]] * 7]


async def test_an_image_is_deleted_or_starts_a_conversation_but_not_both(
    client: GraphQLClient,
) -> None:
    outcomes = set()
    for _ in range(6):
        image_id = image_of(await conversation_with(client))["id"]

        started, deleted = await asyncio.gather(
            start_or_refuse(client, sourceImageId=image_id, manualReferenceIds=[image_id]),
            delete(client, image_id),
        )

        # It is looked for twice, and may have gone in between.
        refused = {code for code, _ in codes(started)}, {code for code, _ in codes(deleted)}
        assert refused in [(set(), {"IMAGE_IN_USE"}), ({"NOT_FOUND"}, set())]
        outcomes.add(bool(refused[0]))
        if started["turn"]:
            assert (await until_finished(client, started["turn"]))["status"] == "COMPLETED"
    assert outcomes


async def test_an_image_is_deleted_or_edited_but_not_both(client: GraphQLClient) -> None:
    for _ in range(5):
        payload = await conversation_with(client)
        image_id = image_of(payload)["id"]

        sent, deleted = await asyncio.gather(
            send(client, payload["conversation"]["id"]), delete(client, image_id)
        )

        references = [one["image"]["id"] for one in sent["turn"]["references"]]
        assert (references, codes(deleted)) in [
            ([image_id], [("IMAGE_IN_USE", "imageId")]),
            ([], []),
        ]
        assert (await until_finished(client, sent["turn"]))["status"] == "COMPLETED"


async def test_marking_an_image_and_deleting_its_conversation_do_not_conflict(
    client: GraphQLClient,
) -> None:
    for _ in range(8):
        payload = await conversation_with(client)
        image = image_of(payload)

        marked, _ = await asyncio.gather(
            mark(client, image["id"]), client(DELETE, id=payload["conversation"]["id"])
        )

        is_marked = codes(marked) == []
        assert is_marked is (image["id"] in await gallery(client, favourite=True))
        expected = 200 if is_marked else 404
        assert (await client.http.get(image["url"])).status_code == expected


async def test_a_variation_is_made_as_the_client_guide_describes(
    client: GraphQLClient,
) -> None:
    document = (ROOT / "docs" / "client-guide.md").read_text()
    (vary,) = re.findall(r"```graphql\n(mutation Vary.*?)```", document, flags=re.DOTALL)
    sample = await a_sample(client)

    payloads = [
        (await client(vary, image=sample["id"], prompt=sample["prompt"], seed=seed))[
            "startConversation"
        ]
        for seed in ("one", "two")
    ]

    turns = [await until_finished(client, payload["turn"]) for payload in payloads]
    assert [turn["status"] for turn in turns] == ["COMPLETED", "COMPLETED"]
    made = [turn["outputs"][0]["images"][0] for turn in turns]
    assert [image["seed"] for image in made] == ["one", "two"]
    varied = (await client(GALLERY, origin="OUTPUT"))["viewer"]["images"]["nodes"]
    assert {image["prompt"] for image in varied} == {sample["prompt"]}


@pytest.mark.parametrize("field", ["deleteImage", "deletePrompt", "setFavourite"])
async def test_deleting_and_marking_need_a_token(darkroom: Darkroom, field: str) -> None:
    query, arguments = {
        "deleteImage": (DELETE_IMAGE, {}),
        "deletePrompt": (DELETE_PROMPT, {}),
        "setFavourite": (SET_FAVOURITE, {"favourite": True}),
    }[field]

    answer = await darkroom.anonymous().execute(query, id=UNKNOWN, **arguments)

    assert answer["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_after_everything_is_deleted_the_object_store_is_empty(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom()
    client = darkroom.client()
    folder = darkroom.settings.data_dir / "objects"
    sample = await a_sample(client)
    first = await conversation_with(
        client,
        turns=2,
        sourceImageId=sample["id"],
        selectedModels=["local-silver", "rehearsal-fails", "rehearsal-fails-once"],
        options={"imagesPerModel": 2, "previews": 3, "width": 512, "height": 512},
    )
    again = first["turn"]["outputs"][2]["id"]
    assert codes((await client(RETRY, id=again))["retryOutput"]) == []
    await until_finished(client, first["turn"])
    second = await conversation_with(client, sourceImageId=image_of(first)["id"])
    await mark(client, image_of(second)["id"])
    running = await start(client, selectedModels=["rehearsal-slow"], options={"previews": 3})
    async with client.subscribe(FOLLOW, id=running["conversation"]["id"]) as updates:
        await updates.until(lambda data: data["turnUpdated"]["turn"]["outputs"][0]["preview"])
        assert files_below(folder)

        for payload in (running, first, second):
            await client(DELETE, id=payload["conversation"]["id"])
        for image_id in await gallery(client):
            assert codes(await delete(client, image_id)) == []

    async with asyncio.timeout(20):
        while files_below(folder):  # noqa: ASYNC110 - what is awaited is another thread's
            await asyncio.sleep(0.05)
