"""Prompts through the API: each text stored once, counted, searched and marked."""

import asyncio

import pytest

from tests.api.test_outputs import retry
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom
from tests.operations import (
    DELETE,
    DELETE_PROMPT,
    PROMPTS,
    SEND,
    SET_FAVOURITE,
    SMALL,
    START,
    conversation_with,
    send,
    start,
    start_or_refuse,
    until_finished,
)

CONVERSATIONS = """
query($search: String, $source: ID, $first: Int, $after: String) {
  viewer { conversations(
    search: $search, sourceImageId: $source, first: $first, after: $after
  ) { nodes { id } pageInfo { hasNextPage endCursor } } }
}
"""


async def prompts(client: GraphQLClient, **filters: object) -> list[Data]:
    nodes: list[Data] = (await client(PROMPTS, **filters))["viewer"]["prompts"]["nodes"]
    return nodes


async def uses(client: GraphQLClient, **filters: object) -> list[tuple[str, int]]:
    return [(one["text"], one["uses"]) for one in await prompts(client, **filters)]


async def found(client: GraphQLClient, search: str) -> list[str]:
    data = await client(CONVERSATIONS, search=search)
    return [node["id"] for node in data["viewer"]["conversations"]["nodes"]]


async def test_each_text_is_stored_once_and_listed_by_last_use(client: GraphQLClient) -> None:
    first = await conversation_with(client, userMessage="A boat")
    await conversation_with(client, userMessage="A lighthouse")
    await send(client, first["conversation"]["id"], userMessage="A boat")
    await start(client, userMessage="a boat")

    listed = await prompts(client)

    assert [(one["text"], one["uses"]) for one in listed] == [
        ("a boat", 1),
        ("A boat", 2),
        ("A lighthouse", 1),
    ]
    moments = [one["lastUsedAt"] for one in listed]
    assert moments == sorted(moments, reverse=True)
    assert not any(one["favourite"] for one in listed)


async def test_reruns_repeated_requests_and_refused_requests_are_not_uses(
    client: GraphQLClient,
) -> None:
    wanted = {
        "userMessage": "A boat",
        "selectedModels": ["rehearsal-fails"],
        "options": SMALL,
        "idempotencyKey": "one",
    }
    payload = (await client(START, input=wanted))["startConversation"]
    again = (await client(START, input=wanted))["startConversation"]
    turn = await until_finished(client, payload["turn"])
    await retry(client, turn["outputs"][0])
    await until_finished(client, turn)
    await start_or_refuse(client, userMessage="A refused boat", maxCredits=0)

    assert again["turn"]["id"] == payload["turn"]["id"]
    assert await uses(client) == [("A boat", 1)]


async def test_concurrent_uses_of_one_prompt_count_every_turn(client: GraphQLClient) -> None:
    await client("{ viewer { credits { balance } } }")

    await asyncio.gather(*(start(client, userMessage="A boat") for _ in range(8)))

    assert await uses(client) == [("A boat", 8)]


