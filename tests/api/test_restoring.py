"""Restoring deleted conversations, if the operator keeps them for some days."""

from typing import Any, Final

import pytest

from domain.images import shard_of
from storage.mongo.database import open_database
from storage.mongo.referenced_objects import MongoReferencedObjectRepository
from tests.api.test_branches import delete_turn, fork
from tests.api.test_deleting_everything import keys
from tests.api.test_exports import collection
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom, StartDarkroom
from tests.operations import (
    DELETE,
    DELETE_IMAGE,
    DELETE_VIEWER,
    FOLLOW,
    GALLERY,
    TURN,
    codes,
    conversation_with,
    send,
    start,
)
from tests.uploads import uploaded

RESTORE: Final = """
mutation Restore($id: ID!) {
  restoreConversation(input: {conversationId: $id}) {
    conversation { id title turnCount } userErrors { code message path }
  }
}
"""
READ: Final = (
    "query($id: ID!) { conversation(id: $id) { title turnCount turns { nodes { ...Turn } } } }"
    + TURN
)


async def restore(client: GraphQLClient, conversation_id: str) -> Data:
    payload: Data = (await client(RESTORE, id=conversation_id))["restoreConversation"]
    return payload


async def gallery(client: GraphQLClient) -> list[str]:
    nodes = (await client(GALLERY, first=100))["viewer"]["images"]["nodes"]
    return [one["id"] for one in nodes]


def without_links(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: without_links(inner)
            for name, inner in value.items()
            if name not in ("url", "urlExpiresAt")
        }
    return [without_links(one) for one in value] if isinstance(value, list) else value


async def test_a_restored_conversation_is_as_it_was(start_darkroom: StartDarkroom) -> None:
    darkroom = await start_darkroom(restore_days=7)
    client = darkroom.client()
    source = (await uploaded(client))["id"]
    done = await conversation_with(client, turns=2, sourceImageId=source)
    conversation_id = done["conversation"]["id"]
    before = (await client(READ, id=conversation_id))["conversation"]
    images, stored = await gallery(client), await keys(darkroom)

    await client(DELETE, id=conversation_id)

    assert (await client(READ, id=conversation_id))["conversation"] is None
    made = {
        image["id"] for turn in before["turns"]["nodes"] for image in turn["outputs"][0]["images"]
    }
    assert set(await gallery(client)) == set(images) - made
    assert not await orphans(darkroom)
    payload = await restore(client, conversation_id)
    assert payload == {
        "conversation": {"id": conversation_id, "title": "A boat", "turnCount": 2},
        "userErrors": [],
    }
    after = (await client(READ, id=conversation_id))["conversation"]
    assert without_links(after) == without_links(before)
    assert await gallery(client) == images
    assert await keys(darkroom) == stored
    assert codes(await restore(client, conversation_id)) == [("NOT_RESTORABLE", "conversationId")]
    async with collection(darkroom, "trash") as trash:
        assert await trash.count_documents({}) == 0
    # It continues, and can be deleted again.
    assert (await send(client, conversation_id))["turn"]["turnIndex"] == 2
    await client(DELETE, id=conversation_id)
    assert (await restore(client, conversation_id))["userErrors"] == []


async def orphans(darkroom: Darkroom) -> set[str]:
    """What orphan collection would delete once it is old."""
    settings = darkroom.settings
    assert settings.mongodb_uri is not None
    async with open_database(
        settings.mongodb_uri.get_secret_value(), settings.mongodb_database
    ) as database:
        referenced = MongoReferencedObjectRepository(database)
        stored = {key for key in await keys(darkroom) if not key.startswith("uploads/")}
        for shard in {shard_of(key) for key in stored}:
            stored -= (await referenced.read_shard(shard)).kept
    return stored


