"""Withdrawn models in MongoDB."""

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from domain.ids import ModelId
from storage.mongo.database import Database
from storage.mongo.model_availability import MongoModelAvailabilityRepository
from tests.resilience.clocks import APART_SECONDS, need_wrong_clocks, off_by
from tests.waits import START_SECONDS

ROOT = Path(__file__).parent.parent.parent
WITHDRAW = """
import asyncio, sys
from storage.mongo.database import open_database
from storage.mongo.model_availability import MongoModelAvailabilityRepository

async def main():
    async with open_database(*sys.argv[1:]) as database:
        stored = MongoModelAvailabilityRepository(database)
        await stored.withdraw("one", "fal")
        await stored.switch_off("gemini", reason="$reason")

asyncio.run(main())
"""


async def test_a_model_that_is_withdrawn_again_is_withdrawn_since_the_first_time(
    database: Database,
) -> None:
    """Outputs that were planned in between were planned with another provider."""
    stored = MongoModelAvailabilityRepository(database)
    await stored.withdraw(ModelId("one"), "fal")
    first = (await stored.find_unavailable()).withdrawn

    await stored.withdraw(ModelId("one"), "fal")

    assert (await stored.find_unavailable()).withdrawn == first


async def test_the_clock_of_a_process_does_not_decide_since_when(
    database: Database, mongodb_uri: str
) -> None:
    """The time is compared with that at which an output was queued, which is the database's."""
    need_wrong_clocks()
    before = datetime.now(UTC)

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WITHDRAW, mongodb_uri, database.commands.name),
        cwd=ROOT,
        env={**os.environ, **off_by(APART_SECONDS)},
    )
    assert await asyncio.wait_for(process.wait(), START_SECONDS) == 0

    found = await MongoModelAvailabilityRepository(database).find_unavailable()
    assert [one.reason for one in found.off] == ["$reason"]
    times = [one.since for one in found.withdrawn] + [one.since for one in found.off]
    assert len(times) == 2
    assert all(abs(since - before) < timedelta(seconds=APART_SECONDS / 2) for since in times)
