"""Exports: a ZIP of a viewer's data, made by a job that survives its process."""

import io
import json
import os
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from time import monotonic
from typing import Any, Final

import pytest
from pydantic import SecretStr
from pymongo import AsyncMongoClient

from domain.ids import new_image_id
from domain.images import ARCHIVE, new_key
from domain.jobs import MAX_RUNNING_JOBS
from storage.objects.folder_files import LEFTOVER_PREFIX
from tests.api.jobs import EXPORT, EXPORT_VIEWER, NODE, ended
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom, StartDarkroom
from tests.memory import MemoryGrowth
from tests.operations import (
    DELETE,
    DELETE_VIEWER,
    GALLERY,
    SET_FAVOURITE,
    a_sample,
    codes,
    conversation_with,
    samples,
)
from tests.waits import PATIENCE_SECONDS

IMAGES: Final = int(os.environ.get("DARKROOM_TEST_EXPORTED", "100"))
SECONDS_PER_IMAGE: Final = 0.1
"""Of a megabyte."""


async def archive(client: GraphQLClient, export: Data) -> zipfile.ZipFile:
    """The ZIP of an export, once it is complete."""
    export = await ended(client, export)
    assert (export["status"], export["error"]) == ("COMPLETED", None)
    response = await client.http.get(export["url"])
    assert response.headers["content-type"] == "application/zip"
    assert len(response.content) == export["byteSize"]
    found = zipfile.ZipFile(io.BytesIO(response.content))
    assert found.testzip() is None
    return found


def read(archive: zipfile.ZipFile, name: str) -> Any:
    return json.loads(archive.read(name))


def images_of(archive: zipfile.ZipFile) -> dict[str, Data]:
    parts = [read(archive, name) for name in read(archive, "manifest.json")["images"]]
    return {image["id"]: image for part in parts for image in part["images"]}


async def test_an_export_of_a_conversation_is_complete(
    client: GraphQLClient,
) -> None:
    source, other = (one["id"] for one in (await samples(client))[:2])
    done = await conversation_with(
        client, turns=2, sourceImageId=source, manualReferenceIds=[other], userMessage="Ébène 狐"
    )
    elsewhere = await conversation_with(client, userMessage="Elsewhere")
    made = done["turn"]["outputs"][0]["image"]["id"]
    await client(SET_FAVOURITE, id=made, favourite=True)
    conversation = done["conversation"]

    payload = (await client(EXPORT, id=conversation["id"]))["exportConversation"]
    found = await archive(client, payload["export"])

    manifest = read(found, "manifest.json")
    assert (manifest["format"], manifest["version"]) == ("darkroom-export", 1)
    [facts] = manifest["conversations"]
    assert facts["id"] == conversation["id"]
    assert (facts["title"], facts["sourceImageId"]) == ("Ébène 狐", source)
    turns = [turn for name in facts["turns"] for turn in read(found, name)["turns"]]
    assert [turn["userMessage"] for turn in turns] == ["Ébène 狐", "Sepia"]
    assert [one["imageId"] for one in turns[0]["references"]] == [source, other]
    (output,) = turns[1]["outputs"]
    shown = done["turn"]["outputs"][0]
    assert (output["model"], output["images"]) == (shown["model"]["id"], [made])
    images = images_of(found)
    first = turns[0]["outputs"][0]["images"][0]
    assert set(images) == {source, other, first, made}
    assert images[made]["favourite"]
    assert images[made]["prompt"] == "Sepia"
    assert images[made]["seed"] == shown["images"][0]["seed"]
    assert first in images[made]["madeFrom"]
    original = (await client.http.get(shown["images"][0]["url"])).content
    assert found.read(images[made]["file"]) == original
    for image in images.values():
        assert sha256(found.read(image["file"])).hexdigest() == image["sha256"]
    assert "Elsewhere" not in str(turns)
    assert elsewhere["conversation"]["id"] not in str(manifest)


