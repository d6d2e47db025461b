"""A process that is killed while a provider runs its job: its next start resumes the same job.

Storms do this to fal all the time; here are the other providers that have jobs.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.api.test_credits import STARTING, account
from tests.clients import Data
from tests.operations import start, until_finished
from tests.resilience.processes import Vendor, wait_until_answering
from tests.resilience.sites import Arrangement, Site, open_site
from tests.waits import eventually

MODELS = {"replicate": "img-flux-schnell", "wavespeed": "img-imagen3"}
JOB_SECONDS = 12.0
TAKEN_SECONDS = 20.0


@pytest.fixture
async def vendors(tmp_path: Path) -> AsyncIterator[Mapping[str, Vendor]]:
    vendors = {
        name: Vendor(name, data_dir=tmp_path, seconds_per_job=JOB_SECONDS) for name in MODELS
    }
    async with AsyncExitStack() as stack:
        for vendor in vendors.values():
            stack.push_async_callback(vendor.kill)
            await vendor.start()
        yield vendors


async def test_jobs_of_a_killed_process_are_resumed_at_its_next_start_and_none_is_paid_twice(
    tmp_path: Path, vendors: Mapping[str, Vendor]
) -> None:
    settings = {
        name: value for vendor in vendors.values() for name, value in vendor.settings.items()
    }
    arrangement = Arrangement(
        apis=1, api_module="tests.resilience.serve_without_retirements", settings=settings
    )
    async with open_site(tmp_path, arrangement) as site:
        (api,) = site.apis
        client = site.client(api)
        await wait_until_answering(client)
        turns = {
            name: (await start(client, selectedModels=[model], options={}))["turn"]
            for name, model in MODELS.items()
        }
        for turn in turns.values():
            await _until_its_job_is_stored(site, turn)
        before = {name: await vendor.bill() for name, vendor in vendors.items()}

        await api.kill()
        await api.start()

        ended = await asyncio.gather(*(until_finished(client, turn) for turn in turns.values()))
        for turn, name in zip(ended, MODELS, strict=True):
            (output,) = turn["outputs"]
            assert (output["status"], output["attempt"]) == ("COMPLETED", 1), name
            assert len(output["images"]) == 1
            assert [entry["outcome"] for entry in before[name]] == [None], "it was over too soon"
            (paid,) = await vendors[name].bill()
            assert paid["request_id"] == before[name][0]["request_id"]
            assert paid["delivered"]
        assert await account(client) == (STARTING - 2 * len(MODELS), 0, 0)


async def _until_its_job_is_stored(site: Site, turn: Data) -> None:
    async def is_stored() -> bool:
        found = await site.documents["turns"].find_one({"_id": turn["id"]})
        assert found is not None
        return any(run.get("job") for run in found["outputs"][0].get("runs") or [])

    await eventually(is_stored, within=TAKEN_SECONDS, what="the provider's job is stored")
