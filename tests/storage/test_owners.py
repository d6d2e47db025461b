"""The owner is in every filter of reads and writes of viewers and workers: it is the shard key.

Found by watching the commands that the driver sends, so that no filter can be forgotten.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from pymongo import monitoring

from domain.albums import Album
from domain.captions import CaptionDelivery
from domain.conflicts import Conflict
from domain.conversations import Conversation
from domain.errors import GenerationErrorCode, UserError, UserErrorCode
from domain.idempotency import IdempotencyKey
from domain.ids import (
    ConversationId,
    ImageId,
    import_id_of,
    new_album_id,
    new_conversation_id,
    new_export_id,
    new_share_id,
    new_upload_id,
    prompt_id_of,
    turn_id_of,
    viewer_id_of,
)
from domain.images import new_key
from domain.jobs import Export, Import, JobClaim
from domain.outputs import GenerationError, Report
from domain.pages import PageRequest
from domain.posts import Post
from domain.references import Reference, ReferenceOrigin
from domain.shares import Share
from domain.turns import CurrentTurns, Turn, WaitingEdit
from domain.uploads import DeclaredFile, Upload
from domain.webhooks import Answer
from storage.mongo.accounts import MongoAccountRepository
from storage.mongo.albums import MongoAlbumRepository
from storage.mongo.branches import MongoBranchRepository
from storage.mongo.choices import MongoChoiceRepository
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.collections import UNFINISHED_PARENT
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Database, open_database
from storage.mongo.idempotency import MongoIdempotencyRepository
from storage.mongo.images import MongoImageRepository
from storage.mongo.imports import MongoImportRepository
from storage.mongo.jobs import MongoExportRepository
from storage.mongo.model_stats import MongoModelStatsRepository
from storage.mongo.outbox import MongoOutboxRepository
from storage.mongo.outputs import MongoOutputRepository
from storage.mongo.posts import MongoPostRepository
from storage.mongo.prompts import MongoPromptRepository
from storage.mongo.shares import MongoShareRepository
from storage.mongo.turns import MongoTurnRepository
from storage.mongo.uploads import MongoUploadRepository
from storage.mongo.viewers import MongoViewerRepository
from storage.mongo.waiting_turns import MongoWaitingTurnRepository
from storage.mongo.webhooks import MongoWebhookRepository
from tests.storage.builders import (
    ANA,
    EXPIRED,
    LONG,
    MANY,
    a_claim,
    a_conversation,
    a_picture,
    a_plan,
    a_post,
    a_post_plan,
    another_turn,
    as_stored,
)
from tests.storage.hooks import a_hook, a_turn_that_ends

KEY = IdempotencyKey("key", "startConversation", "…")
OWNED = {
    *("conversations", "turns", "posts", "images", "prompts", "shares", "exports"),
    *("uploads", "idempotency", "ledger", "webhooks", "deliveries", "imports", "trash"),
    *("modelDays", "albums", "albumImages"),
}
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
    """The test's database through a separate client, with a listener."""
    filters = Filters()
    monitoring.register(filters)
    try:
        async with open_database(mongodb_uri, database.commands.name) as opened:
            yield opened, filters
    finally:
        monitoring._LISTENERS.command_listeners.remove(filters)  # there is no public way


async def test_every_filter_has_the_owner(watched: tuple[Database, Filters]) -> None:
    database, filters = watched

    await _do_everything(database)

    assert {collection for _, collection, _ in filters.seen} >= OWNED - {"ledger"} | BY_OWNER
    for command, collection, query in filters.seen:
        owner = query.get("ownerId") if collection in OWNED else query.get("_id")
        assert owner == ANA, f"{command} of {collection}: {query}"


async def test_every_filter_of_a_worker_has_the_owner(
    database: Database, watched: tuple[Database, Filters]
) -> None:
    _, turn = await a_conversation(database, "one", "two", "three", "four")
    calls = await _calls_of_a_worker(watched[0], turn, await a_post(database))
    filters = watched[1].seen
    filters.clear()

    for name, call in calls.items():
        assert bool(await call()) == (name not in {"is_abandoned", "find_earlier_messages"}), name

    # These two search what is unfinished of all viewers, turns first. What `end_overdue` finds it
    # ends one by one, for the owner.
    searches = [query for name, _, query in filters if name == "aggregate"]
    assert searches == [{"status": UNFINISHED_PARENT}] * 2
    others = [(collection, query) for name, collection, query in filters if name != "aggregate"]
    assert len(others) > len(calls)
    for collection, query in others:
        assert query.get("_id" if collection in BY_OWNER else "ownerId") == ANA, query


