"""Shares: anyone with the link can read one conversation and subscribe to it, and nothing else."""

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from graphql import GraphQLObjectType, get_named_type, is_leaf_type
from pydantic import SecretStr
from pymongo import AsyncMongoClient

from domain.shares import MAX_SHARES_OF_CONVERSATION
from edge.execution import executable_schema
from storage.mongo.database import open_database
from storage.mongo.viewers import MongoViewerRepository
from tests.api.test_branches import delete_turn, fork
from tests.clients import Data, GraphQLClient, Socket, connect_to
from tests.conftest import Darkroom, StartDarkroom
from tests.edge.streams import PARTS, streaming
from tests.operations import (
    DELETE,
    DELETE_VIEWER,
    FOLLOW,
    RENAME,
    SET_FAVOURITE,
    TURN,
    a_sample,
    codes,
    conversation_with,
    send,
    until_finished,
)
from tests.waits import eventually

SHARE: Final = "id url expiresAt includesPrompts views createdAt conversation { id title }"
CREATE: Final = f"""
mutation Create($input: CreateShareInput!) {{
  createShare(input: $input) {{ share {{ {SHARE} }} userErrors {{ code message path }} }}
}}
"""
REVOKE: Final = """
mutation Revoke($id: ID!) {
  revokeShare(input: {shareId: $id}) { revokedShareId userErrors { code path } }
}
"""
SHARES: Final = f"{{ viewer {{ shares {{ {SHARE} }} }} }}"
READ: Final = (
    """
query Read($token: String!, $first: Int, $after: String) {
  shared(token: $token) {
    title expiresAt
    turns(first: $first, after: $after) { nodes { ...Turn } pageInfo { hasNextPage endCursor } }
  }
}
"""
    + TURN
)
FOLLOW_SHARED: Final = (
    """
subscription Follow($token: String!, $after: String) {
  sharedTurnUpdated(token: $token, after: $after) {
    cursor changedOutputs { id } turn { ...Turn conversation { title } }
  }
}
"""
    + TURN
)
COUNT: Final = "subscription($id: ID!) { conversationUpdated(conversationId: $id) { turnCount } }"
CATALOGUE: Final = {"ImageModel"}
"""Public: anyone may read it without a share."""
SECRET: Final = "a secret of the owner"
SIGNATURE: Final = re.compile(r"[?]expires=[0-9]+&signature=[A-Za-z0-9_-]+")


async def share(client: GraphQLClient, conversation_id: str, **input: Any) -> Data:
    data = await client(CREATE, input={"conversationId": conversation_id, **input})
    assert data["createShare"]["userErrors"] == []
    made: Data = data["createShare"]["share"]
    return {**made, "token": made["url"].rpartition("/")[2]}


