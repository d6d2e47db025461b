"""Checks the accounts again and again during failures, with production's own check."""

import asyncio
from time import time
from typing import Final

from pymongo.errors import PyMongoError

from domain.errors import Overloaded
from storage.mongo.accounts import MongoAccountRepository
from storage.mongo.database import Database
from tests.resilience.evidence import Snapshot
from tests.resilience.scale import THOROUGH

EVERY_SECONDS: Final = 0.2 if THOROUGH else 0.5
_LOOK_SECONDS: Final = 10.0


class AccountAuditor:
    def __init__(self, database: Database) -> None:
        self.snapshots: list[Snapshot] = []
        self._database = database
        self._accounts = MongoAccountRepository(database)

    async def look(self) -> None:
        """Until cancelled; while the database is unavailable there are no snapshots."""
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._look_once()
            except (Overloaded, PyMongoError, TimeoutError):
                pass
            await asyncio.sleep(EVERY_SECONDS)

    async def _look_once(self) -> None:
        at = time()
        proof = await self._accounts.prove()
        busiest = await self._database.accounts.find_one(sort=[("activeOutputs", -1)])
        self.snapshots.append(Snapshot(at, proof, busiest["activeOutputs"] if busiest else 0))
