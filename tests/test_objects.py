"""The reconciliation of the object store with the database, as an operator runs it."""

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from assembly.objects import open_objects
from bootstrap import open_worker
from domain.cleanup.reconciliation import ObjectReconciler
from domain.cleanup.store_ownership import mark_key
from domain.images import FOLDERS, SHARDS, new_key, rendition_key
from domain.ports.objects import Objects, StoredObject
from domain.signing import Signer
from settings import Settings
from storage.mongo.database import open_database
from storage.mongo.referenced_objects import MongoReferencedObjectRepository
from storage.objects.folder import FolderObjectStore
from tests.clients import GraphQLClient
from tests.commands import run_command
from tests.conftest import Darkroom, StartDarkroom
from tests.operations import DELETE_IMAGE, FOLLOW, a_sample, conversation_with, start
from tests.waits import eventually

ROOT = Path(__file__).parents[1]
TWO_DAYS = 2 * 24 * 3600


async def compare(
    settings: Settings, *arguments: str, database: str | None = None
) -> tuple[int, str]:
    """The command as an operator runs it: its exit code and its output."""
    environ = {} if database is None else {"DARKROOM_MONGODB_DATABASE": database}
    ran = await run_command(settings, "objects", "compare", *arguments, environ=environ)
    return ran.code, ran.said


@pytest.fixture
async def darkroom(start_darkroom: StartDarkroom) -> Darkroom:
    return await start_darkroom()


@pytest.fixture
async def store(darkroom: Darkroom) -> AsyncIterator[Objects]:
    async with open_objects(darkroom.settings, Signer(b"-")) as (store, _):
        yield store


async def keys(store: Objects) -> set[str]:
    return {one.key for shard in SHARDS async for one in store.list_keys(shard)}


def make_older(darkroom: Darkroom, key: str) -> None:
    then = time.time() - TWO_DAYS
    os.utime(darkroom.settings.data_dir / "objects" / key, (then, then))


async def test_every_object_the_product_stores_is_referred_to(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    sample = await a_sample(client)
    await conversation_with(
        client,
        sourceImageId=sample["id"],
        selectedModels=["local-silver", "rehearsal-fails"],
        options={"width": 512, "height": 512, "previews": 2},
    )
    running = await start(client, selectedModels=["rehearsal-slow"], options={"previews": 3})
    async with client.subscribe(FOLLOW, id=running["conversation"]["id"]) as updates:
        await updates.until(lambda data: data["turnUpdated"]["turn"]["outputs"][0]["preview"])
        await updates.until(lambda data: data["turnUpdated"]["turn"]["status"] == "COMPLETED")

    code, report = await compare(darkroom.settings)

    assert code == 0, report
    assert " 0 orphaned, 0 of them older than a day; 0 missing." in report
    assert "orphan " not in report
    assert int(report.split(" objects, ")[0]) > 10


async def test_orphans_are_reported_and_deleted_once_they_are_old(
    darkroom: Darkroom, client: GraphQLClient, store: Objects
) -> None:
    await a_sample(client)
    old = new_key("previews", "image/webp")
    rendition = rendition_key(new_key("images", "image/png"), 256)
    young = new_key("images", "image/png")
    for key in (old, rendition, young):
        await store.put(key, b"1234567")
    for key in (old, rendition):
        make_older(darkroom, key)
    there = await keys(store)

    code, report = await compare(darkroom.settings)
    assert code == 0
    for key in (old, rendition, young):
        assert f"orphan   {key}  7  " in report
    assert " 3 orphaned, 2 of them older than a day;" in report
    assert await keys(store) == there

    code, report = await compare(darkroom.settings, "--delete")
    assert code == 0
    assert report.endswith("Deleted 2 objects, 14 bytes.\n")
    assert await keys(store) == there - {old, rendition}


async def test_missing_objects_are_reported(
    darkroom: Darkroom, client: GraphQLClient, store: Objects
) -> None:
    await a_sample(client)
    gone = min(await keys(store))
    await store.delete([gone])

    code, report = await compare(darkroom.settings)

    assert code == 1
    assert f"missing  {gone}\n" in report
    assert "1 missing." in report


async def test_nothing_is_deleted_with_the_wrong_database(
    darkroom: Darkroom, client: GraphQLClient, store: Objects, database_name: str
) -> None:
    await a_sample(client)
    there = await keys(store)
    for key in there:
        make_older(darkroom, key)

    code, report = await compare(darkroom.settings, "--delete", database=database_name)

    assert code == 1
    assert "Is it the right one? Nothing was deleted." in report
    assert await keys(store) == there


async def test_nothing_is_deleted_if_another_database_has_left_its_mark(
    darkroom: Darkroom, client: GraphQLClient, store: Objects
) -> None:
    await a_sample(client)
    orphan, mark = new_key("images", "image/png"), mark_key("another database")
    for key in (orphan, mark):
        await store.put(key, b"1234567")
    make_older(darkroom, orphan)

    code, report = await compare(darkroom.settings, "--delete")
    assert code == 1
    assert f"Another database uses this store; its mark is {mark}." in report
    assert orphan in await keys(store)

    await store.delete([mark])
    code, report = await compare(darkroom.settings, "--delete")
    assert code == 0
    assert orphan not in await keys(store)


async def test_api_processes_and_workers_collect_orphans(
    start_darkroom: StartDarkroom,
    mongodb_uri: str,
    database_name: str,
    tmp_path: Path,
    nats_url: str,
) -> None:
    darkroom = await start_darkroom()
    elsewhere = {
        "data_dir": tmp_path / "worker",
        "mongodb_database": database_name,
        "nats_url": nats_url,
    }
    alone = darkroom.settings.model_copy(update=elsewhere)

    async with open_worker(alone, grace_left=lambda: 0.0):
        for settings in (darkroom.settings, alone):
            await until_tidied(mongodb_uri, settings.mongodb_database)


async def until_tidied(uri: str, name: str) -> None:
    async with open_database(uri, name) as database:

        async def begun() -> bool:
            jobs = {one["_id"] async for one in database.periodic_jobs.find()}
            return {"uploads", "shards"} <= jobs

        await eventually(begun, within=20, what="orphan collection has begun")


class Interrupted(FolderObjectStore):
    """A store in which something happens just before it is listed."""

    def __init__(self, settings: Settings, happens: Callable[[], Awaitable[object]]) -> None:
        super().__init__(settings.data_dir / "objects", public_url="", signer=Signer(b"-"))
        self._happens = happens

    async def list_keys(
        self, shard: str, *, folders: Sequence[str] = FOLDERS
    ) -> AsyncIterator[StoredObject]:
        await self._happens()
        async for found in super().list_keys(shard, folders=folders):
            yield found


async def test_an_object_deleted_during_the_check_is_not_reported_as_missing(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    sample = await a_sample(client)
    uri, name = darkroom.settings.mongodb_uri, darkroom.settings.mongodb_database
    assert uri is not None
    shard = sample["url"].split("/images/")[1][:2]
    store = Interrupted(darkroom.settings, lambda: client(DELETE_IMAGE, id=sample["id"]))

    async with open_database(uri.get_secret_value(), name) as database:
        found = await ObjectReconciler(store, MongoReferencedObjectRepository(database)).compare(
            shard
        )
    await store.aclose()

    assert not found.missing
    assert not found.orphans
    assert found.referred == found.objects
