"""A viewer who deletes everything leaves nothing behind in the object store."""

from typing import cast

import pytest

from assembly.objects import bucket_of
from storage.objects.bucket import Bucket
from tests.api.test_outputs import retry
from tests.buckets import settings_of
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom, StartDarkroom
from tests.operations import (
    DELETE,
    DELETE_IMAGE,
    FINISHED,
    FOLLOW,
    GALLERY,
    SET_FAVOURITE,
    a_sample,
    conversation_with,
    samples,
    send,
    start,
    until_finished,
)
from tests.storage.places import keys_in, new_bucket
from tests.uploads import uploaded
from tests.waits import eventually

CONVERSATIONS = "{ viewer { conversations(first: 100) { nodes { id } } } }"
CLEARED_SECONDS = 60.0
PAUSE_SECONDS = 0.5
"""To look at everything takes the processor as long as all else here does."""


@pytest.fixture
async def in_folder(start_darkroom: StartDarkroom) -> Darkroom:
    return await start_darkroom()


@pytest.fixture
async def in_ministack(start_darkroom: StartDarkroom, ministack_bucket: Bucket) -> Darkroom:
    return await _in_bucket(start_darkroom, ministack_bucket)


@pytest.fixture
async def in_ceph(start_darkroom: StartDarkroom, ceph_bucket: Bucket) -> Darkroom:
    return await _in_bucket(start_darkroom, ceph_bucket)


async def _in_bucket(start_darkroom: StartDarkroom, server: Bucket) -> Darkroom:
    return await start_darkroom(**settings_of(await new_bucket(server)))


@pytest.fixture
def darkroom(request: pytest.FixtureRequest) -> Darkroom:
    return cast(Darkroom, request.getfixturevalue(request.param))


async def keys(darkroom: Darkroom) -> set[str]:
    """Of everything in the store but marks."""
    bucket = bucket_of(darkroom.settings)
    if bucket is not None:
        found = set(await keys_in(bucket))
    else:
        folder = darkroom.settings.data_dir / "objects"
        found = {path.relative_to(folder).as_posix() for path in folder.glob("*/*/*")}
    return {key for key in found if not key.startswith("owners/")}


async def gallery(client: GraphQLClient) -> list[Data]:
    nodes: list[Data] = (await client(GALLERY, first=100))["viewer"]["images"]["nodes"]
    return nodes


async def make_everything(client: GraphQLClient) -> None:
    """Pictures in every way, with previews, favourites, and conversations that use one another's.

    A preview shows that an output is still running when this returns.
    """
    sample = await a_sample(client)
    first = await conversation_with(
        client,
        sourceImageId=sample["id"],
        selectedModels=["local-silver", "local-ink", "rehearsal-fails-once"],
        options={"width": 272, "height": 272, "previews": 3},  # just wide enough for a thumbnail
    )
    *made, failed = first["turn"]["outputs"]
    assert [output["status"] for output in made] == ["COMPLETED"] * 2
    retried = await until_finished(client, (await retry(client, failed))["turn"])
    images = [image["id"] for output in retried["outputs"] for image in output["images"]]
    second = await conversation_with(client, sourceImageId=images[0], manualReferenceIds=images[1:])
    [theirs] = second["turn"]["outputs"][0]["images"]
    sent = await send(client, first["conversation"]["id"], manualReferenceIds=[theirs["id"]])
    await until_finished(client, sent["turn"])
    for image_id in (images[1], theirs["id"]):
        await client(SET_FAVOURITE, id=image_id, favourite=True)
    brought = await uploaded(client)
    await conversation_with(client, sourceImageId=brought["id"])
    await client(SET_FAVOURITE, id=(await uploaded(client))["id"], favourite=True)
    running = await start(client, selectedModels=["rehearsal-slow"], options={"previews": 3})
    async with client.subscribe(FOLLOW, id=running["conversation"]["id"]) as updates:
        await updates.until(
            lambda data: (
                data["turnUpdated"]["turn"]["outputs"][0]["preview"]
                or data["turnUpdated"]["turn"]["status"] in FINISHED
            )
        )


async def delete_everything(client: GraphQLClient) -> None:
    """As an app would, with nothing but the API."""
    for conversation in (await client(CONVERSATIONS))["viewer"]["conversations"]["nodes"]:
        payload = (await client(DELETE, id=conversation["id"]))["deleteConversation"]
        assert payload["userErrors"] == []
    for image in await gallery(client):
        payload = (await client(DELETE_IMAGE, id=image["id"]))["deleteImage"]
        assert payload["userErrors"] == []


# Deleting a viewer is tried on Ceph too. test_object_stores.py tries what differs between servers.
@pytest.mark.parametrize("darkroom", ["in_folder", "in_ministack"], indirect=True)
async def test_deleting_everything_leaves_no_records_and_no_objects(darkroom: Darkroom) -> None:
    other = darkroom.client("bea")
    await samples(other)
    await conversation_with(other)
    others = await keys(darkroom)
    client = darkroom.client("ana")
    await make_everything(client)
    assert len(await keys(darkroom) - others) > 20

    await delete_everything(client)

    async def cleared() -> bool:
        # A running worker notices at its next write, and deletes what it has stored meanwhile.
        return await keys(darkroom) == others

    try:
        await eventually(
            cleared, within=CLEARED_SECONDS, what="nothing is left", every=PAUSE_SECONDS
        )
    except AssertionError:
        assert await keys(darkroom) - others == set()
    assert await keys(darkroom) == others
    assert await gallery(client) == []
