"""A Darkroom on its own replica set: two or more API processes, which run outputs themselves."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from pymongo import AsyncMongoClient

from storage.mongo.database import Database, open_database
from tests.clients import Data
from tests.resilience.processes import DATABASE, Documents
from tests.resilience.replica_set import ReplicaSet, open_replica_set
from tests.resilience.sites import Arrangement, BareSite


class ReplicatedSite(BareSite):
    def __init__(
        self,
        data_dir: Path,
        replica_set: ReplicaSet,
        *,
        apis: int,
        documents: Documents,
        database: Database,
    ) -> None:
        super().__init__(
            data_dir,
            Arrangement(apis=apis),
            mongodb_uri=replica_set.uri,
            documents=documents,
            database=database,
        )
        self.replica_set = replica_set

    async def repair(self) -> None:
        """Restart what an earlier test has left stopped or frozen."""
        await self.replica_set.repair()
        await self.start()


@asynccontextmanager
async def open_replicated_site(
    data_dir: Path, *, binary: Path, apis: int
) -> AsyncIterator[ReplicatedSite]:
    """Start everything, and end it however the block ends."""
    async with AsyncExitStack() as stack:
        replica_set = await stack.enter_async_context(open_replica_set(data_dir, binary=binary))
        client: AsyncMongoClient[Data] = AsyncMongoClient(
            replica_set.uri, tz_aware=True, serverSelectionTimeoutMS=10_000, timeoutMS=20_000
        )
        stack.push_async_callback(client.close)
        database = await stack.enter_async_context(open_database(replica_set.uri, DATABASE))
        site = ReplicatedSite(
            data_dir, replica_set, apis=apis, documents=client[DATABASE], database=database
        )
        stack.push_async_callback(site.close)
        await site.start()
        yield site
