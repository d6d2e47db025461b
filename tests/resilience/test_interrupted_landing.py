"""A worker that is stopped during a delivery: whatever is committed keeps its bytes."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from domain.claims import Claim
from domain.images import ImageRecord
from domain.outputs import Report
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.database import Database
from tests.resilience.evidence import read_stored
from tests.resilience.local_runs import claim_local_output
from tests.waits import PATIENCE_SECONDS


class CommitOnItsWay(MongoClaimRepository):
    """The real claims. A commit once sent is carried out, whether or not its sender still waits."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.sent = asyncio.Event()
        self.arrives = asyncio.Event()
        self.committed: asyncio.Task[bool] | None = None

    async def land(
        self, claim: Claim, records: Sequence[ImageRecord], report: Report, *, landed: int = 0
    ) -> bool:
        landing, landed_images = super().land, tuple(records)

        async def commit() -> bool:
            self.sent.set()
            await self.arrives.wait()
            return await landing(claim, landed_images, report, landed=landed)

        self.committed = asyncio.create_task(commit())
        return await asyncio.shield(self.committed)


async def test_a_delivery_committed_after_its_worker_was_stopped_keeps_its_bytes(
    database: Database, tmp_path: Path
) -> None:
    claims = CommitOnItsWay(database)
    async with claim_local_output(database, claims, tmp_path) as claimed:
        run = asyncio.create_task(claimed.run())
        await asyncio.wait_for(claims.sent.wait(), PATIENCE_SECONDS)

        run.cancel()
        await asyncio.wait([run], timeout=PATIENCE_SECONDS)
        claims.arrives.set()
        assert claims.committed is not None
        landed = await asyncio.wait_for(claims.committed, PATIENCE_SECONDS)

    assert run.cancelled()
    if landed:
        stored = await read_stored(database.commands, tmp_path)
        assert {record["key"] for record in stored.images} <= stored.objects.keys()
