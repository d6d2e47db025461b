"""The database of a Darkroom, opened for a command."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from runtime.lifecycle import database
from settings import Settings
from storage.mongo.database import Database, open_database


@asynccontextmanager
async def opened_database(settings: Settings) -> AsyncIterator[tuple[Settings, Database]]:
    """The database, and the settings with its URI: that of a mongod that is shared or started."""
    async with database(settings) as (complete, _):
        assert complete.mongodb_uri is not None
        uri = complete.mongodb_uri.get_secret_value()
        async with open_database(uri, complete.mongodb_database) as opened:
            yield complete, opened