async def test_every_filter_of_the_webhook_delivery_has_the_owner(
    database: Database, watched: tuple[Database, Filters]
) -> None:
    await a_hook(database, "https://hooks.example.com/")
    turn = await a_turn_that_ends(database)
    outbox, filters = MongoOutboxRepository(watched[0]), watched[1].seen
    filters.clear()

    held = await outbox.take(failing=[False], lease=LONG)
    assert held is not None
    assert await outbox.renew(held, lease=LONG)
    first, second = (await outbox.find_due(held, limit=10))[turn.id]
    await outbox.set_delivered(held, first, Answer(200))
    await outbox.set_failing(held, True)
    failed = Answer(500, "…")
    assert await outbox.set_failed(held, second, failed, pause=EXPIRED, give_up_after=LONG)
    await outbox.release(held, failing_pause=timedelta(0))
    held = await outbox.take(failing=[True], lease=LONG)
    assert held is not None
    assert await outbox.disable(held)

    # To take one is a search among the webhooks of all viewers, and a write for the owner.
    searches = [one for one in filters if "ownerId" not in one[2]]
    assert [(name, collection) for name, collection, _ in searches] == [("find", "webhooks")] * 2
    assert all(one[2].get("ownerId", ANA) == ANA for one in filters)
    assert len(filters) > 12


async def test_a_hint_with_another_owner_claims_nothing(database: Database) -> None:
    claims = MongoClaimRepository(database)
    _, turn = await a_conversation(database)
    stranger = viewer_id_of("tests", "bob")

    assert await claims.find_waiting(stranger, turn.outputs[0].id) is None
    waiting = await as_stored(database, turn.outputs[0].id, viewer_id=stranger)
    assert await claims.claim(waiting, lease=LONG) is None
    assert await claims.find_waiting(ANA, turn.outputs[0].id)


async def _calls_of_a_worker(
    database: Database, turn: Turn, post: Post
) -> dict[str, Callable[[], Awaitable[object]]]:
    """A call of every method of the claims' repository."""
    claims = MongoClaimRepository(database)
    first, second, third, fourth = turn.outputs
    claim, other = await a_claim(database, first.id), await a_claim(database, second.id)
    caption = await a_claim(database, post.caption_output.id)
    failure = GenerationError(GenerationErrorCode.INTERNAL, retryable=True)
    waiting = await as_stored(database, third.id)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "find_waiting": lambda: claims.find_waiting(ANA, third.id),
        "claim": lambda: claims.claim(waiting, lease=EXPIRED),
        "find_earlier_messages": lambda: claims.find_earlier_messages(claim, limit=1),
        "renew": lambda: claims.renew(claim, lease=LONG),
        "save_runs": lambda: claims.save_runs(claim, []),
        "is_abandoned": lambda: claims.is_abandoned(claim),
        "show_progress": lambda: claims.show_progress(claim, progress=0.5),
        "give_back": lambda: claims.give_back(claim),
        "postpone": lambda: claims.postpone(claim, [], delay=EXPIRED),
        "add_images": lambda: claims.add_images(claim, [a_picture(first.id)], Report(), runs=[]),
        "land": lambda: claims.land(claim, [a_picture(first.id)], Report()),
        "land_caption": lambda: claims.land_caption(caption, CaptionDelivery(text="Words")),
        "fail": lambda: claims.fail(other, failure),
        "list_waiting": lambda: claims.list_waiting(
            [fourth.model_id], min_queued=timedelta(0), expired=True, limit=10
        ),
        "end_overdue": lambda: claims.end_overdue(max_queued=timedelta(0), limit=10),
    }
    methods = vars(MongoClaimRepository).items()
    assert set(calls) == {
        name for name, one in methods if inspect.iscoroutinefunction(one) and name[0] != "_"
    }
    return calls


