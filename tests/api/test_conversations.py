"""Conversations through the API: start, read, page, rename, delete."""

import pytest

from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom
from tests.operations import (
    DELETE,
    DELETE_IMAGE,
    FOLLOW,
    GALLERY,
    RENAME,
    SMALL,
    a_sample,
    codes,
    conversation_with,
    send,
    start,
    start_or_refuse,
    until_finished,
)

LIST = """
query List($first: Int, $after: String, $source: ID) {
  viewer { conversations(first: $first, after: $after, sourceImageId: $source) {
    nodes { id title latestTurn { id } } edges { cursor node { id } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  } }
}
"""
READ = """
query Read($id: ID!) {
  conversation(id: $id) {
    id title turnCount aspectRatio resolution cursor sourceImage { id }
    latestTurn { id turnIndex }
    images { nodes { id origin turn { id } output { id } } }
  }
}
"""


async def test_a_conversation_starts_from_a_source_image(
    client: GraphQLClient,
) -> None:
    sample = await a_sample(client)

    payload = await start(
        client,
        sourceImageId=sample["id"],
        userMessage="Make it sepia",
        selectedModels=None,
        options={"previews": 0},
    )

    conversation, turn = payload["conversation"], payload["turn"]
    assert conversation["title"] == "Make it sepia"
    assert conversation["turnCount"] == 1
    assert conversation["sourceImage"] == {"id": sample["id"]}
    assert turn["references"] == [{"origin": "SOURCE", "image": {"id": sample["id"]}}]
    assert turn["selectedModels"] == [{"id": sample["model"]["id"]}]
    width, _, height = conversation["aspectRatio"].partition(":")
    assert int(width) / int(height) == pytest.approx(sample["width"] / sample["height"], rel=0.02)
    finished = await until_finished(client, turn)
    assert finished["status"] == "COMPLETED"
    assert finished["outputs"][0]["references"] == turn["references"]


async def test_a_conversation_starts_from_a_message_without_an_image(client: GraphQLClient) -> None:
    payload = await start(client, userMessage="A red boat", selectedModels=None)

    conversation, turn = payload["conversation"], payload["turn"]
    assert conversation["sourceImage"] is None
    assert (conversation["aspectRatio"], conversation["resolution"]) == ("1:1", "ONE_K")
    assert turn["references"] == []
    finished = await until_finished(client, turn)
    image = finished["outputs"][0]["images"][0]
    assert (image["width"], image["height"]) == (256, 256)


async def test_the_mutation_answers_before_any_model_has_started(client: GraphQLClient) -> None:
    payload = await start(client, selectedModels=["rehearsal-slow", "local-ink"])

    turn = payload["turn"]
    assert turn["status"] == "PENDING"
    assert [output["status"] for output in turn["outputs"]] == ["QUEUED", "QUEUED"]
    assert turn["pendingModels"] == [{"id": "rehearsal-slow"}, {"id": "local-ink"}]


async def test_one_answer_shows_one_state_of_a_turn(client: GraphQLClient) -> None:
    started = await client(
        "mutation($input: StartConversationInput!) { startConversation(input: $input) { "
        "turn { id status } conversation { latestTurn { id status } } } }",
        input={"userMessage": "A boat", "selectedModels": ["local-ink"], "options": SMALL},
    )
    turn = started["startConversation"]["turn"]
    assert started["startConversation"]["conversation"]["latestTurn"] == turn
    assert turn["status"] == "PENDING"


async def test_a_long_first_message_is_shortened_for_the_title(client: GraphQLClient) -> None:
    message = "Paint the old harbour\nwith boats and gulls and a very long breakwater, at dusk"

    payload = await start(client, userMessage=message)

    assert payload["turn"]["userMessage"] == message
    title = payload["conversation"]["title"]
    assert title == "Paint the old harbour with boats and gulls and a very long…"


async def test_a_title_is_not_cut_inside_a_grapheme(client: GraphQLClient) -> None:
    payload = await start(client, userMessage="x" * 57 + "👨\u200d👩\u200d👧\u200d👦 in the garden")

    assert payload["conversation"]["title"] == "x" * 57 + "…"