async def test_an_export_of_a_viewer_is_complete(client: GraphQLClient) -> None:
    await samples(client)
    done = [await conversation_with(client, userMessage=text) for text in ("one", "two", "three")]
    own = (await client(GALLERY, first=100))["viewer"]["images"]["nodes"]

    payload = (await client(EXPORT_VIEWER))["exportViewer"]
    found = await archive(client, payload["export"])

    facts = read(found, "manifest.json")["conversations"]
    assert {one["id"] for one in facts} == {one["conversation"]["id"] for one in done}
    assert sorted(one["title"] for one in facts) == ["one", "three", "two"]
    assert set(images_of(found)) == {image["id"] for image in own}
    assert len(found.namelist()) == len(set(found.namelist()))


async def test_foreign_conversations_and_exports_are_not_found(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    done = await conversation_with(client)
    stranger = darkroom.client()
    export = (await client(EXPORT, id=done["conversation"]["id"]))["exportConversation"]["export"]

    for name in (done["conversation"]["id"], "conv_nothing", export["id"]):
        refused = (await stranger(EXPORT, id=name))["exportConversation"]
        assert codes(refused) == [("NOT_FOUND", "conversationId")]
    assert (await stranger(NODE, id=export["id"]))["node"] is None
    own = await archive(stranger, (await stranger(EXPORT_VIEWER))["exportViewer"]["export"])
    assert done["conversation"]["id"] not in own.read("manifest.json").decode()


async def test_only_a_few_exports_run_at_once(start_darkroom: StartDarkroom) -> None:
    darkroom = await start_darkroom()
    client = darkroom.client()
    done = await conversation_with(client)
    async with collection(darkroom) as exports:
        # Held by a process that is not there.
        held = {"status": "GENERATING", "leaseUntil": datetime.now(UTC) + timedelta(hours=1)}
        for _ in range(MAX_RUNNING_JOBS):
            payload = (await client(EXPORT, id=done["conversation"]["id"]))["exportConversation"]
            await ended(client, payload["export"])
            await exports.update_one({"_id": payload["export"]["id"]}, {"$set": held})

        answer = await client.execute(EXPORT, id=done["conversation"]["id"])

        assert answer["errors"][0]["extensions"]["code"] == "RATE_LIMITED"


@asynccontextmanager
async def collection(darkroom: Darkroom, name: str = "exports") -> AsyncIterator[Any]:
    uri = darkroom.settings.mongodb_uri
    assert isinstance(uri, SecretStr)
    async with AsyncMongoClient[Data](uri.get_secret_value()) as mongodb:
        yield mongodb[darkroom.settings.mongodb_database][name]


@pytest.mark.usefixtures("hasty")
async def test_another_process_finishes_an_interrupted_export(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom()
    client = darkroom.client()
    done = await conversation_with(client)
    export = (await client(EXPORT, id=done["conversation"]["id"]))["exportConversation"]["export"]
    first = await ended(client, export)
    async with collection(darkroom) as exports:
        left = {"status": "GENERATING", "key": None, "leaseUntil": datetime.now(UTC)}
        await exports.update_one({"_id": export["id"]}, {"$set": left})

        again = await ended(client, (await client(NODE, id=export["id"]))["node"])

        assert again["status"] == "COMPLETED"
        assert again["url"] != first["url"]
        # One that fails again and again is given up.
        await exports.update_one({"_id": export["id"]}, {"$set": {**left, "fence": 5}})
        given_up = await ended(client, (await client(NODE, id=export["id"]))["node"])
        assert given_up["status"] == "FAILED"
        assert given_up["error"]["code"] == "STORAGE_UNAVAILABLE"
        assert given_up["url"] is None


@pytest.mark.usefixtures("hasty")
async def test_files_written_by_a_killed_process_are_deleted(start_darkroom: StartDarkroom) -> None:
    """By who exports instead, or with the conversation."""
    darkroom = await start_darkroom()
    client = darkroom.client()
    done = await conversation_with(client)
    conversation_id = done["conversation"]["id"]
    export = (await client(EXPORT, id=conversation_id))["exportConversation"]["export"]
    await ended(client, export)
    folder = darkroom.settings.data_dir / "objects"
    [written] = list(folder.rglob("*.zip"))
    left = [new_key("exports", ARCHIVE) for _ in range(2)]
    for key in left:
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(b"written by a process that was killed")
    half = folder / left[0]
    half = half.rename(half.with_name(LEFTOVER_PREFIX + half.name))
    async with collection(darkroom) as exports:
        begun = {"status": "GENERATING", "key": None, "leaseUntil": datetime.now(UTC)}
        await exports.update_one({"_id": export["id"]}, {"$set": {**begun, "keysLeft": left[:1]}})
        await ended(client, (await client(NODE, id=export["id"]))["node"])
        [found] = await exports.find({}).to_list()
        assert ("keysLeft" in found, half.exists()) == (False, False)

        await exports.update_one({"_id": export["id"]}, {"$set": {"keysLeft": left[1:]}})
        await client(DELETE, id=conversation_id)

    assert list(folder.rglob("*.zip")) == [written]


async def test_images_without_bytes_are_listed_in_the_export(start_darkroom: StartDarkroom) -> None:
    darkroom = await start_darkroom()
    client = darkroom.client()
    sample = await a_sample(client)
    done = await conversation_with(client, sourceImageId=sample["id"])
    url = done["turn"]["outputs"][0]["images"][0]["url"]
    path = url.partition("/objects/")[2].partition("?")[0]
    (darkroom.settings.data_dir / "objects" / path).unlink()

    payload = (await client(EXPORT, id=done["conversation"]["id"]))["exportConversation"]
    images = images_of(await archive(client, payload["export"]))

    gone = images[done["turn"]["outputs"][0]["image"]["id"]]
    assert (gone["file"], gone["sha256"]) == (None, None)
    assert images[sample["id"]]["file"]


async def test_an_export_is_streamed_in_bounded_memory(start_darkroom: StartDarkroom) -> None:
    """A megabyte for each image, several times what the process may need for all of them."""
    darkroom = await start_darkroom()
    client = darkroom.client()
    sample = await a_sample(client)
    key = new_key("images", "image/png")
    path = darkroom.settings.data_dir / "objects" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(1_000_000))
    async with collection(darkroom, "images") as images:
        record = await images.find_one({"_id": sample["id"]})
        await images.insert_many(
            {**record, "_id": new_image_id(), "key": key, "contentType": "image/png"}
            for _ in range(IMAGES)
        )

    started, growth = monotonic(), MemoryGrowth()
    payload = (await client(EXPORT_VIEWER))["exportViewer"]
    within = PATIENCE_SECONDS + IMAGES * SECONDS_PER_IMAGE
    export = await ended(client, payload["export"], within=within)
    peak = growth.peak

    sys.stderr.write(
        f"\nexport of {IMAGES} images: {monotonic() - started:.0f} s, "
        f"most memory +{peak / 1e6:.1f} MB\n"
    )
    assert export["status"] == "COMPLETED"
    assert export["byteSize"] > IMAGES * 1_000_000
    assert peak < 50_000_000  # Alone it is 21 MB; it varies with what the process did before.


@pytest.mark.parametrize("end", ["conversation", "viewer"])
async def test_an_export_is_deleted_with_its_subject(
    start_darkroom: StartDarkroom, end: str
) -> None:
    darkroom = await start_darkroom()
    client = darkroom.client()
    done = await conversation_with(client)
    export = (await client(EXPORT, id=done["conversation"]["id"]))["exportConversation"]["export"]
    export = await ended(client, export)

    if end == "conversation":
        await client(DELETE, id=done["conversation"]["id"])
        assert (await client(NODE, id=export["id"]))["node"] is None
    else:
        await client(DELETE_VIEWER, id=(await client("{ viewer { id } }"))["viewer"]["id"])

    assert (await client.http.get(export["url"])).status_code == 404
    async with collection(darkroom) as exports:
        assert await exports.count_documents({}) == 0
