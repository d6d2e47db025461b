"""Orphan collection: orphans are deleted once they are old, and objects in use never are."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from domain.claims import Claim
from domain.cleanup.collector import OrphanCollector
from domain.cleanup.expiry import ExpiryCleaner
from domain.cleanup.reconciliation import MIN_ORPHAN_AGE, ObjectReconciler
from domain.cleanup.store_ownership import StoreOwnership, mark_key
from domain.errors import GenerationErrorCode, Overloaded
from domain.ids import ConversationId, as_turn_id, conversation_of_turn
from domain.images import FOLDERS, SHARDS, new_key, rendition_key, shard_of
from domain.outputs import GenerationError, Preview, Report
from domain.ports.objects import Objects, ObjectStore, StoredObject
from domain.signing import Signer
from runtime.local_mongod import Mongod
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Database, open_database
from storage.mongo.jobs import MongoExportRepository
from storage.mongo.outputs import MongoOutputRepository
from storage.mongo.periodic import MongoPeriodicJobRepository
from storage.mongo.referenced_objects import MongoReferencedObjectRepository
from storage.mongo.trash import MongoTrashRepository
from storage.mongo.turns import MongoTurnRepository
from storage.mongo.uploads import MongoUploadRepository
from storage.objects.bucket import Bucket
from storage.objects.folder import FolderObjectStore
from storage.objects.s3 import open_bucket
from tests.resilience.processes import away
from tests.serving import free_port
from tests.storage.builders import (
    ANA,
    MANY,
    a_claim,
    a_conversation,
    a_gallery,
    a_picture,
    a_plan,
    another_turn,
)
from tests.storage.faulty_proxy import Fault, open_faulty_proxy
from tests.storage.places import new_bucket
from tests.storage.plans import profiled
from tests.tools import need_mongod
from tests.waits import eventually

TWO_DAYS = timedelta(days=2)
AT_ONCE = timedelta(0)
MANY_TURNS = 60
ZIPS = [f"exports/00/00{number:038x}.zip" for number in range(30)]
ERROR = GenerationError(GenerationErrorCode.INTERNAL, retryable=True)


class Uploads(MongoUploadRepository):
    """Uploads with nothing but what decides about their bytes."""

    async def add(self, key: str, *, is_over: bool) -> str:
        upload_id = f"upl_{key[-10:]}"
        sweep_at = datetime.now(UTC) + (-TWO_DAYS if is_over else TWO_DAYS)
        await self._uploads.insert_one({"_id": upload_id, "key": key, "sweepAt": sweep_at})
        return upload_id

    async def left(self) -> list[str]:
        found = self._uploads.find({"sweepAt": {"$exists": True}})
        return [document["_id"] async for document in found]


@dataclass(slots=True)
class Shelf:
    """A separate store for one test, in which objects can be two days old."""

    store: Objects
    folder: Path | None
    min_age: timedelta = MIN_ORPHAN_AGE
    _shards: set[str] = field(default_factory=lambda: {shard_of(mark_key("any"))})
    """To list all of them takes more than a thousand requests."""

    async def put(self, *keys: str) -> None:
        for key in keys:
            self._shards.add(shard_of(key))
            await self.store.put(key, b"1234567")

    async def keys(self) -> set[str]:
        """In the shards of the marks, and of all that was put."""
        return {one.key for shard in self._shards async for one in self.store.list_keys(shard)}

    async def grow_old(self, *keys: str) -> None:
        """These, and the marks; in a bucket everything that is there."""
        if self.folder is None:
            self.min_age = timedelta(seconds=-10)
            return
        then = time.time() - TWO_DAYS.total_seconds()
        for path in [*(self.folder / key for key in keys), *self.folder.glob("owners/00/*")]:
            os.utime(path, (then, then))

    def tidier(
        self,
        database: Database,
        *,
        uploads: Uploads | None = None,
        every: timedelta = AT_ONCE,
        store: ObjectStore | None = None,
    ) -> OrphanCollector:
        keys = MongoReferencedObjectRepository(database)
        jobs = MongoPeriodicJobRepository(database)
        expiry = ExpiryCleaner(
            jobs,
            StoreOwnership(store or self.store, keys),
            expiring={
                "uploads": uploads or Uploads(database),
                "exports": MongoExportRepository(database),
            },
            restorable={"trash": MongoTrashRepository(database)},
            every=every,
        )
        return OrphanCollector(
            jobs,
            expiry,
            ObjectReconciler(store or self.store, keys),
            shard_every=every,
            min_age=self.min_age,
        )

    async def tidy(self, database: Database, *keys: str, store: ObjectStore | None = None) -> None:
        """The shards of these keys."""
        tidier = self.tidier(database, store=store)
        for shard in {shard_of(key) for key in keys}:
            await database.periodic_jobs.update_one(
                {"_id": "shards"},
                {"$set": {"times": SHARDS.index(shard) + len(SHARDS) - 1}},
                upsert=True,
            )
            await tidier.tidy()

    async def mark(self, database: Database) -> None:
        await StoreOwnership(self.store, MongoReferencedObjectRepository(database)).mark()


@pytest.fixture
async def in_folder(tmp_path: Path) -> AsyncIterator[Shelf]:
    store = FolderObjectStore(tmp_path / "objects", public_url="", signer=Signer(b"-"))
    yield Shelf(store, tmp_path / "objects")
    await store.aclose()


@pytest.fixture
async def in_bucket(ministack_bucket: Bucket) -> AsyncIterator[Shelf]:
    async with open_bucket(await new_bucket(ministack_bucket)) as store:
        yield Shelf(store, None)


@pytest.fixture(params=["in_folder", "in_bucket"])
def shelf(request: pytest.FixtureRequest) -> Shelf:
    return cast(Shelf, request.getfixturevalue(request.param))


@asynccontextmanager
async def another(database: Database, uri: str) -> AsyncIterator[Database]:
    name = f"{database.commands.name}_2"
    async with open_database(uri, name) as other:
        try:
            yield other
        finally:
            await other.client.drop_database(name)


async def everything_in_use(database: Database, uploads: Uploads) -> set[str]:
    """Keys that something refers to, in every way that there is."""
    sample = a_picture()
    sample = replace(sample, image=replace(sample.image, rendition_widths=(256, 512)))
    await a_gallery(database, sample)
    _, turn = await a_conversation(database, "first", "second", source=sample.image)
    made = a_picture(turn.outputs[0].id)
    claims = MongoClaimRepository(database)
    first = await a_claim(database, turn.outputs[0].id)
    assert await claims.land(first, [made], Report())
    preview = await a_shown_preview(database, await a_claim(database, turn.outputs[1].id))
    upload = new_key("uploads", "image/png")
    await uploads.add(upload, is_over=False)
    return {*sample.image.keys, *made.image.keys, preview, upload}


async def a_shown_preview(database: Database, claim: Claim) -> str:
    key = new_key("previews", "image/webp")
    claims = MongoClaimRepository(database)
    assert await claims.show_progress(claim, preview=Preview(0, key, 64, 64))
    return key


def nothing_refers_to() -> set[str]:
    keys = {new_key(folder, "image/png") for folder in FOLDERS}
    return {*keys, rendition_key(new_key("images", "image/png"), 256)}


async def test_orphans_are_deleted_once_they_are_old_and_objects_in_use_are_kept(
    database: Database, shelf: Shelf
) -> None:
    used = await everything_in_use(database, Uploads(database))
    left = nothing_refers_to()
    await shelf.put(*used, *left)

    await shelf.tidy(database, *used, *left)
    assert await shelf.keys() == used | left

    await shelf.grow_old(*used, *left)
    await shelf.tidy(database, *used, *left)
    assert await shelf.keys() == used


async def test_orphans_younger_than_a_day_are_kept(database: Database, in_folder: Shelf) -> None:
    old, young = nothing_refers_to(), nothing_refers_to()
    await in_folder.put(*old, *young)
    await in_folder.mark(database)
    await in_folder.grow_old(*old)

    await in_folder.tidy(database, *old, *young)

    assert await in_folder.keys() == young


async def test_bytes_of_ended_uploads_are_deleted_at_once(database: Database, shelf: Shelf) -> None:
    uploads = Uploads(database)
    running, ended, never_came = (new_key("uploads", "image/png") for _ in range(3))
    await shelf.put(running, ended)
    left = await uploads.add(running, is_over=False)
    for key in (ended, never_came):
        await uploads.add(key, is_over=True)

    await shelf.tidier(database, uploads=uploads).tidy()

    assert await shelf.keys() == {running}
    assert await uploads.left() == [left]


async def test_expired_records_are_deleted_with_their_objects_in_any_number(
    database: Database, in_folder: Shelf
) -> None:
    """Orphan collection would keep this many in one shard."""
    lasting, ended = ZIPS[0], ZIPS[1:]
    await in_folder.put(*ZIPS)
    for key in ZIPS:
        expires_at = datetime.now(UTC) + (TWO_DAYS if key == lasting else -TWO_DAYS)
        await database.exports.insert_one({"_id": key, "key": key, "expiresAt": expires_at})
    failed = {"_id": "failed", "key": None, "expiresAt": datetime.now(UTC) - TWO_DAYS}
    await database.exports.insert_one(failed)

    await in_folder.tidier(database).tidy()

    assert await in_folder.keys() == {lasting}
    assert len(ended) > 20
    assert [one["_id"] async for one in database.exports.find({})] == [lasting]


@pytest.mark.parametrize("shared", [False, True], ids=("own", "shared with another database"))
async def test_deleted_conversations_are_purged_at_their_time(
    database: Database, in_folder: Shelf, shared: bool
) -> None:
    conversation, turn = await a_conversation(database)
    made = a_picture(turn.outputs[0].id)
    claim = await a_claim(database, turn.outputs[0].id)
    assert await MongoClaimRepository(database).land(claim, [made], Report())
    await in_folder.put(*made.image.keys)
    deleted = MongoConversationRepository(database)
    assert await deleted.delete(ANA, conversation.id, restorable_for=TWO_DAYS) == []
    if shared:
        await in_folder.put(mark_key("another database"))

    await in_folder.tidier(database).tidy()
    assert await in_folder.keys() == {*made.image.keys}
    before = {"$set": {"until": datetime.now(UTC) - TWO_DAYS}}
    await database.trash.update_many({}, before)
    await in_folder.tidier(database).tidy()

    assert await in_folder.keys() == ({*made.image.keys} if shared else set())
    assert await database.trash.count_documents({}) == (3 if shared else 0)


# What runs leave behind. Each is done as its service would, but for the clearing away after it.


async def replaced(database: Database, claim: Claim) -> tuple[set[str], set[str]]:
    first = await a_shown_preview(database, claim)
    return {first}, {await a_shown_preview(database, claim)}


async def never_shown(database: Database, claim: Claim) -> tuple[set[str], set[str]]:
    return {new_key("previews", "image/webp")}, set()


async def landed(database: Database, claim: Claim) -> tuple[set[str], set[str]]:
    preview = await a_shown_preview(database, claim)
    record = a_picture(claim.output.id)
    assert await MongoClaimRepository(database).land(claim, [record], Report())
    return {preview}, {record.image.key}


async def failed(database: Database, claim: Claim) -> tuple[set[str], set[str]]:
    preview = await a_shown_preview(database, claim)
    assert await MongoClaimRepository(database).fail(claim, ERROR)
    return set(), {preview}


async def cancelled(database: Database, claim: Claim) -> tuple[set[str], set[str]]:
    preview = await a_shown_preview(database, claim)
    assert await MongoOutputRepository(database).cancel(ANA, claim.parent.id, [claim.output.slot])
    return set(), {preview}


async def failed_and_retried(database: Database, claim: Claim) -> tuple[set[str], set[str]]:
    _, previews = await failed(database, claim)
    turns = MongoTurnRepository(database)
    turn_id = as_turn_id(claim.parent.id)
    assert turn_id
    turn = (await turns.get_many(ANA, [turn_id]))[turn_id]
    [output], [planned] = turn.outputs, a_plan().outputs
    assert await MongoOutputRepository(database).retry(
        ANA, output, planned=planned, max_active_outputs=MANY, key=None
    )
    return previews, set()


async def deleted_while_running(database: Database, claim: Claim) -> tuple[set[str], set[str]]:
    preview = await a_shown_preview(database, claim)
    conversations = MongoConversationRepository(database)
    assert await conversations.delete(ANA, conversation_of(claim)) == [preview]
    return {preview}, set()


async def deleted_when_landed(database: Database, claim: Claim) -> tuple[set[str], set[str]]:
    previews, images = await landed(database, claim)
    conversations = MongoConversationRepository(database)
    assert await conversations.delete(ANA, conversation_of(claim)) == list(images)
    return previews | images, set()


def conversation_of(claim: Claim) -> ConversationId:
    turn_id = as_turn_id(claim.parent.id)
    assert turn_id
    return conversation_of_turn(turn_id)


Way = Callable[[Database, Claim], Awaitable[tuple[set[str], set[str]]]]
WAYS: list[Way] = [
    replaced,
    never_shown,
    landed,
    failed,
    cancelled,
    failed_and_retried,
    deleted_while_running,
    deleted_when_landed,
]


@pytest.mark.parametrize("way", WAYS)
async def test_objects_left_by_a_killed_process_are_orphans(
    database: Database, in_folder: Shelf, way: Way
) -> None:
    await another_turn(database, (await a_conversation(database))[0])
    _, turn = await a_conversation(database)
    left, used = await way(database, await a_claim(database, turn.outputs[0].id))
    await in_folder.put(*left, *used)
    await in_folder.mark(database)
    await in_folder.grow_old(*left, *used)

    await in_folder.tidy(database, *left, *used)

    assert await in_folder.keys() == used


# Several processes


async def test_a_periodic_job_is_done_by_one_process_at_a_time(
    mongodb_uri: str, database: Database
) -> None:
    async with open_database(mongodb_uri, database.commands.name) as second:
        periodic_jobs = [MongoPeriodicJobRepository(one) for one in (database, second)]
        for expected in range(3):
            begun = await asyncio.gather(
                *(periodic_jobs[n % 2].begin("shards", every=timedelta(hours=1)) for n in range(16))
            )
            assert [periodic_job.times for periodic_job in begun if periodic_job is not None] == [
                expected
            ]
            # An hour passes.
            await database.periodic_jobs.update_one({}, [{"$set": {"notBefore": "$$NOW"}}])


async def test_a_periodic_job_that_is_not_due_writes_nothing(database: Database) -> None:
    periodic_jobs = MongoPeriodicJobRepository(database)
    assert await periodic_jobs.begin("shards", every=timedelta(hours=1)) is not None
    before = await database.periodic_jobs.find_one()

    assert await periodic_jobs.begin("shards", every=timedelta(hours=1)) is None
    assert await periodic_jobs.begin("uploads", every=timedelta(hours=1)) is not None

    assert await database.periodic_jobs.find_one({"_id": "shards"}) == before


async def test_two_processes_share_the_shards(
    mongodb_uri: str, database: Database, in_folder: Shelf
) -> None:
    seen: list[str] = []

    class Watched(FolderObjectStore):
        async def list_keys(
            self, shard: str, *, folders: Sequence[str] = FOLDERS
        ) -> AsyncIterator[StoredObject]:
            if folders == FOLDERS:
                seen.append(shard)
            async for found in super().list_keys(shard, folders=folders):
                yield found

    assert in_folder.folder is not None
    store = Watched(in_folder.folder, public_url="", signer=Signer(b"-"))
    async with open_database(mongodb_uri, database.commands.name) as second:
        tidiers = [in_folder.tidier(one, store=store) for one in (database, second)]
        while len(seen) < len(SHARDS):
            await asyncio.gather(*(tidier.tidy() for tidier in tidiers))
    await store.aclose()

    # Both may have begun the last time: one the last shard, one the first again.
    assert set(seen) == set(SHARDS)
    assert len(seen) <= len(SHARDS) + 1


# What goes wrong


async def test_orphan_collection_resumes_once_an_unavailable_store_is_back(
    database: Database, in_folder: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    uploads = Uploads(database)
    left, ended = new_key("previews", "image/webp"), new_key("uploads", "image/png")
    await in_folder.put(left, ended)
    await uploads.add(ended, is_over=True)
    await in_folder.mark(database)
    await in_folder.grow_old(left)
    assert in_folder.folder is not None
    tidier = in_folder.tidier(database, uploads=uploads)

    elsewhere = in_folder.folder.rename(in_folder.folder.with_name("elsewhere"))
    in_folder.folder.write_text("This is no folder.")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await tidier.tidy()
    messages = [record.getMessage() for record in caplog.records]
    in_folder.folder.unlink()
    elsewhere.rename(in_folder.folder)
    await tidier.tidy()
    await in_folder.tidy(database, left)

    assert messages == ["orphaned objects kept: object store unavailable"]
    assert await in_folder.keys() == set()
    assert await uploads.left() == []


async def test_orphan_collection_resumes_once_an_unavailable_bucket_is_back(
    database: Database, in_bucket: Shelf, ministack_bucket: Bucket
) -> None:
    left = nothing_refers_to()
    await in_bucket.put(*left)
    await in_bucket.mark(database)
    await in_bucket.grow_old()
    bucket = replace(ministack_bucket, name=in_bucket.store.link(min(left)).url.split("/")[3])
    async with (
        open_faulty_proxy(bucket.endpoint) as proxy,
        open_bucket(replace(bucket, endpoint=proxy.url), operation_seconds=1) as store,
    ):
        tidier = in_bucket.tidier(database, store=store)
        for fault in (Fault(refuses=True), Fault(silent=True)):
            proxy.set_fault(fault)
            await tidier.tidy()
        assert await in_bucket.keys() == left
        proxy.set_fault(Fault())
        await in_bucket.tidy(database, *left, store=store)

    assert await in_bucket.keys() == set()


async def test_orphan_collection_asks_an_unavailable_database_again(
    tmp_path: Path,
    in_folder: Shelf,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("storage.mongo.database.SELECTION_SECONDS", 2.0)
    (tmp_path / "mongod").mkdir()
    mongod = Mongod(tmp_path / "mongod", binary=need_mongod(), preferred_port=free_port())
    await mongod.start()
    try:
        async with open_database(mongod.uri, "darkroom") as database:
            tidier = in_folder.tidier(database)
            async with away(mongod):
                with caplog.at_level(logging.WARNING, logger="domain"):
                    await tidier.tidy()
                    await tidier.tidy()
            await eventually(partial(is_there, database), within=60, what="it answers")
            for _ in range(2):  # the first time nothing is done
                await tidier.tidy()
            owners = await StoreOwnership(
                in_folder.store, MongoReferencedObjectRepository(database)
            ).find_owners()
    finally:
        await mongod.stop()

    assert [record.getMessage() for record in caplog.records] == [
        "orphaned objects kept: database unavailable"
    ]
    assert owners.ours_since is not None


async def is_there(database: Database) -> bool:
    try:
        await database.ping()
    except Overloaded:
        return False
    return True


async def test_nothing_is_deleted_with_the_wrong_database(
    mongodb_uri: str, database: Database, shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    used = await everything_in_use(database, Uploads(database))
    await shelf.put(*used)
    await shelf.tidy(database, *used)  # and so leaves its mark
    await shelf.grow_old(*used)

    async with another(database, mongodb_uri) as wrong:
        mine = a_picture()
        await a_gallery(wrong, mine)
        await shelf.put(mine.image.key)
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                await shelf.tidy(wrong, *used)
                await shelf.tidy(database, mine.image.key)
                await shelf.grow_old(*used, mine.image.key)

    assert await shelf.keys() == {*used, mine.image.key}
    assert {record.getMessage() for record in caplog.records} == {
        "orphaned objects kept: another database uses this store"
    }
    assert len(caplog.records) == 4  # once in the life of each tidier


async def test_nothing_is_deleted_before_other_databases_could_have_left_a_mark(
    database: Database, in_folder: Shelf
) -> None:
    # Of a database whose Darkroom does not run just now.
    others = nothing_refers_to()
    await in_folder.put(*others)
    await in_folder.grow_old(*others)

    await in_folder.tidy(database, *others)

    assert await in_folder.keys() == others


async def test_a_restored_database_counts_as_another_one(
    mongodb_uri: str, database: Database
) -> None:
    keys = MongoReferencedObjectRepository(database)
    before = await keys.find_owner()
    async with another(database, mongodb_uri) as copy:
        assert await MongoReferencedObjectRepository(copy).find_owner() != before

    async with open_database(mongodb_uri, database.commands.name) as again:
        assert await MongoReferencedObjectRepository(again).find_owner() == before
    await database.images.drop()
    async with open_database(mongodb_uri, database.commands.name):
        assert await keys.find_owner() != before


async def test_orphans_that_outnumber_objects_in_use_are_left_to_an_operator(
    database: Database, in_folder: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    shard = SHARDS[0]
    crowd = {f"images/{shard}/{shard}{number:038x}.png" for number in range(21)}
    few = {key.replace("/00", "/01") for key in crowd} - {f"images/01/01{0:038x}.png"}
    await in_folder.put(*crowd, *few)
    await in_folder.mark(database)
    await in_folder.grow_old(*crowd, *few)

    with caplog.at_level(logging.WARNING):
        await in_folder.tidy(database, *crowd, *few)

    assert await in_folder.keys() == crowd
    [record] = caplog.records
    assert record.getMessage() == "orphaned objects kept: too many in one shard"


# What it costs


async def test_a_shard_is_found_by_an_index(database: Database) -> None:
    uploads = Uploads(database)
    for _ in range(MANY_TURNS):
        await everything_in_use_of(database, uploads)
    looked_at = {}
    for collection in ("images", "turns", "uploads"):
        async with profiled(database, collection) as profile:
            await MongoReferencedObjectRepository(database).read_shard("80")
        looked_at[collection] = sum(
            command.get("docsExamined", 0) + command.get("keysExamined", 0)
            for command in profile.commands
        )
        assert len(profile.commands) == 1

    # One in 256 is in the shard. In each folder a key more is looked at, to see where it ends.
    assert all(count <= 3 * len(FOLDERS) for count in looked_at.values()), looked_at


async def everything_in_use_of(database: Database, uploads: Uploads) -> None:
    _, turn = await a_conversation(database, "first", "second")
    claims = MongoClaimRepository(database)
    first = await a_claim(database, turn.outputs[0].id)
    assert await claims.land(first, [a_picture(turn.outputs[0].id)], Report())
    await a_shown_preview(database, await a_claim(database, turn.outputs[1].id))
    await uploads.add(new_key("uploads", "image/png"), is_over=False)


def test_the_key_of_a_mark_has_no_url(in_folder: Shelf) -> None:
    key = mark_key("a database")

    with pytest.raises(ValueError, match="not a key that has links"):
        in_folder.store.link(key)


async def test_a_mark_is_not_listed_among_the_objects(database: Database, shelf: Shelf) -> None:
    await shelf.mark(database)

    assert await shelf.keys() == set()
    assert await shelf.store.get(
        mark_key(await MongoReferencedObjectRepository(database).find_owner())
    )
