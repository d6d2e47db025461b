"""Periodic jobs, each done by one process at a time."""

from datetime import UTC, datetime, timedelta
from typing import Final

from domain.ports.cleanup import PeriodicJob
from storage.mongo.database import Database, repository
from storage.mongo.due import begin_if_due

_CLOCKS_DIFFER: Final = timedelta(minutes=1)


@repository
class MongoPeriodicJobRepository:
    """See `domain.ports.cleanup.PeriodicJobRepository`."""

    def __init__(self, database: Database) -> None:
        self._jobs = database.periodic_jobs
        self._database = database

    async def begin(self, name: str, *, every: timedelta) -> PeriodicJob | None:
        found = await begin_if_due(self._jobs, name, every=every)
        return PeriodicJob(found["times"], found["begunAt"]) if found else None


def surely_expired() -> datetime:
    """A time that has passed by the clock of every process."""
    return datetime.now(UTC) - _CLOCKS_DIFFER
