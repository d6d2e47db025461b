"""The owner is in every filter of a viewer's reads and writes: it is the shard key.

Found by watching the commands that the driver sends, so that no filter can be forgotten.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import monitoring

from domain.conflicts import Conflict
from domain.errors import UserError, UserErrorCode
from domain.idempotency import IdempotencyKey
from domain.ids import new_conversation_id, new_upload_id, prompt_id_of
from domain.images import new_key
from domain.pages import PageRequest
from domain.references import Reference, ReferenceOrigin
from domain.uploads import DeclaredFile, Upload
from storage.mongo.accounts import MongoAccountRepository
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Database, open_database
from storage.mongo.idempotency import MongoIdempotencyRepository
from storage.mongo.images import MongoImageRepository
from storage.mongo.prompts import MongoPromptRepository
from storage.mongo.turns import MongoTurnRepository
from storage.mongo.uploads import MongoUploadRepository
from storage.mongo.viewers import MongoViewerRepository
from tests.storage.builders import ANA, MANY, a_picture, a_plan

KEY = IdempotencyKey("key", "startConversation", "…")
OWNED = {"conversations", "turns", "images", "prompts", "uploads", "idempotency", "ledger"}
BY_OWNER = {"accounts", "viewers"}
"""Their `_id` is the owner's."""


class Filters(monitoring.CommandListener):
    """The filters of all commands, with the collections that they are for."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, Mapping[str, Any]]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        command, name = event.command, event.command_name
        for query in _filters_of(name, command):
            self.seen.append((name, command[name], query))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


def _filters_of(name: str, command: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    match name:
        case "find":
            yield command["filter"]
        case "findAndModify" | "distinct":
            yield command["query"]
        case "update":
            yield from (one["q"] for one in command["updates"])
        case "delete":
            yield from (one["q"] for one in command["deletes"])
        case "aggregate":
            yield command["pipeline"][0].get("$match", {})


@pytest.fixture
async def watched(database: Database, mongodb_uri: str) -> AsyncIterator[tuple[Database, Filters]]:
    """The test's database by a client of its own, with a listener."""
    filters = Filters()
    monitoring.register(filters)
    try:
        async with open_database(mongodb_uri, database.commands.name) as opened:
            yield opened, filters
    finally:
        monitoring._LISTENERS.command_listeners.remove(filters)  # there is no public way


async def test_every_filter_names_the_owner(watched: tuple[Database, Filters]) -> None:
    database, filters = watched

    await _do_everything(database)

    assert {collection for _, collection, _ in filters.seen} >= OWNED - {"ledger"} | BY_OWNER
    for command, collection, query in filters.seen:
        owner = query.get("ownerId") if collection in OWNED else query.get("_id")
        assert owner == ANA, f"{command} of {collection}: {query}"


async def _do_everything(database: Database) -> None:
    """Every method that is called for a viewer, with whatever makes it send all its commands."""
    accounts, viewers = MongoAccountRepository(database), MongoViewerRepository(database)
    images, prompts = MongoImageRepository(database), MongoPromptRepository(database)
    source, unused = a_picture(), a_picture()
    assert not await viewers.is_known(ANA)
    assert await viewers.welcome(ANA, [source, unused])
    await accounts.open(ANA, starting_credits=MANY)
    await accounts.grant(ANA, 1, key="more")

    conversations, turns = MongoConversationRepository(database), MongoTurnRepository(database)
    reference = Reference(source.image, ReferenceOrigin.MANUAL)
    started = await conversations.start(
        ANA,
        new_conversation_id(),
        title="A boat",
        source_image=source.image,
        plan=a_plan(references=(reference,)),
        max_active_outputs=MANY,
        key=KEY,
    )
    assert not isinstance(started, Conflict)
    conversation, turn = started
    appended = await conversations.append_turn(
        ANA, conversation, plan=a_plan(), max_active_outputs=MANY, key=None
    )
    assert not isinstance(appended, Conflict)
    assert await turns.cancel(ANA, turn.id, [1])
    output = (await turns.get_many(ANA, [turn.id]))[turn.id].outputs[0]
    (planned,) = a_plan().outputs
    retried = await turns.retry(ANA, output, planned=planned, max_active_outputs=MANY, key=None)
    assert not isinstance(retried, Conflict)

    await conversations.get_many(ANA, [conversation.id])
    assert await conversations.get_with_latest_turn(ANA, conversation.id)
    await conversations.page(ANA, PageRequest(), source_image_id=source.image.id, words=["boat"])
    assert await conversations.rename(ANA, conversation.id, "Boats")
    await turns.latest_of_many(ANA, [conversation.id])
    await turns.page(ANA, conversation.id, PageRequest())
    await turns.latest_with_images(ANA, conversation.id)
    await turns.in_progress(ANA)
    await turns.current(ANA, conversation.id, changed_since=None, recent=timedelta(0))
    assert await MongoIdempotencyRepository(database).get(ANA, KEY)

    await prompts.page(ANA, PageRequest(), favourite=True, words=["boat"])
    prompt_id = prompt_id_of(ANA, "A boat")
    assert await prompts.get_many(ANA, [prompt_id])
    assert await prompts.set_favourite(ANA, prompt_id, True)
    await images.get_many(ANA, [source.image.id])
    await images.page(ANA, PageRequest(), favourite=None, origin=None, model_id=None)
    await images.set_favourite(ANA, source.image.id, True)
    assert await images.any_refers_to(ANA, [source.image.id])
    assert not await images.delete_unless_used(ANA, source.image.id)
    assert await images.delete_unless_used(ANA, unused.image.id)
    await _upload(database)
    assert await conversations.delete(ANA, conversation.id) is not None


async def _upload(database: Database) -> None:
    uploads = MongoUploadRepository(database)
    completed, refused = _an_upload(), _an_upload()
    assert await uploads.open(ANA, [completed, refused], at_most=2)
    assert not await uploads.open(ANA, [_an_upload()], at_most=2)
    assert await uploads.get(ANA, completed.id)
    assert await uploads.complete(ANA, completed.id, a_picture())
    await uploads.refuse(ANA, refused.id, UserError(UserErrorCode.UPLOAD_MISSING, "…"))


def _an_upload() -> Upload:
    return Upload(
        id=new_upload_id(),
        key=new_key("uploads", "image/png"),
        file=DeclaredFile(content_type="image/png", byte_size=1, sha256=None),
        filename=None,
        created_at=datetime.now(UTC),
    )
