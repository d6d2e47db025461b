"""A limit for all processes together while they are killed: a provider never has more runs than
that.
"""

import asyncio
import os
from pathlib import Path
from random import Random
from typing import Final

import pytest

from tests.api.test_credits import account
from tests.operations import start, until_finished
from tests.resilience.processes import wait_until_answering
from tests.resilience.sites import Arrangement, open_site

MODEL: Final = "img-nano-banana"
JOB_SECONDS: Final = 1.0
AT_MOST: Final = 3
TURNS: Final = 10
KILLS: Final = max(3, int(os.environ.get("DARKROOM_TEST_KILLS") or 20) // 20)


@pytest.mark.timeout(300)
async def test_a_provider_never_has_more_runs_than_its_limit_while_processes_are_killed(
    tmp_path: Path,
) -> None:
    arrangement = Arrangement(
        apis=2,
        fal=True,
        seconds_per_job=JOB_SECONDS,
        settings={"DARKROOM_FAL_TOTAL_PLACES": str(AT_MOST)},
    )
    async with open_site(tmp_path, arrangement) as site:
        clients = [site.client(api, viewer) for api, viewer in zip(site.apis, "ab", strict=True)]
        for client in clients:
            await wait_until_answering(client)
        turns = [
            (client, (await start(client, selectedModels=[MODEL], options={}))["turn"])
            for client in clients
            for _ in range(TURNS // 2)
        ]
        random = Random(7)
        for _ in range(KILLS):
            await asyncio.sleep(random.uniform(0.2, 1.5))
            api = random.choice(site.apis)
            await api.kill()
            await api.start()

        ended = await asyncio.gather(*(until_finished(client, turn) for client, turn in turns))

        outcomes = [turn["outputs"][0]["status"] for turn in ended]
        assert outcomes.count("COMPLETED") >= TURNS - KILLS
        assert site.vendor is not None
        assert (
            _most_at_once([entry["received_at"] for entry in await site.vendor.bill()]) == AT_MOST
        )
        assert await site.documents["permits"].count_documents({}) == AT_MOST
        for client in clients:
            assert (await account(client))[1] == 0


def _most_at_once(begun: list[float]) -> int:
    """How many jobs the provider has had at the same time, each for as long as it takes."""
    return max(sum(one <= at < one + JOB_SECONDS for one in begun) for at in begun)