async def _do_everything(database: Database) -> None:
    """Every method called for a viewer, with arguments that make it send all its commands."""
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
    await _wait(database, appended[0])
    await MongoChoiceRepository(database).choose(ANA, turn.id, 1, chosen=True)
    branches = MongoBranchRepository(database)
    copied = await branches.fork(ANA, turn.id, new_conversation_id(), title=None, max_turns=9)
    assert not isinstance(copied, Conflict)
    assert await branches.delete_turn(ANA, turn_id_of(copied.id, 0)) == []
    assert await MongoModelStatsRepository(database).list_since(ANA, date.min)
    assert await MongoOutputRepository(database).cancel(ANA, turn.id, [1])
    output = (await turns.get_many(ANA, [turn.id]))[turn.id].outputs[0]
    (planned,) = a_plan().outputs
    retried = await MongoOutputRepository(database).retry(
        ANA, output, planned=planned, max_active_outputs=MANY, key=None
    )
    assert not isinstance(retried, Conflict)

    await conversations.get_many(ANA, [conversation.id])
    assert await conversations.get_with_latest_turn(ANA, conversation.id)
    await conversations.page(ANA, PageRequest(), source_image_id=source.image.id, words=["boat"])
    assert await conversations.rename(ANA, conversation.id, "Boats")
    await turns.find_latest_of_many(ANA, [conversation.id])
    await turns.page(ANA, conversation.id, PageRequest())
    await turns.find_latest_with_images(ANA, conversation.id)
    await turns.list_in_progress(ANA)
    await turns.read_current([CurrentTurns(ANA, conversation.id)], recent=timedelta(0))
    assert await MongoIdempotencyRepository(database).get(ANA, KEY)

    await prompts.page(ANA, PageRequest(), favourite=True, words=["boat"])
    prompt_id = prompt_id_of(ANA, "A boat")
    assert await prompts.get_many(ANA, [prompt_id])
    assert await prompts.set_favourite(ANA, [prompt_id], True)
    await images.get_many(ANA, [source.image.id])
    await images.page(ANA, PageRequest(), favourite=None, origin=None, model_id=None)
    await images.set_favourite(ANA, [source.image.id], True)
    await _album(database, source.image.id)
    assert await images.any_refers_to(ANA, [source.image.id])
    assert await images.delete_unless_used(ANA, [source.image.id]) is not None
    assert await images.delete_unless_used(ANA, [unused.image.id]) is None
    await _post(database, reference)
    await _upload(database)
    await _webhook(database)
    await _share(database, conversation.id)
    await _export(database)
    await _import(database)
    keep = timedelta(days=1)
    assert await conversations.delete(ANA, conversation.id, restorable_for=keep) is not None
    assert not isinstance(await conversations.restore(ANA, conversation.id), Conflict)
    assert await conversations.delete(ANA, conversation.id) is not None


async def _wait(database: Database, conversation: Conversation) -> None:
    waiting = MongoWaitingTurnRepository(database)
    asked = WaitingEdit(selected_models=None, previous_output_ids=None, max_credits=None)
    plan = replace(a_plan(), waiting=asked)
    for _ in range(2):
        written = await another_turn(database, conversation, plan)
        assert not isinstance(written, Conflict)
        conversation, turn = written
    begun = await waiting.begin(ANA, turn.id, plan=a_plan(), max_active_outputs=MANY)
    assert not isinstance(begun, Conflict)
    assert await waiting.end(ANA, turn.id, None) is None


async def _album(database: Database, image_id: ImageId) -> None:
    albums, album_id = MongoAlbumRepository(database), new_album_id()
    made = await albums.create(ANA, album_id, title="Boats", image_ids=[image_id])
    assert not isinstance(made, Conflict)
    changed = await albums.update(
        ANA, album_id, title="Ships", add=[image_id], remove=[image_id], max_images=1
    )
    assert not isinstance(changed, Conflict)
    assert await albums.get_many(ANA, [album_id])
    assert (await albums.page(ANA, PageRequest())).items
    assert (await albums.page_images(ANA, album_id, PageRequest())).items
    assert await albums.delete(ANA, album_id)


async def _post(database: Database, reference: Reference) -> None:
    posts, outputs = MongoPostRepository(database), MongoOutputRepository(database)
    post = await a_post(database, references=(reference,))
    await posts.page(ANA, PageRequest())
    assert await outputs.find_parent(ANA, post.outputs[0].id)
    cancelled = await outputs.cancel(ANA, post.id, [0, 1])
    assert isinstance(cancelled, Post)
    plan = a_post_plan()
    again = await posts.rewrite_caption(
        ANA,
        cancelled,
        caption=plan.caption,
        outputs={1: plan.images.outputs[0]},
        max_active_outputs=MANY,
        key=None,
    )
    assert not isinstance(again, Conflict)
    assert await outputs.list_unfinished(ANA)
    assert await posts.get_many(ANA, [post.id])
    assert await posts.delete(ANA, post.id) is not None


