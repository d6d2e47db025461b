"""A process that is killed while it deletes a viewer: the next process completes the deletion."""

import asyncio
import random
from contextlib import suppress
from pathlib import Path

import httpx2

from storage.mongo.accounts import MongoAccountRepository
from tests.api.test_deleting_viewer import delete_viewer, documents_with, viewer_of
from tests.clients import GraphQLClient
from tests.operations import SMALL, conversation_with, samples
from tests.resilience.processes import wait_until_answering
from tests.resilience.scale import KILLS, SEED
from tests.resilience.sites import open_site
from tests.uploads import a_picture, sent, uploaded
from tests.waits import eventually

ROUNDS = max(2, KILLS // 10)
LONGEST_SECONDS = 0.6
"""Longer than the deletion takes: some kills come after it."""
TAKEN_OVER_SECONDS = 60.0
"""A lease of 15 seconds, a look every 12.5 seconds or sooner, and a slow machine."""


async def test_a_deletion_is_finished_after_its_process_is_killed(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    async with open_site(tmp_path) as site:
        (api,) = site.apis
        bea = site.client(api, "bea")
        await wait_until_answering(bea)
        await samples(bea)
        others = _files(tmp_path)
        for number in range(ROUNDS):
            client = site.client(api, f"ana {number}")
            await _make(client)
            own = (await viewer_of(client))["id"]
            deleting = asyncio.create_task(_try(client, own))
            await asyncio.sleep(chance.uniform(0, LONGEST_SECONDS))
            await api.kill()
            await deleting
            await api.start()
            # By now, the database has done all that the killed process asked for.
            account = await site.database.accounts.find_one({"_id": own})
            if account is not None and "erasure" not in account:
                # Killed before it had begun: nothing is gone.
                assert len((await viewer_of(client))["conversations"]["nodes"]) == 3
                await delete_viewer(client, own)

            async def is_gone(own: str = own) -> bool:
                return await documents_with(site.database, own) == []

            await eventually(
                is_gone, within=TAKEN_OVER_SECONDS, what="all documents are gone", every=0.5
            )
            assert _files(tmp_path) == others, f"seed {SEED}: {sorted(_files(tmp_path) ^ others)}"
            assert (await MongoAccountRepository(site.database).prove()).discrepancies == ()


async def _make(client: GraphQLClient) -> None:
    await wait_until_answering(client)
    first = await conversation_with(client, selectedModels=["local-silver", "local-ink"])
    [image] = first["turn"]["outputs"][0]["images"]
    await conversation_with(client, sourceImageId=image["id"])
    await conversation_with(client, selectedModels=["rehearsal-fails"], options=SMALL)
    await uploaded(client)
    await sent(client, a_picture())


async def _try(client: GraphQLClient, viewer_id: str) -> None:
    with suppress(httpx2.HTTPError):
        await delete_viewer(client, viewer_id)


def _files(data_dir: Path) -> set[str]:
    folder = data_dir / "objects"
    found = {path.relative_to(folder).as_posix() for path in folder.glob("*/*/*")}
    return {key for key in found if not key.startswith("owners/")}
