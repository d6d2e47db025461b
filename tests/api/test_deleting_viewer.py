"""Deleting a viewer: nothing of theirs remains, and the same person returns as a new viewer."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from bson import json_util

from assembly.objects import open_objects
from domain.cleanup.reconciliation import ObjectReconciler
from domain.images import SHARDS
from domain.signing import Signer
from edge.auth import LEEWAY
from settings import secret_of
from storage.mongo.accounts import MongoAccountRepository
from storage.mongo.database import Database, open_database
from storage.mongo.erasures import MongoErasureRepository
from storage.mongo.referenced_objects import MongoReferencedObjectRepository
from tests.api.test_deleting_everything import (
    CLEARED_SECONDS,
    PAUSE_SECONDS,
    darkroom,
    in_ceph,
    in_folder,
    keys,
    make_everything,
)
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom, StartDarkroom
from tests.operations import (
    DELETE_VIEWER,
    FOLLOW,
    GALLERY,
    SEND,
    SMALL,
    START,
    conversation_with,
    samples,
    start,
)
from tests.uploads import COMPLETE, CREATE, a_picture, declared, send_file, sent, uploaded
from tests.waits import eventually

__all__ = ("darkroom", "in_ceph", "in_folder")

SETTLED_SECONDS = 45.0
"""A look at all shards takes seconds on a busy machine."""
VIEWER = """{ viewer {
  id credits { balance reserved } limits { activeOutputs }
  conversations { nodes { id } } images { nodes { id origin } } prompts { nodes { id } }
} }"""
CREDITS = "subscription { viewerUpdated { credits { balance } } }"
TITLE = "subscription($id: ID!) { conversationUpdated(conversationId: $id) { title } }"


async def viewer_of(client: GraphQLClient) -> Data:
    viewer: Data = (await client(VIEWER))["viewer"]
    return viewer


async def delete_viewer(client: GraphQLClient, viewer_id: str) -> Data:
    payload: Data = (await client(DELETE_VIEWER, id=viewer_id))["deleteViewer"]
    return payload


async def documents_with(database: Database, text: str) -> list[str]:
    """Documents of any collection that contain the text, wherever it is."""
    found = []
    for name in await database.commands.list_collection_names():
        async for document in database.collection(name).find({}):
            if text in json.dumps(document, default=json_util.default):
                found.append(f"{name}: {document['_id']}")
    return found


async def until_erased(database: Database, viewer_id: str) -> None:
    """Until no document names the viewer: a response does not wait long for a deletion's end."""

    async def erased() -> bool:
        return await documents_with(database, viewer_id) == []

    await eventually(erased, within=CLEARED_SECONDS, what="no record is left", every=PAUSE_SECONDS)


@pytest.fixture
async def stored(darkroom: Darkroom) -> AsyncIterator[Database]:
    async with database_of(darkroom) as database:
        yield database


def database_of(darkroom: Darkroom) -> Any:
    settings = darkroom.settings
    assert settings.mongodb_uri
    return open_database(settings.mongodb_uri.get_secret_value(), settings.mongodb_database)


# Deleting everything is tried on Ministack too.
@pytest.mark.parametrize("darkroom", ["in_folder", "in_ceph"], indirect=True)
async def test_deleting_a_viewer_deletes_all_records_and_objects(
    darkroom: Darkroom, stored: Database
) -> None:
    other = darkroom.client("bea")
    await samples(other)
    await conversation_with(other)
    others, others_documents = await keys(darkroom), await viewer_of(other)
    client = darkroom.client("ana")
    await make_everything(client)
    await sent(client, a_picture())
    await start(client, options=SMALL, idempotencyKey="once")
    before = await viewer_of(client)
    lines = await stored.ledger.count_documents({"ownerId": before["id"]})
    assert lines > 20
    assert len(await documents_with(stored, before["id"])) > lines + 20

    deleted = await delete_viewer(client, before["id"])

    assert deleted == {"deletedViewerId": before["id"], "userErrors": []}
    await until_erased(stored, before["id"])
    for conversation in before["conversations"]["nodes"]:
        suffix = conversation["id"].removeprefix("conv_")
        assert await documents_with(stored, suffix) == []
    erased = await stored.ledger.count_documents({"ownerId": {"$regex": "^erased_"}})
    assert erased >= lines
    proof = await MongoAccountRepository(stored).prove()
    assert proof.discrepancies == ()
    assert await viewer_of(other) == others_documents

    async def cleared() -> bool:
        # A running worker notices at its next write, and deletes what it has stored meanwhile.
        return await keys(darkroom) == others

    await eventually(cleared, within=CLEARED_SECONDS, what="nothing is left", every=PAUSE_SECONDS)
    again = await viewer_of(client)
    assert again["id"] == before["id"]
    assert again["credits"] == {"balance": 10_000, "reserved": 0}
    assert again["limits"] == {"activeOutputs": 0}
    assert again["conversations"]["nodes"] == again["prompts"]["nodes"] == []
    assert {image["origin"] for image in again["images"]["nodes"]} == {"SAMPLE"}
    started = await start(client, options=SMALL, idempotencyKey="once")
    assert started["userErrors"] == []