async def _share(database: Database, conversation_id: ConversationId) -> None:
    shares = MongoShareRepository(database)
    share, other = (
        Share(
            id=new_share_id(),
            owner_id=ANA,
            conversation_id=conversation_id,
            includes_prompts=True,
            expires_at=None,
            views=0,
            created_at=datetime.now(UTC),
        )
        for _ in range(2)
    )
    assert await shares.create(share, at_most=1, at_most_of_conversation=1) is None
    assert await shares.create(other, at_most=1, at_most_of_conversation=2)
    assert await shares.list(ANA)
    assert await shares.get(ANA, share.id)
    assert await shares.view(ANA, share.id, times=2)
    assert await shares.delete(ANA, share.id)


async def _export(database: Database) -> None:
    exports = MongoExportRepository(database)
    export = Export(
        id=new_export_id(),
        owner_id=ANA,
        conversation_id=None,
        created_at=datetime.now(UTC),
    )
    assert await exports.create(export, at_most=1)
    assert await exports.get_many(ANA, [export.id])
    claim = JobClaim(export, fence=0)
    assert await exports.renew(claim, progress=None, lease=LONG)
    assert await exports.complete(claim, key="…", byte_size=1, kept=LONG)
    failure = GenerationError(GenerationErrorCode.INTERNAL, retryable=True)
    assert not await exports.fail(claim, failure, kept=LONG)


async def _import(database: Database) -> None:
    """Imports are found by workers, and all else names the owner."""
    imports, picture = MongoImportRepository(database), a_picture()
    upload = _an_upload()
    job = Import(
        id=import_id_of(upload.id),
        owner_id=ANA,
        upload_id=upload.id,
        key=upload.key,
        created_at=datetime.now(UTC),
    )
    assert await imports.create(job, at_most=1)
    assert await imports.get_many(ANA, [job.id])
    claim = JobClaim(job, fence=0)
    assert await imports.expect_bytes(claim, picture.image.keys)
    assert await imports.add_images(claim, [picture])
    album = Album(id=new_album_id(), title="Boats", created_at=datetime.now(UTC))
    _, turn = await a_conversation(database)
    post = await a_post(database)
    ended = await MongoOutputRepository(database).cancel(ANA, post.id, [0, 1])
    assert isinstance(ended, Post)
    assert await imports.add_turns(claim, [turn])
    assert await imports.add_posts(claim, [ended])
    assert await imports.add_album(claim, album, [picture.image.id])
    failure = GenerationError(GenerationErrorCode.INTERNAL, retryable=True)
    assert await imports.give_up(claim, failure)
    while taken := await imports.take_back(claim, limit=9):
        if taken.is_all:
            break
    assert await imports.complete(claim, [], kept=LONG)


async def _upload(database: Database) -> None:
    uploads = MongoUploadRepository(database)
    completed, refused = _an_upload(), _an_upload()
    assert await uploads.open(ANA, [completed, refused], at_most=2)
    assert not await uploads.open(ANA, [_an_upload()], at_most=2)
    assert await uploads.get(ANA, completed.id)
    assert await uploads.complete(ANA, completed.id, a_picture())
    await uploads.refuse(ANA, refused.id, UserError(UserErrorCode.UPLOAD_MISSING, "…"))


async def _webhook(database: Database) -> None:
    webhooks = MongoWebhookRepository(database)
    webhook = await a_hook(database, "https://hooks.example.com/")
    _, turn = await a_conversation(database)
    assert await MongoOutputRepository(database).cancel(ANA, turn.id, [1])
    assert [one.id for one in await webhooks.list(ANA)] == [webhook.id]
    (delivery, *_) = (await webhooks.page(ANA, webhook.id, PageRequest())).items
    assert await webhooks.replay(ANA, delivery.id)
    assert await webhooks.delete(ANA, webhook.id)


def _an_upload() -> Upload:
    return Upload(
        id=new_upload_id(),
        key=new_key("uploads", "image/png"),
        file=DeclaredFile(content_type="image/png", byte_size=1, sha256=None),
        filename=None,
        created_at=datetime.now(UTC),
    )