async def test_anyone_with_the_link_can_read_the_conversation(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    """With prompts they read what the owner reads, but for credits and usage."""
    done = await conversation_with(client, turns=2)
    conversation_id = done["conversation"]["id"]
    made = await share(client, conversation_id, includePrompts=True)

    anyone = [darkroom.anonymous(), darkroom.client("a stranger"), client]
    answers = [(await one(READ, token=made["token"]))["shared"] for one in anyone]

    assert made["url"].startswith(f"{darkroom.settings.public_url}/studio/shared/")
    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["title"] == "A boat"
    assert answers[0]["expiresAt"] is None
    first, second = answers[0]["turns"]["nodes"]
    assert second == {
        **done["turn"],
        "outputs": [{**output, "usage": None} for output in done["turn"]["outputs"]],
    }
    image = await darkroom.anonymous().http.get(first["outputs"][0]["images"][0]["url"])
    assert image.status_code == 200
    assert (await client(SHARES))["viewer"]["shares"][0]["views"] == 3


async def test_turns_of_a_share_are_paged(darkroom: Darkroom, client: GraphQLClient) -> None:
    done = await conversation_with(client, turns=3)
    made = await share(client, done["conversation"]["id"])
    reader = darkroom.anonymous()

    first = (await reader(READ, token=made["token"], first=2))["shared"]["turns"]
    after = first["pageInfo"]["endCursor"]
    second = (await reader(READ, token=made["token"], after=after))["shared"]["turns"]

    indexes = [turn["turnIndex"] for page in (first, second) for turn in page["nodes"]]
    assert (indexes, second["pageInfo"]["hasNextPage"]) == ([0, 1, 2], False)


# ---------------------------------------------------------------- what is shown, field by field

SHOWN: Final = [
    *(
        f"SharedConversation.{name}"
        for name in (
            "expiresAt",
            "turns",
        )
    ),
    *(
        f"TurnConnection.{name}"
        for name in (
            "edges",
            "nodes",
            "pageInfo",
        )
    ),
    *(
        f"TurnEdge.{name}"
        for name in (
            "node",
            "cursor",
        )
    ),
    *(
        f"PageInfo.{name}"
        for name in (
            "hasNextPage",
            "hasPreviousPage",
            "startCursor",
            "endCursor",
        )
    ),
    *(
        f"Turn.{name}"
        for name in (
            "id",
            "turnIndex",
            "references",
            "aspectRatio",
            "resolution",
            "options",
            "status",
            "outputs",
            "error",
            "createdAt",
            "updatedAt",
            "completedAt",
            "conversation",
            "selectedModels",
            "pendingModels",
            "chosenOutput",
        )
    ),
    *(
        f"TurnOptions.{name}"
        for name in (
            "imagesPerModel",
            "previews",
            "quality",
            "format",
            "width",
            "height",
            "seed",
            "context",
        )
    ),
    *(
        f"Output.{name}"
        for name in (
            "id",
            "requestedModelId",
            "status",
            "progress",
            "queuePosition",
            "preview",
            "image",
            "images",
            "error",
            "drift",
            "provider",
            "quality",
            "size",
            "references",
            "attempt",
            "chosen",
            "queuedAt",
            "startedAt",
            "completedAt",
            "turn",
            "model",
        )
    ),
    *(
        f"Drift.{name}"
        for name in (
            "changed",
            "outsideMask",
        )
    ),
    *(
        f"Reference.{name}"
        for name in (
            "image",
            "origin",
        )
    ),
    *(
        f"Preview.{name}"
        for name in (
            "index",
            "width",
            "height",
            "url",
        )
    ),
    *(
        f"GenerationError.{name}"
        for name in (
            "code",
            "message",
            "retryable",
        )
    ),
    *(
        f"Image.{name}"
        for name in (
            "id",
            "width",
            "height",
            "contentType",
            "byteSize",
            "thumbhash",
            "origin",
            "seed",
            "createdAt",
            "provenance",
            "url",
            "urlExpiresAt",
            "model",
        )
    ),
    *(
        f"Provenance.{name}"
        for name in (
            "digitalSourceType",
            "contentCredentials",
        )
    ),
    *(
        f"Conversation.{name}"
        for name in (
            "id",
            "turns",
            "cursor",
        )
    ),
]
"""As the owner sees it."""
WORDS: Final[Data] = {
    "SharedConversation.title": "",
    "Turn.userMessage": "",
    "TurnOptions.negativePrompt": None,
    "TurnOptions.mask": None,
    "TurnOptions.feather": None,
    "TurnOptions.keepOutside": None,
    "Output.text": None,
    "Image.prompt": None,
    "Conversation.title": "",
}
"""What is shown instead, without prompts."""
CLOSED: Final[Data] = {
    "Output.post": None,
    "Output.usage": None,
    "Output.creditsReserved": 0,
    "Output.creditsCharged": 0,
    "Image.post": None,
    "Image.favourite": False,
    "Image.madeFrom": [],
    "Conversation.sourceImage": None,
    "Conversation.aspectRatio": "1:1",
    "Conversation.resolution": "ONE_K",
    "Conversation.turnCount": 0,
    "Conversation.createdAt": "1970-01-01T00:00:00.000Z",
    "Conversation.updatedAt": "1970-01-01T00:00:00.000Z",
    "Conversation.latestTurn": None,
    "Conversation.images": {"nodes": [], "edges": []},
}
"""What is shown instead, in any case."""
INSIDE: Final = {"Image.turn", "Image.output"}
"""Shown where it belongs to the conversation; null where it does not."""
TIMED: Final = {"Conversation.cursor"}
"""The time of the read."""
NEVER_REACHED: Final = {
    *("Usage", "ImageConnection", "ImageEdge"),
    *("Post", "CaptionModel", "CaptionSettings"),
}
"""Types of which no value is shown."""


def reachable() -> dict[str, set[str]]:
    """The fields of every type that a client can select below a share."""
    schema = executable_schema()._schema
    found: dict[str, set[str]] = {}
    waiting = ["SharedConversation"]
    while waiting:
        name = waiting.pop()
        kind = schema.type_map[name]
        if name in found or name in CATALOGUE or not isinstance(kind, GraphQLObjectType):
            continue
        found[name] = set(kind.fields)
        waiting += [get_named_type(field.type).name for field in kind.fields.values()]
    return found


def test_every_reachable_field_is_declared_as_shown_or_hidden() -> None:
    fields = {
        f"{kind}.{name}"
        for kind, names in reachable().items()
        if kind not in NEVER_REACHED
        for name in names
    }

    assert fields == {*SHOWN, *WORDS, *CLOSED, *INSIDE}


def everything(kind: GraphQLObjectType, above: frozenset[str] = frozenset()) -> str:
    """A selection of all fields; what leads in a circle ends with the type's name."""
    parts = []
    for name, field in kind.fields.items():
        inner = get_named_type(field.type)
        if f"{kind.name}.{name}" in TIMED:
            continue
        if is_leaf_type(inner):
            parts.append(name)
            continue
        if "first" in field.args:
            name = f"{name}(first: 2)"  # noqa: PLW2901
        assert isinstance(inner, GraphQLObjectType)
        if inner.name in NEVER_REACHED and inner.name.endswith("Connection"):
            parts.append(f"{name} {{ nodes {{ id }} edges {{ cursor }} }}")
        elif inner.name in above | {kind.name} | CATALOGUE or name in ("edges", "chosenOutput"):
            # The chosen output is one of the outputs.
            parts.append(f"{name} {{ __typename }}")
        else:
            parts.append(f"{name} {{ {everything(inner, above | {kind.name})} }}")
    return f"__typename {' '.join(parts)}"


def pairs(shown: Any, own: Any) -> Iterator[tuple[str, Any, Any]]:
    """Every field of an answer beside the owner's, by its coordinate."""
    if isinstance(shown, list):
        assert len(shown) == len(own)
        for one, other in zip(shown, own, strict=True):
            yield from pairs(one, other)
    elif isinstance(shown, dict):
        kind = shown.get("__typename")
        for name, value in shown.items():
            if name != "__typename" and kind is not None:
                yield f"{kind}.{name}", value, own[name]
            if f"{kind}.{name}" not in CLOSED and own[name] is not None:
                yield from pairs(value, own[name])


@pytest.fixture(scope="module")
async def rich(darkroom: Darkroom) -> tuple[GraphQLClient, str]:
    """A conversation that has something in every field, and leads to another one."""
    owner = darkroom.client()
    other = await conversation_with(owner, userMessage=f"Elsewhere: {SECRET}")
    elsewhere = other["turn"]["outputs"][0]["image"]["id"]
    await owner(SET_FAVOURITE, id=elsewhere, favourite=True)
    source = (await a_sample(owner))["id"]
    done = await conversation_with(
        owner,
        userMessage=SECRET,
        sourceImageId=source,
        manualReferenceIds=[elsewhere],
        mask={"imageId": source, "feather": 7},
        selectedModels=["local-silver", "rehearsal-fails"],
    )
    image = done["turn"]["outputs"][0]["image"]["id"]
    await owner(SET_FAVOURITE, id=image, favourite=True)
    uri = darkroom.settings.mongodb_uri
    assert isinstance(uri, SecretStr)
    async with AsyncMongoClient[Data](uri.get_secret_value()) as mongodb:
        # What the local models do not report.
        await mongodb[darkroom.settings.mongodb_database].turns.update_one(
            {"_id": done["turn"]["id"]},
            {
                "$set": {
                    "options.negativePrompt": SECRET,
                    "outputs.0.text": SECRET,
                    "outputs.0.creditsReserved": 7,
                    "outputs.0.creditsCharged": 7,
                    "outputs.0.usage": {"inputTokens": 7, "outputTokens": 7, "totalTokens": 7},
                }
            },
        )
    conversation_id: str = done["conversation"]["id"]
    return owner, conversation_id


@pytest.mark.parametrize("with_prompts", [False, True], ids=["without prompts", "with prompts"])
async def test_each_field_of_a_share_is_shown_or_hidden_as_declared(
    darkroom: Darkroom, rich: tuple[GraphQLClient, str], with_prompts: bool
) -> None:
    owner, conversation_id = rich
    made = await share(owner, conversation_id, includePrompts=with_prompts)
    kind = executable_schema()._schema.type_map["SharedConversation"]
    assert isinstance(kind, GraphQLObjectType)
    selection = everything(kind)
    shared = f"query($token: String!) {{ shared(token: $token) {{ {selection} }} }}"
    own = f"query($id: ID!) {{ conversation(id: $id) {{ {selection} }} }}"
    own = own.replace("expiresAt", "", 1)

    reader = darkroom.anonymous()
    # Twice: compiled, too. Signatures of links change every half hour, perhaps between two reads.
    answers = [without_signatures(await reader(shared, token=made["token"])) for _ in range(2)]
    of_owner = without_signatures((await owner(own, id=conversation_id))["conversation"])

    assert answers[0] == answers[1]
    expected = CLOSED | ({} if with_prompts else WORDS)
    seen = set()
    for coordinate, value, owners in pairs(answers[0]["shared"], {**of_owner, "expiresAt": None}):
        seen.add(coordinate)
        if coordinate in INSIDE or (with_prompts and coordinate == "Image.prompt"):
            assert value in (None, owners), coordinate
        else:
            assert value == expected.get(coordinate, value), coordinate
            if coordinate not in expected and is_plain(owners):
                assert value == owners, coordinate
    assert seen >= {*WORDS, *CLOSED, *INSIDE}
    # The message of the other conversation is not part of this one.
    assert str(answers).count("Elsewhere") == 0
    assert (SECRET in str(answers)) == with_prompts


def without_signatures(answer: Data) -> Data:
    unsigned: Data = json.loads(SIGNATURE.sub("", json.dumps(answer)))
    return unsigned


def is_plain(value: object) -> bool:
    return not isinstance(value, dict | list)


async def test_readers_see_the_same_of_copied_turns_as_of_the_original_ones(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    """Images of copies lead to the copies, with their prompts; and neither share shows the other
    conversation.
    """
    done = await conversation_with(client, sourceImageId=(await a_sample(client))["id"])
    conversation_id = done["conversation"]["id"]
    sent = (await send(client, conversation_id, userMessage="Once more"))["turn"]
    await until_finished(client, sent)
    forked = (await fork(client, sent["id"], title="A fork"))["conversation"]["id"]
    own = (await send(client, forked, userMessage=f"Elsewhere: {SECRET}"))["turn"]
    elsewhere = (await until_finished(client, own))["outputs"][0]["image"]["id"]
    # It is a reference in the original, in a turn of the same index.
    await send(client, conversation_id, manualReferenceIds=[elsewhere], previousOutputIds=[])
    text = """
    query($token: String!) { shared(token: $token) { turns(first: 5) { nodes {
      id userMessage
      references { origin image { id prompt turn { id userMessage } output { id } } }
      outputs { image { id prompt turn { id userMessage } output { id } } }
    } } } }
    """
    reader = darkroom.anonymous()

    for with_prompts in (True, False):
        shown = []
        for one in (conversation_id, forked):
            made = await share(client, one, includePrompts=with_prompts)
            answers = [await reader(text, token=made["token"]) for _ in range(2)]  # compiled, too
            assert answers[0] == answers[1]
            shown.append(answers[0]["shared"]["turns"]["nodes"])
        originals, copies = shown

        suffixes = (conversation_id.removeprefix("conv_"), forked.removeprefix("conv_"))
        assert copies[:2] == json.loads(json.dumps(originals[:2]).replace(*suffixes))
        image = copies[1]["outputs"][0]["image"]
        assert image["turn"]["id"] == copies[1]["id"]
        assert image["prompt"] == ("Once more" if with_prompts else None)
        assert copies[1]["references"][0]["image"]["turn"]["id"] == copies[0]["id"]
        # Of what the fork has made, the original shows the picture alone.
        foreign = originals[2]["references"][-1]["image"]
        assert foreign == {"id": elsewhere, "prompt": None, "turn": None, "output": None}
        assert "Elsewhere" not in str(originals)


async def test_a_share_exposes_nothing_outside_its_conversation(
    darkroom: Darkroom, rich: tuple[GraphQLClient, str]
) -> None:
    owner, conversation_id = rich
    made = await share(owner, conversation_id)
    text = """
    query($token: String!) { shared(token: $token) { turns(first: 5) { nodes {
      conversation {
        title turns(first: 5) { nodes { userMessage } } latestTurn { id }
        images(first: 5) { nodes { id } }
      }
      references { image { id prompt favourite turn { userMessage } output { text }
        madeFrom { id } } }
      outputs { turn { userMessage } image { prompt turn { conversation { title } }
        output { text turn { userMessage } } } }
    } } } }
    """
    reader = darkroom.anonymous()

    for _ in range(2):
        (turn,) = (await reader(text, token=made["token"]))["shared"]["turns"]["nodes"]

        assert SECRET not in str(turn)
        source, elsewhere = (one["image"] for one in turn["references"])
        assert (source["turn"], source["output"], source["madeFrom"]) == (None, None, [])
        assert (elsewhere["turn"], elsewhere["output"], elsewhere["favourite"]) == (
            None,
            None,
            False,
        )
        assert turn["outputs"][0]["image"]["turn"] == {"conversation": {"title": ""}}


async def test_a_title_set_by_the_owner_is_shown(darkroom: Darkroom, client: GraphQLClient) -> None:
    done = await conversation_with(client)
    conversation_id = done["conversation"]["id"]
    made = await share(client, conversation_id)
    reader = darkroom.anonymous()
    assert (await reader(READ, token=made["token"]))["shared"]["title"] == ""

    await client(RENAME, id=conversation_id, title="Boats")

    assert (await reader(READ, token=made["token"]))["shared"]["title"] == "Boats"


@pytest.mark.parametrize(
    "query",
    [
        "query($id: ID!) { node(id: $id) { id } }",
        "query($id: ID!) { conversation(id: $id) { id } }",
        "query($id: ID!, $token: String!) { shared(token: $token) { title } node(id: $id) { id } }",
        "{ viewer { id } }",
        "query($token: String!) { shared(token: $token) { title } viewer { shares { id } } }",
        'mutation($id: ID!) { renameConversation(input: {conversationId: $id, title: "x"}) '
        "{ conversation { id } } }",
    ],
)
async def test_all_other_fields_are_refused_without_a_token(
    darkroom: Darkroom, client: GraphQLClient, query: str
) -> None:
    done = await conversation_with(client)
    conversation_id = done["conversation"]["id"]
    made = await share(client, conversation_id)

    given = {"id": conversation_id, "token": made["token"]}
    answer = await darkroom.anonymous().execute(
        query, **{name: value for name, value in given.items() if f"${name}" in query}
    )

    assert answer["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


# ---------------------------------------------------------------- live


async def test_anyone_can_subscribe_to_a_share_over_websocket(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    done = await conversation_with(client)
    conversation_id = done["conversation"]["id"]
    made = await share(client, conversation_id)

    async with (
        darkroom.anonymous().subscribe(FOLLOW_SHARED, token=made["token"]) as updates,
        darkroom.anonymous().subscribe(FOLLOW_SHARED, token=made["token"]) as others,
        darkroom.client().subscribe(FOLLOW_SHARED, token=made["token"]) as third,
    ):
        first = [await one.next() for one in (updates, others, third)]
        sent = (await send(client, conversation_id, userMessage=SECRET))["turn"]
        seen = [
            await one.until(
                lambda data: (
                    data["sharedTurnUpdated"]["turn"]["id"] == sent["id"]
                    and data["sharedTurnUpdated"]["turn"]["status"] == "COMPLETED"
                )
            )
            for one in (updates, others, third)
        ]

    states = [data["sharedTurnUpdated"]["turn"] for data in first]
    assert states[0] == states[1] == states[2]
    assert seen[0][-1]["sharedTurnUpdated"]["turn"]["outputs"][0]["images"]
    assert seen[0][-1] == seen[1][-1] == seen[2][-1]
    assert SECRET not in str(seen)
    # From a cursor, what is newer comes again.
    after = first[0]["sharedTurnUpdated"]["cursor"]
    async with darkroom.anonymous().subscribe(
        FOLLOW_SHARED, token=made["token"], after=after
    ) as again:
        assert (await again.next())["sharedTurnUpdated"]["turn"]["id"] == sent["id"]


async def test_anyone_can_subscribe_to_a_share_over_http(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    done = await conversation_with(client)
    made = await share(client, done["conversation"]["id"])
    reader = darkroom.anonymous()

    async with (
        streaming(reader, FOLLOW_SHARED, token=made["token"]) as events,
        streaming(reader, FOLLOW_SHARED, accept=PARTS, token=made["token"]) as parts,
    ):
        update = await events.next()
        await parts.until(b"--graphql")
        part = (await parts.part())["payload"]["data"]
        robots = [one.response.headers["x-robots-tag"] for one in (events, parts)]

        assert update["sharedTurnUpdated"]["turn"]["id"] == done["turn"]["id"]
        assert part["sharedTurnUpdated"]["turn"] == update["sharedTurnUpdated"]["turn"]
        assert robots == ["noindex", "noindex"]


async def test_subscribers_of_turns_receive_new_turns_after_the_last_one_was_deleted(
    client: GraphQLClient,
) -> None:
    """Only `conversationUpdated` says that there is none left."""
    done = await conversation_with(client)
    conversation_id = done["conversation"]["id"]
    token = (await share(client, conversation_id))["token"]

    async with (
        client.subscribe(FOLLOW, id=conversation_id) as before,
        client.subscribe(COUNT, id=conversation_id) as conversation,
    ):
        await before.next()
        await conversation.next()
        assert (await delete_turn(client, done["turn"]["id"]))["userErrors"] == []
        left = await conversation.next()
        async with (
            client.subscribe(FOLLOW, id=conversation_id) as after,
            client.subscribe(FOLLOW, id=conversation_id, after=done["cursor"]) as resumed,
            client.subscribe(FOLLOW_SHARED, token=token) as reader,
        ):
            sent = (await send(client, conversation_id))["turn"]
            seen = [await one.next() for one in (before, after, resumed)]
            read_by_reader = await reader.next()

    assert left["conversationUpdated"]["turnCount"] == 0
    assert {one["turnUpdated"]["turn"]["id"] for one in seen} == {sent["id"]}
    assert read_by_reader["sharedTurnUpdated"]["turn"]["id"] == sent["id"]
    assert sent["turnIndex"] == 1


async def revoke(client: GraphQLClient, made: Data) -> None:
    data = await client(REVOKE, id=made["id"])
    assert data["revokeShare"] == {"revokedShareId": made["id"], "userErrors": []}


async def delete_conversation(client: GraphQLClient, made: Data) -> None:
    await client(DELETE, id=made["conversation"]["id"])


async def delete_viewer(client: GraphQLClient, made: Data) -> None:
    await client(DELETE_VIEWER, id=(await client("{ viewer { id } }"))["viewer"]["id"])


@pytest.mark.parametrize("end", [revoke, delete_conversation, delete_viewer])
async def test_ending_a_share_ends_the_subscriptions_of_all_its_readers(
    start_darkroom: StartDarkroom, end: Any
) -> None:
    """In whichever process they are."""
    one, other = await start_darkroom(), await start_darkroom()
    owner = one.client("the owner")
    done = await conversation_with(owner)
    made = await share(owner, done["conversation"]["id"])
    others = await share(owner, done["conversation"]["id"])
    readers = [room.anonymous() for room in (one, other)]

    async with (
        readers[0].subscribe(FOLLOW_SHARED, token=made["token"]) as first,
        readers[1].subscribe(FOLLOW_SHARED, token=made["token"]) as second,
        readers[1].subscribe(FOLLOW_SHARED, token=others["token"]) as unconcerned,
        streaming(readers[1], FOLLOW_SHARED, token=made["token"]) as events,
    ):
        for updates in (first, second, unconcerned):
            await updates.next()
        await events.next()
        await end(owner, made)

        assert await first.completed() == []
        assert await second.completed() == []
        assert (await events.event())[0] == "complete"
        if end is revoke:
            sent = await send(owner, done["conversation"]["id"])
            update = (await unconcerned.next())["sharedTurnUpdated"]
            assert update["turn"]["id"] == sent["turn"]["id"]

    for reader in readers:
        assert await reader(READ, token=made["token"]) == {"shared": None}
        async with reader.subscribe(FOLLOW_SHARED, token=made["token"]) as updates:
            message = await updates.message()
            assert message["payload"][0]["extensions"]["code"] == "NOT_FOUND"


async def test_a_share_expires_at_its_time(darkroom: Darkroom, client: GraphQLClient) -> None:
    done = await conversation_with(client)
    ends_at = datetime.now(UTC) + timedelta(seconds=5)
    made = await share(client, done["conversation"]["id"], expiresAt=ends_at.isoformat())
    reader = darkroom.anonymous()

    async with reader.subscribe(FOLLOW_SHARED, token=made["token"]) as updates:
        read = (await reader(READ, token=made["token"]))["shared"]
        await updates.next()
        assert await updates.completed() == []

    assert datetime.now(UTC) >= ends_at
    assert read["expiresAt"] == made["expiresAt"]
    assert await reader(READ, token=made["token"]) == {"shared": None}
    assert (await client(SHARES))["viewer"]["shares"] == []


# ---------------------------------------------------------------- the owner's side


async def test_the_owner_can_list_the_links_at_any_time(client: GraphQLClient) -> None:
    done = await conversation_with(client)
    first = await share(client, done["conversation"]["id"])
    second = await share(client, done["conversation"]["id"], includePrompts=True)

    listed = (await client(SHARES))["viewer"]["shares"]
    assert [{**one, "token": one["url"].rpartition("/")[2]} for one in listed] == [second, first]

    await revoke(client, second)

    assert [one["id"] for one in (await client(SHARES))["viewer"]["shares"]] == [first["id"]]
    again = (await client(REVOKE, id=second["id"]))["revokeShare"]
    assert codes(again) == [("NOT_FOUND", "shareId")]


async def test_a_foreign_conversation_can_be_neither_shared_nor_revoked(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    done = await conversation_with(client)
    made = await share(client, done["conversation"]["id"])
    stranger = darkroom.client()

    created = await stranger(CREATE, input={"conversationId": done["conversation"]["id"]})
    revoked = await stranger(REVOKE, id=made["id"])

    assert codes(created["createShare"]) == [("NOT_FOUND", "conversationId")]
    assert codes(revoked["revokeShare"]) == [("NOT_FOUND", "shareId")]
    assert (await stranger(SHARES))["viewer"]["shares"] == []


async def test_all_user_errors_of_a_share_are_returned_at_once(client: GraphQLClient) -> None:
    wanted = {"conversationId": "conv_nothing", "expiresAt": "2020-01-01T00:00:00Z"}

    payload = (await client(CREATE, input=wanted))["createShare"]

    assert codes(payload) == [("EXPIRY_INVALID", "expiresAt"), ("NOT_FOUND", "conversationId")]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("2999-01-01T00:00:00", "2999-01-01T00:00:00.000Z"),
        ("2999-01-01T02:00:00+02:00", "2999-01-01T00:00:00.000Z"),
        ("2999-01-01", "2999-01-01T00:00:00.000Z"),
    ],
)
async def test_a_time_without_a_zone_is_in_utc(
    client: GraphQLClient, given: str, read: str
) -> None:
    done = await conversation_with(client)

    assert (await share(client, done["conversation"]["id"], expiresAt=given))["expiresAt"] == read


@pytest.mark.parametrize("given", ["0001-01-01T00:00:00+14:00", "soon", 7, ""])
async def test_an_invalid_expiry_time_is_refused(client: GraphQLClient, given: object) -> None:
    answer = await client.execute(CREATE, input={"conversationId": "conv_x", "expiresAt": given})

    assert answer["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"


async def test_the_number_of_shares_is_limited(client: GraphQLClient) -> None:
    """Also where the last ones are created at once: all of them would wait for one another longer
    than an operation may take.
    """
    done = await conversation_with(client)
    wanted = {"conversationId": done["conversation"]["id"], "includePrompts": None}
    for _ in range(MAX_SHARES_OF_CONVERSATION - 3):
        assert (await client(CREATE, input=wanted))["createShare"]["userErrors"] == []

    answers = await asyncio.gather(*(client(CREATE, input=wanted) for _ in range(3 + 5)))

    refused = [one["createShare"] for one in answers if one["createShare"]["userErrors"]]
    assert len(refused) == 5
    assert codes(refused[0]) == [("TOO_MANY_SHARES", "conversationId")]


async def test_concurrent_views_of_a_share_are_all_counted(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    done = await conversation_with(client)
    made = await share(client, done["conversation"]["id"])
    reader = darkroom.anonymous()
    text = "query($token: String!) { shared(token: $token) { title } }"

    await asyncio.gather(*(reader(text, token=made["token"]) for _ in range(50)))

    assert (await client(SHARES))["viewer"]["shares"][0]["views"] == 50


@pytest.mark.parametrize("change", [lambda t: t[:-1], lambda t: t + "A", lambda t: t.swapcase()])
async def test_a_forged_share_token_finds_nothing(
    darkroom: Darkroom, client: GraphQLClient, change: Any
) -> None:
    done = await conversation_with(client)
    made = await share(client, done["conversation"]["id"])
    reader = darkroom.anonymous()

    for token in (change(made["token"]), "", "é", made["id"], "x" * 10_000):
        assert await reader(READ, token=token) == {"shared": None}


async def test_search_engines_are_asked_not_to_index_shares(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    done = await conversation_with(client)
    made = await share(client, done["conversation"]["id"])
    reader = darkroom.anonymous()

    page = await reader.http.get(made["url"].replace(darkroom.settings.public_url, darkroom.url))
    answer = await reader.post({"query": READ, "variables": {"token": made["token"]}})
    studio = await reader.http.get("/studio/")

    assert (page.status_code, page.headers["x-robots-tag"]) == (200, "noindex")
    assert answer.headers["x-robots-tag"] == "noindex"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "x-robots-tag" not in studio.headers


# ---------------------------------------------------------------- sockets without a token


async def test_a_socket_without_a_token_runs_operations_that_need_none(darkroom: Darkroom) -> None:
    async with darkroom.anonymous().socket() as socket:
        models = await (await socket.subscribe("{ models { id } }")).next()
        assert models["models"]
        assert (await socket.receive())["type"] == "complete"

        await socket.subscribe(FOLLOW, id="conv_00000000000000000000000000")

        assert await socket.closed_with() == 4403


async def test_a_socket_without_a_token_is_closed_at_a_second_connection_init(
    darkroom: Darkroom,
) -> None:
    async with connect_to(darkroom.url) as connection:
        socket = Socket(connection)
        await socket.send(type="connection_init")
        assert (await socket.receive())["type"] == "connection_ack"
        payload = {"authorization": f"Bearer {darkroom.token('ana')}"}
        await socket.send(type="connection_init", payload=payload)

        assert await socket.closed_with() == 4403


async def test_shares_of_a_blocked_viewer_cannot_be_read(
    start_darkroom: StartDarkroom, mongodb_uri: str
) -> None:
    darkroom = await start_darkroom()
    owner, reader = darkroom.client("the owner"), darkroom.anonymous()
    owner_id = (await owner("{ viewer { id } }"))["viewer"]["id"]
    done = await conversation_with(owner)
    made = await share(owner, done["conversation"]["id"])
    assert (await reader(READ, token=made["token"]))["shared"]

    async with open_database(mongodb_uri, darkroom.settings.mongodb_database) as database:
        await MongoViewerRepository(database).block(owner_id, reason=None)

    async def shows_nothing() -> bool:
        return await reader(READ, token=made["token"]) == {"shared": None}

    await eventually(shows_nothing, within=30, what="the share shows nothing")