async def test_deleting_a_viewer_needs_the_viewers_id_as_confirmation(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom()
    client, other = darkroom.client("ana"), darkroom.client("bea")
    await start(client)
    own, foreign = await viewer_of(client), await viewer_of(other)
    unknown = "user_00000000000000000000000000"

    names = [unknown, foreign["id"], "", "ana", own["id"].upper(), f" {own['id']}", own["id"][:-1]]
    refused = [await delete_viewer(client, name) for name in names]

    assert all(one == refused[0] for one in refused)
    assert [(one["code"], one["path"][-1]) for one in refused[0]["userErrors"]] == [
        ("NOT_FOUND", "viewerId")
    ]
    assert (await viewer_of(client))["conversations"] == own["conversations"]
    assert (await viewer_of(other))["images"] == foreign["images"]
    answer = await darkroom.anonymous().execute(DELETE_VIEWER, id=own["id"])
    assert answer["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_concurrent_requests_delete_a_viewer_once(start_darkroom: StartDarkroom) -> None:
    first, second = await start_darkroom(), await start_darkroom()
    clients = [first.client("ana"), second.client("ana")]
    await conversation_with(clients[0])
    own = (await viewer_of(clients[0]))["id"]

    payloads = await asyncio.gather(
        *(delete_viewer(client, own) for client in clients for _ in range(3))
    )

    assert {payload["deletedViewerId"] for payload in payloads} == {own}
    async with database_of(first) as stored:
        await until_erased(stored, own)
        assert (await MongoAccountRepository(stored).prove()).discrepancies == ()


async def test_deleting_a_viewer_closes_open_sockets_in_every_process(
    start_darkroom: StartDarkroom,
) -> None:
    """After the subscriptions have completed. Sockets of other viewers stay open."""
    near, far = await start_darkroom(), await start_darkroom()
    client, elsewhere, other = near.client("ana"), far.client("ana"), near.client("bea")
    conversation = (await conversation_with(client))["conversation"]["id"]
    own = (await viewer_of(client))["id"]
    await viewer_of(other)

    async with (
        client.socket() as mine,
        elsewhere.socket() as idle,
        elsewhere.subscribe(CREDITS) as money,
        client.subscribe(FOLLOW, id=conversation) as follow,
        client.subscribe(TITLE, id=conversation) as title,
        other.subscribe(CREDITS) as others,
    ):
        for subscription in (money, follow, title, others):
            await subscription.next()
        deletion = await mine.subscribe(DELETE_VIEWER, id=own)

        assert (await deletion.next())["deleteViewer"]["deletedViewerId"] == own
        assert await deletion.completed() == []
        for subscription in (money, follow, title):
            await subscription.completed()
        for socket in (mine, idle, money.socket, follow.socket, title.socket):
            assert await socket.closed_with() == 4403
        await others.socket.send(type="ping")
        assert await others.socket.receive() == {"type": "pong"}
    async with database_of(near) as stored:
        await until_erased(stored, own)


async def test_requests_during_a_deletion_have_their_whole_effect_or_none(
    start_darkroom: StartDarkroom,
) -> None:
    """What comes too early is deleted, what comes later is the new viewer's: no bytes without a
    record, no record without bytes, and the credits are right.
    """
    near, far = await start_darkroom(), await start_darkroom()
    own = (await viewer_of(near.client("ana")))["id"]
    ended = asyncio.Event()
    codes, answers = set[str](), 0

    async def go_on(client: GraphQLClient, query: str, **variables: object) -> Data | None:
        nonlocal answers
        answer = await client.execute(query, **variables)
        answers += 1
        await asyncio.sleep(0.05)  # a deletion needs the processor, too
        codes.update(error["extensions"]["code"] for error in answer.get("errors", ()))
        return answer.get("data")

    async def converse(client: GraphQLClient) -> None:
        while not ended.is_set():
            turn = {"userMessage": "A boat", "selectedModels": ["local-silver"], "options": SMALL}
            await go_on(client, START, input=turn)
            await go_on(client, VIEWER)

    async def bring(client: GraphQLClient) -> None:
        picture = a_picture()
        while not ended.is_set():
            data = await go_on(client, CREATE, files=[declared(picture)])
            for upload in (data or {}).get("createUploads", {}).get("uploads") or ():
                await send_file(upload, picture)
                await go_on(client, COMPLETE, id=upload["id"])

    working = [
        asyncio.create_task(work(one.client("ana")))
        for one in (near, far)
        for work in (converse, bring)
    ]
    for one in (near, far, near):
        wanted = answers + 20

        async def have_gone_on(wanted: int = wanted) -> bool:
            return answers >= wanted

        await eventually(have_gone_on, within=30, what="others get ahead")
        payload = await delete_viewer(one.client("ana"), own)
        assert payload["deletedViewerId"] == own
    ended.set()
    await asyncio.gather(*working)

    assert (await delete_viewer(near.client("ana"), own))["deletedViewerId"] == own
    assert codes <= {"OVERLOADED", "RATE_LIMITED", "DEADLINE_EXCEEDED"}
    missing, orphans = set[str](), set[str]()
    async with _opened(near) as (stored, reconciler):
        await until_erased(stored, own)
        assert (await MongoAccountRepository(stored).prove()).discrepancies == ()

        async def at_rest() -> bool:
            # A running worker notices at its next write, and deletes what it has stored meanwhile.
            found = [await reconciler.compare(shard) for shard in SHARDS]
            missing.clear()
            missing.update(key for one in found for key in one.missing)
            orphans.clear()
            orphans.update(stored.key for one in found for stored in one.orphans)
            # A file that was sent to its URL after the deletion is the orphan collection's.
            orphans.difference_update({key for key in orphans if key.startswith("uploads/")})
            return not missing | orphans

        with suppress(AssertionError):
            await eventually(
                at_rest,
                within=SETTLED_SECONDS,
                what="objects and records agree",
                every=4 * PAUSE_SECONDS,
            )
    assert missing == set()
    # What takes longer to delete than ImageWriter waits is the orphan collection's as well.
    assert len(orphans) <= 1, orphans


@asynccontextmanager
async def _opened(darkroom: Darkroom) -> AsyncIterator[tuple[Database, ObjectReconciler]]:
    signer = Signer(secret_of(darkroom.settings))
    async with (
        database_of(darkroom) as stored,
        open_objects(darkroom.settings, signer) as (objects, _),
    ):
        yield stored, ObjectReconciler(objects, MongoReferencedObjectRepository(stored))


@pytest.mark.usefixtures("hasty")
async def test_another_process_finishes_an_interrupted_deletion(
    start_darkroom: StartDarkroom,
) -> None:
    """Until then nothing new is created, so that it deletes nothing of a returning viewer."""
    darkroom = await start_darkroom()
    client = darkroom.client("ana")
    started = await conversation_with(client)
    await uploaded(client)
    own = (await viewer_of(client))["id"]
    async with database_of(darkroom) as stored:
        erasures = MongoErasureRepository(stored)
        await erasures.begin(own, lease=timedelta(minutes=5))
        await erasures.anonymise_ledger(own, limit=1)
        refused = [
            await client.execute(query, **variables)
            for query, variables in (
                (SEND, {"input": _edit(started["conversation"]["id"])}),
                ("{ viewer { credits { balance } } }", {}),
                (
                    'mutation { createUploads(input: {files: [{contentType: "image/png", '
                    "byteSize: 9}]}) { uploads { id } } }",
                    {},
                ),
            )
        ]
        assert [answer["errors"][0]["extensions"]["code"] for answer in refused] == [
            "OVERLOADED"
        ] * len(refused)
        assert (await MongoAccountRepository(stored).prove()).discrepancies == ()

        await erasures.renew(own, lease=-LEEWAY)

        async def finished() -> bool:
            return await documents_with(stored, own) == []

        await eventually(
            finished, within=60, what="another process finishes it", every=PAUSE_SECONDS
        )
        assert (await MongoAccountRepository(stored).prove()).discrepancies == ()
    assert (await client(GALLERY))["viewer"]["images"]["nodes"] == []


def _edit(conversation_id: str) -> Data:
    return {"conversationId": conversation_id, "userMessage": "Sepia", "options": SMALL}
