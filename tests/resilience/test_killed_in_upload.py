"""A process that is killed while it processes uploads: nothing is lost or duplicated, and no
sandbox survives it.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import httpx2

from tests.clients import Data, GraphQLClient
from tests.operations import GALLERY
from tests.resilience.checks.images import against_bytes, against_samples
from tests.resilience.evidence import read_stored
from tests.resilience.processes import wait_until_answering
from tests.resilience.scale import KILLS, SEED
from tests.resilience.sites import open_site
from tests.uploads import a_picture, complete, sent
from tests.waits import eventually

UPLOADS = 6
DEVELOPED_SECONDS = 2.0
"""Roughly as long as all of them take, two at once."""
GONE_SECONDS = 10.0
ROUNDS = max(2, KILLS // 10)


async def test_an_upload_is_completed_after_its_process_is_killed(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    completed: list[Data] = []
    async with open_site(tmp_path) as site:
        (api,) = site.apis
        client = site.client(api)
        await wait_until_answering(client)
        for _ in range(ROUNDS):
            uploads = [await sent(client, a_picture((1200, 800))) for _ in range(UPLOADS)]
            completing = [asyncio.create_task(_tried(client, upload["id"])) for upload in uploads]
            await asyncio.sleep(chance.uniform(0, DEVELOPED_SECONDS))
            children = _children_of(api.pid)
            await api.kill()
            acknowledged = [image for image in await asyncio.gather(*completing) if image]

            async def they_are_gone(children: Sequence[Path] = children) -> bool:
                return not any(map(_status, children))

            await eventually(they_are_gone, within=GONE_SECONDS, what="its children end as well")
            await api.start()

            images = [await complete(client, upload["id"]) for upload in uploads]

            # The responses after the kill equal those before it.
            assert {image["id"] for image in acknowledged} <= {image["id"] for image in images}
            completed += images

        seen = await _uploaded(client)
        stored = await read_stored(site.documents, tmp_path)

    assert sorted(seen) == sorted({image["id"] for image in completed})
    assert len(completed) == len(seen) == ROUNDS * UPLOADS, f"seed {SEED}"
    assert list(against_bytes(stored)) == []
    assert list(against_samples(stored)) == []


async def _tried(client: GraphQLClient, upload_id: str) -> Data | None:
    with suppress(httpx2.HTTPError):
        return await complete(client, upload_id)
    return None


async def _uploaded(client: GraphQLClient) -> list[str]:
    """The ids of all uploaded images in the gallery."""
    seen: list[str] = []
    after, more = None, True
    while more:
        page = (await client(GALLERY, first=100, after=after, origin="UPLOAD"))["viewer"]["images"]
        seen += [image["id"] for image in page["nodes"]]
        after, more = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
    return seen


def _children_of(pid: int | None) -> list[Path]:
    """On Linux; elsewhere none are found."""
    return [
        folder
        for folder in Path("/proc").glob("[0-9]*")
        if f"\nPPid:\t{pid}\n" in _status(folder) and "Zombie" not in _status(folder)
    ]


def _status(folder: Path) -> str:
    try:
        return (folder / "status").read_text()
    except OSError:
        return ""  # it is gone