async def test_a_conversation_whose_turns_were_deleted_is_restored_empty(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom(restore_days=7)
    client = darkroom.client()
    done = await conversation_with(client)
    conversation_id = done["conversation"]["id"]
    assert (await delete_turn(client, done["turn"]["id"]))["userErrors"] == []
    await client(DELETE, id=conversation_id)

    payload = await restore(client, conversation_id)

    assert (payload["userErrors"], payload["conversation"]["turnCount"]) == ([], 0)
    assert (await client(READ, id=conversation_id))["conversation"]["turns"]["nodes"] == []


async def test_outputs_that_were_running_are_restored_as_cancelled(
    start_darkroom: StartDarkroom,
) -> None:
    client = (await start_darkroom(restore_days=1)).client()
    started = await start(client, selectedModels=["rehearsal-slow"], options={"previews": 3})
    async with client.subscribe(FOLLOW, id=started["conversation"]["id"]) as updates:
        await updates.until(lambda data: data["turnUpdated"]["turn"]["outputs"][0]["preview"])
    credits_before = (await client("{ viewer { credits { available } } }"))["viewer"]["credits"]
    conversation_id = started["conversation"]["id"]

    await client(DELETE, id=conversation_id)
    await restore(client, conversation_id)

    conversation = (await client(READ, id=conversation_id))["conversation"]
    (turn,) = conversation["turns"]["nodes"]
    assert (turn["status"], turn["outputs"][0]["status"]) == ("CANCELLED", "CANCELLED")
    assert turn["completedAt"]
    assert turn["outputs"][0]["preview"] is None  # its bytes are deleted
    viewer = (await client("{ viewer { credits { reserved available } } }"))["viewer"]
    assert viewer["credits"]["reserved"] == 0
    assert viewer["credits"]["available"] >= credits_before["available"]


@pytest.mark.parametrize("how", ["forked", "started from its image", "masked by its image"])
async def test_conversations_that_share_images_can_be_restored_in_any_order(
    start_darkroom: StartDarkroom, how: str
) -> None:
    """Whichever was deleted first, and whether or not the other one is restored."""
    client = (await start_darkroom(restore_days=1)).client()
    first = await conversation_with(client)
    image = first["turn"]["outputs"][0]["image"]["id"]
    if how == "forked":
        forked = await fork(client, first["turn"]["id"])
        second = forked["conversation"]["id"]
    else:
        given: Data = {"mask": {"imageId": image}} if how.startswith("masked") else {}
        done = await conversation_with(client, sourceImageId=image, **given)
        second = done["conversation"]["id"]
    ids = [first["conversation"]["id"], second]
    before = [(await client(READ, id=one))["conversation"] for one in ids]
    images = await gallery(client)
    for deleted, restored in ((ids[::-1], ids[::-1]), (ids, ids), (ids[::-1], ids)):
        for one in deleted:
            await client(DELETE, id=one)
        for one in restored:
            assert (await restore(client, one))["userErrors"] == []

        after = [(await client(READ, id=one))["conversation"] for one in ids]
        assert without_links(after) == without_links(before)
        assert await gallery(client) == images


async def test_a_conversation_is_restored_only_if_the_images_it_refers_to_exist(
    start_darkroom: StartDarkroom,
) -> None:
    client = (await start_darkroom(restore_days=1)).client()
    source = (await uploaded(client))["id"]
    done = await conversation_with(client, sourceImageId=source)
    conversation_id = done["conversation"]["id"]
    await client(DELETE, id=conversation_id)
    deleted = (await client(DELETE_IMAGE, id=source))["deleteImage"]

    assert deleted["userErrors"] == []
    for _ in range(2):
        assert codes(await restore(client, conversation_id)) == [
            ("NOT_RESTORABLE", "conversationId")
        ]


async def test_an_expired_or_foreign_conversation_cannot_be_restored(
    start_darkroom: StartDarkroom, darkroom: Darkroom, client: GraphQLClient
) -> None:
    own = await start_darkroom(restore_days=1)
    owner, stranger = own.client(), own.client()
    done = await conversation_with(owner)
    conversation_id = done["conversation"]["id"]
    await conversation_with(stranger)
    await owner(DELETE, id=conversation_id)

    for other in (stranger, own.client("who has done nothing yet")):
        assert codes(await restore(other, conversation_id)) == [
            ("NOT_RESTORABLE", "conversationId")
        ]
    async with collection(own, "trash") as trash:
        await trash.update_many({}, [{"$set": {"until": {"$subtract": ["$$NOW", 1000]}}}])
    assert codes(await restore(owner, conversation_id)) == [("NOT_RESTORABLE", "conversationId")]
    assert codes(await restore(owner, "conv_nothing")) == [("NOT_FOUND", "conversationId")]
    # Without the setting, nothing is kept.
    gone = await conversation_with(client)
    await client(DELETE, id=gone["conversation"]["id"])
    assert codes(await restore(client, gone["conversation"]["id"])) == [
        ("NOT_RESTORABLE", "conversationId")
    ]
    async with collection(darkroom, "trash") as trash:
        assert await trash.count_documents({}) == 0


async def test_a_deleted_viewers_restorable_conversations_are_deleted(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom(restore_days=7)
    client = darkroom.client()
    done = await conversation_with(client)
    await client(DELETE, id=done["conversation"]["id"])

    await client(DELETE_VIEWER, id=(await client("{ viewer { id } }"))["viewer"]["id"])

    async with collection(darkroom, "trash") as trash:
        assert await trash.count_documents({}) == 0
    assert await keys(darkroom) == set()


async def test_restorable_conversations_are_listed(start_darkroom: StartDarkroom) -> None:
    darkroom = await start_darkroom(restore_days=7)
    client = darkroom.client()
    first = await conversation_with(client, userMessage="First")
    second = await conversation_with(client, userMessage="Second")
    listed = "{ viewer { limits { restoreDays } deletedConversations { id title turnCount } } }"
    assert (await client(listed))["viewer"]["deletedConversations"] == []

    for one in (first, second):
        await client(DELETE, id=one["conversation"]["id"])

    viewer = (await client(listed))["viewer"]
    assert viewer["limits"]["restoreDays"] == 7
    titles = [one["title"] for one in viewer["deletedConversations"]]
    assert titles == ["Second", "First"]
    assert (await darkroom.client()(listed))["viewer"]["deletedConversations"] == []
    await restore(client, second["conversation"]["id"])
    titles = [one["title"] for one in (await client(listed))["viewer"]["deletedConversations"]]
    assert titles == ["First"]