async def test_a_prompt_is_a_node_for_its_owner_only(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    await start(client)
    prompt = (await prompts(client))[0]
    other = darkroom.client()
    await start(other)
    query = "query($id: ID!) { node(id: $id) { id ... on Prompt { text uses } } }"

    mine, theirs = await client(query, id=prompt["id"]), await other(query, id=prompt["id"])

    assert mine["node"] == {"id": prompt["id"], "text": "A boat", "uses": 1}
    assert theirs["node"] is None
    # The same text of another viewer is another prompt.
    assert [one["id"] == prompt["id"] for one in await prompts(other)] == [False]


async def test_a_prompt_outlives_its_conversation_and_stays_marked_after_its_next_use(
    client: GraphQLClient,
) -> None:
    payload = await start(client)
    prompt_id = (await prompts(client))[0]["id"]
    await client(SET_FAVOURITE, id=prompt_id, favourite=True)
    await client(DELETE, id=payload["conversation"]["id"])

    await start(client)

    (kept,) = await prompts(client, favourite=True)
    assert (kept["id"], kept["uses"]) == (prompt_id, 2)
    assert await prompts(client, favourite=False) == []


async def test_prompts_are_paged_without_gaps_by_stable_cursors(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    texts = [f"Boat number {number}" for number in range(5)]
    for text in texts:
        await start(client, userMessage=text)

    pages: list[Data] = []
    after = None
    while not pages or pages[-1]["pageInfo"]["hasNextPage"]:
        pages.append((await client(PROMPTS, first=2, after=after))["viewer"]["prompts"])
        after = pages[-1]["pageInfo"]["endCursor"]
        await start(client, userMessage=f"A newcomer after page {len(pages)}")

    assert [[node["text"] for node in page["nodes"]] for page in pages] == [
        [texts[4], texts[3]],
        [texts[2], texts[1]],
        [texts[0]],
    ]
    assert pages[1]["edges"][1]["cursor"] == pages[1]["pageInfo"]["endCursor"]
    cursor = pages[0]["pageInfo"]["endCursor"]
    for asker, filters in (
        (client, {"search": "boat"}),
        (client, {"favourite": False}),
        (darkroom.client(), {}),
    ):
        answer = await asker.execute(PROMPTS, after=cursor, **filters)
        assert answer["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    answer = await client.execute(PROMPTS, first=101)
    assert answer["errors"][0]["extensions"]["code"] == "QUERY_TOO_COMPLEX"


async def test_prompts_are_found_by_prefixes_of_their_words(client: GraphQLClient) -> None:
    for text in ("A red boat, at Sea", "The Café by the sea", "Größe XL", "東京 🐈", "a.*b $where"):
        await start(client, userMessage=text)

    async def texts(search: str) -> set[str]:
        return {one["text"] for one in await prompts(client, search=search)}

    assert await texts("SEA") == {"A red boat, at Sea", "The Café by the sea"}
    assert await texts("sea bo") == await texts(" bo... sea ") == {"A red boat, at Sea"}
    assert await texts("cafe") == await texts("CAFÉ") == {"The Café by the sea"}
    assert await texts("grosse") == await texts("GRÖSSE") == {"Größe XL"}
    assert await texts("東") == await texts("🐈") == {"東京 🐈"}
    assert await texts("oat") == await texts("boats") == await texts("sea nowhere") == set()
    # What looks like a pattern or an operator is only its words.
    assert await texts("where") == await texts("$where") == {"a.*b $where"}
    assert await texts(".*") == await texts("") == await texts(" \n") == await texts("-")
    assert len(await texts(".*")) == 5
    assert await texts('{"$gt": ""}') == set()


@pytest.mark.parametrize("field", ["prompts", "conversations"])
async def test_a_search_text_has_a_maximum_length(client: GraphQLClient, field: str) -> None:
    query = f"query($s: String) {{ viewer {{ {field}(search: $s) {{ nodes {{ id }} }} }} }}"
    assert (await client(query, s="x " * 100))["viewer"][field]["nodes"] == []

    answer = await client.execute(query, s="x" * 201)

    assert answer["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"


async def test_conversations_are_found_by_their_titles_and_messages(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    boat = (await conversation_with(client, userMessage="A boat at sea"))["conversation"]["id"]
    tower = (await start(client, userMessage="A tower by the sea"))["conversation"]["id"]
    await send(client, boat, userMessage="Now with seagulls")
    other = darkroom.client()
    await start(other, userMessage="A boat at sea")

    assert await found(client, "sea") == [boat, tower]
    assert await found(client, "GULLS") == []
    assert await found(client, "seagulls boat") == [boat]
    assert await found(client, "tower") == [tower]

    rename = "mutation($id: ID!) { renameConversation(input: {conversationId: $id, title: "
    await client(rename + '"Harbour, $dusk"}) { userErrors { code } } }', id=tower)

    assert await found(client, "harbour dusk") == [tower]
    assert await found(client, "tower") == [tower]
    await client(DELETE, id=tower)
    assert await found(client, "harbour") == []


async def test_a_search_is_paged_and_can_be_combined_with_a_source(client: GraphQLClient) -> None:
    sample = (await client("{ viewer { images(first: 1) { nodes { id } } } }"))["viewer"]
    source = sample["images"]["nodes"][0]["id"]
    ids = [
        (await start(client, userMessage=f"A boat {n}", sourceImageId=source if n else None))
        for n in range(3)
    ]
    oldest, middle, newest = (payload["conversation"]["id"] for payload in ids)
    await start(client, userMessage="A tower", sourceImageId=source)

    async def page(**given: object) -> Data:
        data = await client(CONVERSATIONS, search="boat", **given)
        listed: Data = data["viewer"]["conversations"]
        return listed

    first = await page(first=2)
    second = await page(first=2, after=first["pageInfo"]["endCursor"])
    from_source = await page(source=source)

    assert [node["id"] for node in first["nodes"]] == [newest, middle]
    assert [node["id"] for node in second["nodes"]] == [oldest]
    assert [node["id"] for node in from_source["nodes"]] == [newest, middle]
    assert not second["pageInfo"]["hasNextPage"]


async def test_a_message_with_thousands_of_words_can_be_sent_and_found(
    client: GraphQLClient,
) -> None:
    words = " ".join(f"w{number}" for number in range(390))
    payload = await conversation_with(client, userMessage=words)
    sent = await client(
        SEND,
        input={
            "conversationId": payload["conversation"]["id"],
            "userMessage": " ".join(f"v{number}" for number in range(390)),
            "options": SMALL,
        },
    )

    assert sent["sendEdit"]["userErrors"] == []
    conversation_id = payload["conversation"]["id"]
    assert await found(client, "w389 v0") == [conversation_id]
    # The number of searchable words of a conversation is limited; the first ones are kept.
    assert await found(client, "v389") == []
    rename = "mutation($id: ID!) { renameConversation(input: {conversationId: $id, title: "
    await client(rename + '"Harbour"}) { userErrors { code } } }', id=conversation_id)
    assert await found(client, "harbour w0") == [conversation_id]


async def delete(client: GraphQLClient, prompt_id: str) -> Data:
    payload: Data = (await client(DELETE_PROMPT, id=prompt_id))["deletePrompt"]
    return payload


async def test_a_deleted_prompt_is_hidden_until_its_next_use(client: GraphQLClient) -> None:
    started = await conversation_with(client, userMessage="A boat", turns=1)
    await send(client, started["conversation"]["id"], userMessage="A boat")
    await start(client, userMessage="A lighthouse")
    [boat] = await prompts(client, search="boat")
    await client(SET_FAVOURITE, id=boat["id"], favourite=True)

    deleted = await delete(client, boat["id"])

    assert deleted == {"deletedPromptId": boat["id"], "userErrors": []}
    assert await uses(client) == [("A lighthouse", 1)]
    assert await prompts(client, search="boat") == []
    node = "query($id: ID!) { node(id: $id) { id } }"
    assert (await client(node, id=boat["id"]))["node"] is None
    assert started["turn"]["userMessage"] == "A boat"
    assert await found(client, "boat") == [started["conversation"]["id"]]

    await start(client, userMessage="A boat")
    assert [(one["uses"], one["favourite"]) for one in await prompts(client, search="boat")] == [
        (1, False)
    ]


async def test_only_the_owner_can_delete_a_prompt(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    await start(client)
    [prompt] = await prompts(client)
    unknown = "prompt_00000000000000000000000000"

    names = [prompt["id"], unknown, "nonsense", "", '{"$gt": ""}']
    kept = [await delete(darkroom.client(), name) for name in names]

    assert all(one == kept[1] for one in kept)
    assert [error["code"] for error in kept[0]["userErrors"]] == ["NOT_FOUND"]
    assert await prompts(client) == [prompt]
    assert (await delete(client, prompt["id"]))["userErrors"] == []
    assert [error["code"] for error in (await delete(client, prompt["id"]))["userErrors"]] == [
        "NOT_FOUND"
    ]