@pytest.mark.parametrize(
    "message", ["\u2800", "\u3164", "\ufe0f", " \u0301\n", "\0", "\u2067\u2069"]
)
async def test_a_message_of_invisible_characters_is_empty(
    client: GraphQLClient, message: str
) -> None:
    payload = await start_or_refuse(client, userMessage=message)

    assert codes(payload) == [("PROMPT_EMPTY", "userMessage")]


async def test_all_user_errors_are_returned_at_once_and_nothing_is_written(
    client: GraphQLClient,
) -> None:
    payload = await start_or_refuse(
        client,
        sourceImageId="img_00000000000000000000000000",
        userMessage="\u200b \n",
        selectedModels=["local-ink", "no-such-model", "local-ink"],
        manualReferenceIds=["$where"],
        aspectRatio="7:3",
        resolution="ONE_K",
        options={"imagesPerModel": 5, "width": 300},
    )

    assert payload["conversation"] is payload["turn"] is payload["cursor"] is None
    assert codes(payload) == [
        ("NOT_FOUND", "sourceImageId"),
        ("NOT_FOUND", "manualReferenceIds.0"),
        ("PROMPT_EMPTY", "userMessage"),
        ("TOO_MANY_IMAGES", "options.imagesPerModel"),
        ("UNSUPPORTED_SIZE", "options.width"),
        ("UNKNOWN_MODEL", "selectedModels.1"),
        ("DUPLICATE_MODEL", "selectedModels.2"),
        ("UNSUPPORTED_ASPECT_RATIO", "aspectRatio"),
    ]
    assert (await client(LIST))["viewer"]["conversations"]["nodes"] == []


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"userMessage": "x" * 2001}, [("PROMPT_TOO_LONG", "userMessage")]),
        ({"selectedModels": []}, [("NO_MODELS", "selectedModels")]),
        ({"selectedModels": ["local-ink"] * 9}, [("TOO_MANY_MODELS", "selectedModels")]),
        ({"selectedModels": ["$gt"]}, [("UNKNOWN_MODEL", "selectedModels.0")]),
        ({"manualReferenceIds": ["x"] * 11}, [("TOO_MANY_REFERENCES", "manualReferenceIds")]),
        ({"options": {"width": 256, "height": 257}}, [("UNSUPPORTED_SIZE", "options.width")]),
        ({"options": {"width": 0, "height": 0}}, [("UNSUPPORTED_SIZE", "options.width")]),
        ({"options": {"width": -64, "height": 64}}, [("UNSUPPORTED_SIZE", "options.width")]),
        (
            {"options": {"width": 256, "height": 256}, "aspectRatio": "1:1"},
            [("UNSUPPORTED_SIZE", "options.width")],
        ),
        (
            {"selectedModels": ["nothing"], "options": {"height": 256, "imagesPerModel": 9}},
            [
                ("TOO_MANY_IMAGES", "options.imagesPerModel"),
                ("UNSUPPORTED_SIZE", "options.height"),
                ("UNKNOWN_MODEL", "selectedModels.0"),
            ],
        ),
        (
            {"selectedModels": ["local-ink", "local-silver"], "options": {"width": 256}},
            [("UNSUPPORTED_SIZE", "options.width")],
        ),
        ({"options": {"quality": "HIGH"}}, [("UNSUPPORTED_QUALITY", "options.quality")]),
        (
            {"options": {"negativePrompt": "rain"}},
            [("UNSUPPORTED_NEGATIVE_PROMPT", "options.negativePrompt")],
        ),
    ],
    ids=str,
)
async def test_options_that_a_model_does_not_support_are_refused(
    client: GraphQLClient, wrong: dict[str, object], expected: list[tuple[str, str]]
) -> None:
    assert codes(await start_or_refuse(client, **wrong)) == expected


@pytest.mark.parametrize(
    "options", [{"imagesPerModel": 0}, {"previews": 4}, {"previews": -1}, {"seed": "x" * 2001}]
)
async def test_numbers_out_of_range_are_bad_input(
    client: GraphQLClient, options: dict[str, object]
) -> None:
    answer = await client.execute(
        "mutation($options: GenerationOptions) { startConversation(input: "
        '{userMessage: "A boat", options: $options}) { userErrors { code } } }',
        options=options,
    )

    assert answer["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"


async def test_text_with_mongodb_operators_is_stored_as_text(client: GraphQLClient) -> None:
    message = '{"$gt": ""} $where a.b $$NOW'

    payload = await conversation_with(client, userMessage=message)
    renamed = await client(RENAME, id=payload["conversation"]["id"], title="$outputs.status")

    assert payload["turn"]["userMessage"] == message
    assert payload["turn"]["status"] == "COMPLETED"
    assert renamed["renameConversation"]["conversation"]["title"] == "$outputs.status"


async def test_conversations_are_listed_by_last_activity_with_stable_cursors(
    client: GraphQLClient,
) -> None:
    ids = [(await conversation_with(client))["conversation"]["id"] for _ in range(5)]
    await send(client, ids[0])

    first = (await client(LIST, first=2))["viewer"]["conversations"]
    newcomer = (await start(client))["conversation"]["id"]
    second = (await client(LIST, first=2, after=first["pageInfo"]["endCursor"]))["viewer"][
        "conversations"
    ]
    third = (await client(LIST, first=2, after=second["pageInfo"]["endCursor"]))["viewer"][
        "conversations"
    ]

    pages = [[node["id"] for node in page["nodes"]] for page in (first, second, third)]
    assert pages == [[ids[0], ids[4]], [ids[3], ids[2]], [ids[1]]]
    assert all(newcomer not in page for page in pages)
    assert [page["pageInfo"]["hasNextPage"] for page in (first, second, third)] == [
        True,
        True,
        False,
    ]
    assert first["nodes"][0]["latestTurn"]["id"].endswith("_0001")
    assert second["edges"][1]["cursor"] == second["pageInfo"]["endCursor"]


async def test_conversations_are_found_by_source_image(client: GraphQLClient) -> None:
    sample = await a_sample(client)
    mine = (await start(client, sourceImageId=sample["id"]))["conversation"]["id"]
    await start(client)

    found = (await client(LIST, source=sample["id"]))["viewer"]["conversations"]["nodes"]
    none = (await client(LIST, source="img_00000000000000000000000000"))["viewer"]
    nonsense = (await client(LIST, source="nonsense"))["viewer"]

    assert [node["id"] for node in found] == [mine]
    assert none["conversations"]["nodes"] == nonsense["conversations"]["nodes"] == []


async def test_the_image_strip_has_the_source_and_then_every_output(client: GraphQLClient) -> None:
    sample = await a_sample(client)
    payload = await conversation_with(
        client,
        turns=2,
        sourceImageId=sample["id"],
        selectedModels=["local-silver", "rehearsal-fails", "local-ink"],
    )

    strip = (await client(READ, id=payload["conversation"]["id"]))["conversation"]["images"]

    origins = [node["origin"] for node in strip["nodes"]]
    assert origins == ["SAMPLE", "OUTPUT", "OUTPUT", "OUTPUT", "OUTPUT"]
    slots = [node["output"]["id"][-6:] for node in strip["nodes"][1:]]
    assert slots == ["0000_1", "0000_3", "0001_1", "0001_3"]


async def test_the_image_strip_is_paged(client: GraphQLClient) -> None:
    sample = await a_sample(client)
    payload = await conversation_with(client, turns=3, sourceImageId=sample["id"])
    query = """
    query($id: ID!, $after: String) { conversation(id: $id) { images(first: 2, after: $after) {
      nodes { id } pageInfo { hasNextPage endCursor } } } }
    """

    pages: list[Data] = []
    after = None
    while not pages or pages[-1]["pageInfo"]["hasNextPage"]:
        data = await client(query, id=payload["conversation"]["id"], after=after)
        pages.append(data["conversation"]["images"])
        after = pages[-1]["pageInfo"]["endCursor"]

    assert [len(page["nodes"]) for page in pages] == [2, 2]
    assert len({node["id"] for page in pages for node in page["nodes"]}) == 4


async def test_deleting_an_image_does_not_shift_cursors(
    client: GraphQLClient,
) -> None:
    payload = await conversation_with(client, options={**SMALL, "imagesPerModel": 3})
    strip = """
    query($id: ID!, $after: String) { conversation(id: $id) { images(first: 1, after: $after) {
      nodes { id } pageInfo { endCursor } } } }
    """
    conversation_id = payload["conversation"]["id"]
    first = (await client(strip, id=conversation_id))["conversation"]["images"]
    await client(DELETE_IMAGE, id=first["nodes"][0]["id"])

    after = first["pageInfo"]["endCursor"]
    second = (await client(strip, id=conversation_id, after=after))["conversation"]["images"]

    (output,) = payload["turn"]["outputs"]
    assert second["nodes"] == [{"id": output["images"][1]["id"]}]


async def test_a_conversation_can_be_renamed(client: GraphQLClient) -> None:
    payload = await start(client)

    data = await client(RENAME, id=payload["conversation"]["id"], title="  The\nharbour ")

    renamed = data["renameConversation"]
    assert renamed["userErrors"] == []
    assert renamed["conversation"]["title"] == "The harbour"
    assert renamed["conversation"]["updatedAt"] >= payload["conversation"]["updatedAt"]


@pytest.mark.parametrize(
    "title", ["", " \n\t", "\u200b\u2060", "x" * 121, "\u3164\u0301", "\u202e", "\u2067" * 80_000]
)
async def test_an_invalid_title_is_refused(client: GraphQLClient, title: str) -> None:
    payload = await start(client)

    data = await client(RENAME, id=payload["conversation"]["id"], title=title)

    assert codes(data["renameConversation"]) == [("TITLE_INVALID", "title")]


async def test_deleting_a_conversation_deletes_its_turns_and_images_but_not_the_source(
    client: GraphQLClient,
) -> None:
    sample = await a_sample(client)
    payload = await conversation_with(client, sourceImageId=sample["id"])
    conversation_id, turn = payload["conversation"]["id"], payload["turn"]
    image = turn["outputs"][0]["images"][0]
    assert (await client.http.get(image["url"])).status_code == 200

    data = await client(DELETE, id=conversation_id)

    assert data["deleteConversation"] == {
        "deletedConversationId": conversation_id,
        "userErrors": [],
    }
    gone = [conversation_id, turn["id"], turn["outputs"][0]["id"], image["id"]]
    nodes = (await client("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=gone))["nodes"]
    assert nodes == [None, None, None, None]
    assert (await client.http.get(image["url"])).status_code == 404
    assert (await client.http.get(sample["url"])).status_code == 200
    again = await client(DELETE, id=conversation_id)
    assert codes(again["deleteConversation"]) == [("NOT_FOUND", "conversationId")]


async def test_deleting_keeps_images_that_another_conversation_uses(
    client: GraphQLClient,
) -> None:
    payload = await conversation_with(client, selectedModels=["local-silver", "local-ink"])
    as_source, as_reference = (output["image"]["id"] for output in payload["turn"]["outputs"])
    other = await conversation_with(
        client, sourceImageId=as_source, manualReferenceIds=[as_reference]
    )

    await client(DELETE, id=payload["conversation"]["id"])

    gallery = (await client(GALLERY, origin="OUTPUT"))["viewer"]["images"]["nodes"]
    kept = {node["id"]: node for node in gallery}
    assert {as_source, as_reference} <= set(kept)
    assert (await client.http.get(kept[as_source]["url"])).status_code == 200
    query = "query($id: ID!) { image(id: $id) { turn { id } output { id } } }"
    assert (await client(query, id=as_source))["image"] == {"turn": None, "output": None}
    await client(DELETE, id=other["conversation"]["id"])


async def test_deleting_a_conversation_ends_running_outputs(client: GraphQLClient) -> None:
    payload = await start(client, selectedModels=["rehearsal-hangs", "local-silver"])
    conversation_id = payload["conversation"]["id"]
    async with client.subscribe(FOLLOW, id=conversation_id) as updates:
        await updates.next()

        await client(DELETE, id=conversation_id)

        await updates.completed()
    in_progress = "{ viewer { turnsInProgress { id } images(origin: OUTPUT) { nodes { id } } } }"
    viewer = (await client(in_progress))["viewer"]
    assert viewer == {"turnsInProgress": [], "images": {"nodes": []}}


async def test_a_foreign_conversation_can_be_neither_read_nor_changed(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    payload = await conversation_with(client)
    conversation_id, turn = payload["conversation"]["id"], payload["turn"]
    image_id, output_id = turn["outputs"][0]["image"]["id"], turn["outputs"][0]["id"]
    other = darkroom.client()
    mine = await conversation_with(other)

    ids = [conversation_id, turn["id"], output_id, image_id]
    seen = await other(
        """query($ids: [ID!]!, $conversation: ID!, $turn: ID!, $image: ID!) {
          nodes(ids: $ids) { id } conversation(id: $conversation) { id }
          turn(id: $turn) { id } image(id: $image) { id }
          viewer { conversations(sourceImageId: $image) { nodes { id } } }
        }""",
        ids=ids,
        conversation=conversation_id,
        turn=turn["id"],
        image=image_id,
    )
    refused = [
        codes((await other(RENAME, id=conversation_id, title="Mine"))["renameConversation"]),
        codes((await other(DELETE, id=conversation_id))["deleteConversation"]),
        codes(await start_or_refuse(other, sourceImageId=image_id, manualReferenceIds=[image_id])),
    ]

    assert seen == {
        "nodes": [None] * 4,
        "conversation": None,
        "turn": None,
        "image": None,
        "viewer": {"conversations": {"nodes": []}},
    }
    assert refused == [
        [("NOT_FOUND", "conversationId")],
        [("NOT_FOUND", "conversationId")],
        [("NOT_FOUND", "sourceImageId"), ("NOT_FOUND", "manualReferenceIds.0")],
    ]
    listed = (await other(LIST))["viewer"]["conversations"]["nodes"]
    assert [node["id"] for node in listed] == [mine["conversation"]["id"]]


async def test_a_cursor_is_valid_for_its_own_list_and_viewer_only(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    await start(client)
    await start(client)
    cursor = (await client(LIST, first=1))["viewer"]["conversations"]["pageInfo"]["endCursor"]
    sample = await a_sample(client)
    altered = ("A" if cursor[0] != "A" else "B") + cursor[1:]

    answers = [
        await client.execute(LIST, after=altered),
        await client.execute(LIST, after="nonsense"),
        await client.execute(LIST, after=cursor, source=sample["id"]),
        await client.execute(GALLERY, after=cursor),
        await darkroom.client().execute(LIST, after=cursor),
    ]

    assert {answer["errors"][0]["extensions"]["code"] for answer in answers} == {"BAD_USER_INPUT"}


@pytest.mark.parametrize("first", [0, -1, 101])
async def test_a_page_has_a_maximum_size(client: GraphQLClient, first: int) -> None:
    answer = await client.execute(LIST, first=first)

    extensions = answer["errors"][0]["extensions"]
    assert extensions == {
        "code": "QUERY_TOO_COMPLEX",
        "limit": "first",
        "max": 100,
        "actual": first,
    }


async def test_a_variation_is_made_from_an_image_its_prompt_and_a_new_seed(
    client: GraphQLClient,
) -> None:
    first = await conversation_with(client, userMessage="A lighthouse")
    image = first["turn"]["outputs"][0]["images"][0]

    again = await conversation_with(
        client,
        sourceImageId=image["id"],
        userMessage="A lighthouse",
        options={**SMALL, "seed": "another"},
    )

    assert again["turn"]["outputs"][0]["images"][0]["seed"] != image["seed"]
